"""The packages that a rendered project needs: the project cannot have the name of one of them."""

import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution, requires

from ..catalog.questions import PROJECT_NAME, Answer
from ..catalog.template import Template
from ..errors import UsageError
from ..files.tree import PROJECT_FILE, Tree


def refuse_own_requirement(template: Template, answers: Mapping[str, Answer], tree: Tree) -> None:
    """Raise UsageError if the user gave a new project the name of a package that it needs."""
    name = answers.get(PROJECT_NAME)
    is_package = any(question.is_folder for question in template.questions)
    if not is_package or not isinstance(name, str) or PROJECT_FILE not in tree:
        return
    from packaging.utils import canonicalize_name

    plain = canonicalize_name(name)
    try:
        distribution(plain)
        installed = True
    except PackageNotFoundError:
        installed = False
    # Following requirements of requirements takes as long as a render, and can only find installed packages.
    if plain in _needed(tree, plain, deep=installed):
        raise UsageError(f"`{name}` is the name of a package that the project needs; did you mean `my-{name}`?")


def _needed(tree: Tree, project: str, deep: bool) -> set[str]:
    """Return the packages that `project` needs: its own requirements and paccel's, or, if `deep`, those of all of them."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    def read(texts: Iterable[str]) -> list[Requirement]:
        found = []
        for text in texts:
            try:
                found.append(Requirement(text))
            except InvalidRequirement:
                continue  # pip will report it
        return found

    try:
        table = tomllib.loads(tree[PROJECT_FILE].content.decode())["project"]
        optional = [text for texts in table.get("optional-dependencies", {}).values() for text in texts]
        left = [
            *read(table.get("dependencies", [])),
            # An extra may require other extras of the project itself.
            *(extra for extra in read(optional) if canonicalize_name(extra.name) != project or not extra.extras),
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return set()
    seen: set[tuple[str, frozenset[str]]] = set()
    while left:
        requirement = left.pop()
        key = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if key in seen:
            continue
        seen.add(key)
        if not deep and key[0] != "paccel":
            continue
        try:
            further = read(requires(key[0]) or [])
        except PackageNotFoundError:
            continue
        extras = ["", *requirement.extras]
        left += [one for one in further if not one.marker or any(one.marker.evaluate({"extra": e}) for e in extras)]
    return {name for name, _ in seen}
