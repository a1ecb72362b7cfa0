"""Keep what a release generates, so that later versions are tested on it.

    python tests/released/freeze.py    # once, when a version is released

`tests/released/<version>/<template>-<answers>/` is the state of a project (its `.paccel`), the whole tree included.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from paccel import __version__
from paccel.catalog.answers import resolve_answers
from paccel.catalog.catalog import bundled_names, load_template
from paccel.catalog.questions import Answer
from paccel.project.state import Manifest, state_bytes
from paccel.render.render import render

HERE = Path(__file__).parent


def freeze(target: Path, names: Iterable[str]) -> list[Path]:
    """Write the states of two projects of each template below `target`: the defaults, and every other answer.

    Raises:
        FileExistsError: `target` is there: a released version stays as it was.
    """
    target.mkdir()
    made: list[Path] = []
    for name in names:
        template = load_template(name)
        others: dict[str, Answer] = {
            question.name: question.choices[-1] if question.choices else not question.default
            for question in template.questions
            if question.kind != "text"
        }
        for label, given in (("default", {}), ("other", others)):
            answers = resolve_answers(template, given, project_name="my-project")
            tree = render(template, answers)
            state = target / f"{name}-{label}"
            state.mkdir()
            for path, content in state_bytes(Manifest.of(template.ref, answers, tree), tree).items():
                (state / Path(path).name).write_bytes(content)
            made.append(state)
    return made


def main() -> int:
    try:
        made = freeze(HERE / __version__, bundled_names())
    except FileExistsError as error:
        print(f"`{error.filename}` exists: a released version stays as it was", file=sys.stderr)
        return 3
    for state in made:
        print(state.relative_to(HERE))
    return 0


if __name__ == "__main__":
    sys.exit(main())
