"""`paccel check-template`: each rule finds its mistake, finds nothing in the corrected template, and can be silenced."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.sampled import over_three_days

from paccel.catalog.catalog import bundled_names, load_template
from paccel.files.tree import File
from paccel.lint import renders
from paccel.lint.check import check_template
from paccel.lint.finding import RULES, Finding
from paccel.lint.history import check_history, meanings_in
from paccel.lint.sources import read_sources

LINES = {"_jinja2_env_vars": {"line_statement_prefix": "# %", "trim_blocks": True, "lstrip_blocks": True}}
NAME = "{{ cookiecutter.project_name }}"
PROJECT = "{{cookiecutter.project_name}}"


class Mistake(NamedTuple):
    """A template with one mistake, and the corrected template."""

    rule: str
    wrong: Mapping[str, str]
    right: Mapping[str, str]
    questions: Mapping[str, Any] = {}
    place: str = f"{PROJECT}/a.txt:1"
    says: str = ""


A = "{{ cookiecutter.project_name }}\n"

MISTAKES = [
    Mistake("jinja-syntax", {"a.txt": "\n{% if %}"}, {"a.txt": "{% if true %}{% endif %}"}, place=f"{PROJECT}/a.txt:2"),
    Mistake(
        "undefined-name",
        {"a.txt": "{% if cookiecutter.project_name == 'x' %}\n{{ cookiecutter.projct_name }}{% endif %}"},
        {"a.txt": "{{ cookiecutter.projct_name | default('x') }}{% if cookiecutter.y is defined %}{% endif %}"},
        place=f"{PROJECT}/a.txt:2",
        says="did you mean `project_name`",
    ),
    Mistake(
        "undefined-name",
        {"a.txt": "{% if cookiecutter.kind == 'a' %}{{ kind }}{% endif %}"},
        {"a.txt": "{% if cookiecutter.kind == 'a' %}{% set kind = 1 %}{{ kind }}{% endif %}"},
        {"kind": ["b", "a"]},
        says="did you mean `cookiecutter.kind`",
    ),
    Mistake(
        "unused-question",
        {"a.txt": "x"},
        {"{% if cookiecutter.docker %}a.txt{% endif %}": "x"},
        {"docker": False},
        place="cookiecutter.json:1",
        says="`docker`",
    ),
    Mistake("not-jinja", {"a.txt": "{ { cookiecutter.project_name } }"}, {"a.txt": "{ { x } } {{ '{' }}"}),
    Mistake("not-jinja", {"a.txt": "x\n{ % if x %}"}, {"a.txt": "{ %d }"}, place=f"{PROJECT}/a.txt:2"),
    Mistake("not-jinja", {"a.txt": "{cookiecutter.project_name}"}, {"a.txt": "{% raw %}{cookiecutter.x}{% endraw %}"}),
    Mistake("not-jinja", {"a.txt": "#% if x\n"}, {"a.txt": "# % if true\n# % endif\n# 10 % if x\n"}, LINES),
    Mistake(
        "not-jinja",
        {".github/a.yml": "a: ${{ matrix.python }}\n"},
        {".github/a.yml": "a: {% raw %}${{ matrix.python }}{% endraw %}\n"},
        place=f"{PROJECT}/.github/a.yml:1",
        says="`${{ matrix.python }}` is an expression of GitHub Actions",
    ),
    Mistake(
        "not-jinja",
        {".github/a.yml": "a: 1\nb: ${{ github.x && 'a' }}\n"},
        {".github/a.yml": "{% raw %}b: ${{ github.x && 'a' }}{% endraw %}\n"},
        place=f"{PROJECT}/.github/a.yml:2",
    ),
    Mistake(
        "dead-branch",
        {"a.txt": "{% if cookiecutter.kind == 'c' %}x{% endif %}"},
        {"a.txt": "{% if cookiecutter.kind == 'a' %}x{% endif %}"},
        {"kind": ["b", "a"]},
    ),
    Mistake(
        "dead-branch",
        {
            "a.txt": "{% if cookiecutter.kind == 'a' %}\n{% if not cookiecutter.on and cookiecutter.kind == 'b' %}x{% endif %}{% endif %}"
        },
        {
            "a.txt": "{% if cookiecutter.kind == 'a' %}\n{% if not cookiecutter.on or cookiecutter.kind == 'b' %}x{% endif %}{% endif %}"
        },
        {"kind": ["b", "a"], "on": True},
        place=f"{PROJECT}/a.txt:2",
    ),
    Mistake(
        "dead-branch",
        {"a.txt": "{% if cookiecutter.kind == 'a' %}1{% elif cookiecutter.kind == 'b' %}2{% else %}3{% endif %}"},
        {"a.txt": "{% if cookiecutter.kind == 'a' %}1{% else %}3{% endif %}"},
        {"kind": ["b", "a"]},
        says="the `else`",
    ),
    Mistake(
        "dead-branch",
        {"{% if cookiecutter.on %}a.txt{% endif %}": "{% if not cookiecutter.on %}x{% endif %}"},
        {"{% if cookiecutter.on %}a.txt{% endif %}": "{% if cookiecutter.project_name == 'x' %}x{% endif %}"},
        {"on": True},
        place=f"{PROJECT}/{{% if cookiecutter.on %}}a.txt{{% endif %}}:1",
    ),
    Mistake(
        "render-error",
        {"a.txt": "{% if cookiecutter.on %}\n{{ 1 // 0 }}{% endif %}"},
        {"a.txt": "{% if cookiecutter.on %}{{ 1 // 1 }}{% endif %}"},
        {"on": False},
        place=f"{PROJECT}/a.txt:2",
        says="with on=true",
    ),
    Mistake(
        "invalid-output",
        {"a.py": "{% if cookiecutter.on and cookiecutter.kind == 'a' %}def f(:{% endif %}"},
        {"a.py": "{% if cookiecutter.on and cookiecutter.kind == 'a' %}def f(): 0{% endif %}"},
        {"on": False, "kind": ["b", "a"]},
        place=f"{PROJECT}/a.py:1",
        says="with on=true, kind=a: line 1",
    ),
    Mistake("invalid-output", {"a.json": A + "{"}, {"a.json": '{"a": "' + NAME + '"}'}, place=f"{PROJECT}/a.json:1"),
    Mistake("invalid-output", {"a.toml": A + "="}, {"a.toml": "a = '" + NAME + "'"}, place=f"{PROJECT}/a.toml:1"),
    Mistake("invalid-output", {"a.yml": "a: [" + A}, {"a.yml": "a: !tag [" + NAME + "]"}, place=f"{PROJECT}/a.yml:1"),
    Mistake("drawn", {"a.txt": "\n{{ random_ascii_string(8) }}"}, {"a.txt": A}, place=f"{PROJECT}/a.txt:2"),
    Mistake(
        "drawn", {"a.txt": "{% now 'utc', '%Y' %}"}, {"a.txt": "{% raw %}now{% endraw %}"}, says="depends on the time"
    ),
    Mistake("drawn", {"a.txt": "{{ ['a', 'b'] | random }}"}, {"a.txt": "{{ ['a', 'b'] | first }}"}),
    Mistake(
        "not-black",
        {"a.py": "x = 'a'\n", ".pre-commit-config.yaml": "- repo: https://github.com/psf/black\n"},
        {"a.py": 'x = "a"\n', ".pre-commit-config.yaml": "- repo: https://github.com/psf/black\n"},
        place=f"{PROJECT}/a.py:1",
    ),
]


def found(folder: Path, **options: Any) -> list[Finding]:
    return [*check_template(str(folder), **options).findings]


@pytest.mark.parametrize("mistake", MISTAKES, ids=[f"{one.rule}-{number}" for number, one in enumerate(MISTAKES)])
def test_a_mistake_is_found_at_its_place_and_nothing_else(mistake: Mistake, template: Callable[..., Path]) -> None:
    used = {"used.txt": "".join(f"{{{{ cookiecutter.{name} }}}}" for name in mistake.questions if name[0] != "_")}
    extra = {} if mistake.rule == "unused-question" else used
    findings = found(template({**extra, **mistake.wrong}, mistake.questions))
    assert [(one.rule, f"{one.path}:{one.line}") for one in findings] == [(mistake.rule, mistake.place)]
    assert mistake.says in findings[0].text
    assert found(template({**extra, **mistake.right}, mistake.questions, name="right")) == []


@pytest.mark.parametrize(
    ("validator", "says"),
    [("{% if cookiecutter.pkg %}x{% endif %}", "`cookiecutter.pkg` is not defined"), ("[0-9]+", None)],
)
def test_a_validator_that_cannot_be_rendered_is_found_and_one_that_refuses_the_default_is_none(
    validator: str, says: str | None, template: Callable[..., Path]
) -> None:
    metadata = f"[questions.port]\nvalidator = '{validator}'\n"
    findings = found(template({"a.txt": "{{ cookiecutter.port }}"}, {"port": "to be given"}, metadata=metadata))
    assert [one.rule for one in findings] == ["render-error"] * (says is not None)
    assert all(says in one.text for one in findings if says)


@pytest.mark.parametrize(
    "name",
    ["minimal", *over_three_days(pytest.param(n, marks=pytest.mark.slow) for n in bundled_names() if n != "minimal")],
)
def test_the_bundled_templates_have_no_mistakes(name: str) -> None:
    assert check_template(name).findings == ()


def test_every_rule_is_explained_and_tested() -> None:
    tested = {mistake.rule for mistake in MISTAKES} | {rule for rule, *_ in SINCE}
    assert tested | {"unstable", "no-since"} == RULES.keys()


@pytest.mark.parametrize(
    ("kind", "rest"),
    [
        ("renamed_api", 'from = "a:old"\nto = "new"'),
        ("rewrites", 'rule = """\nid: a\nlanguage: python\nrule: {pattern: f()}\nfix: g()\n"""'),
        ("changed_meaning", 'name = "a:f"\ntext = "It is a mean."'),
    ],
)
def test_what_upgrades_apply_needs_the_version_that_made_it(
    kind: str, rest: str, template: Callable[..., Path]
) -> None:
    dated = f'[[{kind}]]\n{rest}\nsince = "1"\n'
    assert found(template({"a.txt": A}, metadata=dated, name="dated")) == []
    (finding,) = found(template({"a.txt": A}, metadata=f"{dated}\n[[{kind}]]\n{rest}\n"))
    assert (finding.rule, finding.path, finding.line) == ("no-since", "paccel.toml", dated.count("\n") + 2)
    assert f"`{kind}` has no `since`" in finding.text


def test_what_differs_in_two_renders_of_the_same_draws_is_found(
    template: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = template({"a.txt": A})
    addresses = iter(range(1000))
    real = renders.render_unformatted
    monkeypatch.setattr(
        renders,
        "render_unformatted",
        lambda *given: {
            path: file._replace(content=file.content + str(next(addresses)).encode())
            for path, file in real(*given).items()
        },
    )
    assert {(one.rule, one.path) for one in found(folder)} == {("unstable", f"{PROJECT}/a.txt")}


BASE = '''
"""Train."""

class Config:
    """Settings."""

    rate: float = 0.1  # per step
    limit: float = 5.0  # in seconds


def loss(x, scale=1.0, *, mean=False):
    """Return the sum over the batch."""
    return x * scale
'''
SINCE = [
    ("undeclared-move", {"a.py": BASE}, {"b.py": BASE}, "b.py"),
    (
        "changed-default",
        {"a.py": BASE},
        {"a.py": BASE.replace("rate: float = 0.1", "rate: float = 0.2")},
        "a.Config.rate",
    ),
    ("changed-default", {"a.py": BASE}, {"a.py": BASE.replace("mean=False", "mean=True")}, "a.loss.mean"),
    ("changed-unit", {"a.py": BASE}, {"a.py": BASE.replace("the sum over", "the mean over")}, "a.loss"),
    ("changed-unit", {"a.py": BASE}, {"a.py": BASE.replace("in seconds", "in minutes")}, "a.Config.limit"),
    ("removed-question", {"a.py": "#{{ cookiecutter.kind }}\n"}, {"a.py": "#\n"}, "kind"),
    ("removed-choice", {"a.py": "#{{ cookiecutter.size }}\n"}, {"a.py": "#{{ cookiecutter.size }}\n"}, "size"),
]


@pytest.mark.parametrize(("rule", "old", "new", "subject"), SINCE, ids=[f"{one[0]}-{one[3]}" for one in SINCE])
def test_a_change_that_is_not_declared_is_found(
    rule: str, old: dict[str, str], new: dict[str, str], subject: str, template: Callable[..., Path]
) -> None:
    before = {"removed-question": {"kind": "x"}, "removed-choice": {"size": ["s", "m"]}}.get(rule, {})
    after = {"removed-choice": {"size": ["m", "l"]}}.get(rule, {})
    was, now = template(old, before, name="old"), template(new, after)
    assert [(one.rule, one.subject) for one in found(now, since=str(was))] == [(rule, subject)]
    assert found(was, since=str(was)) == []
    if rule == "undeclared-move":
        (now / "paccel.toml").write_text('[[moved]]\nfrom = "a.py"\nto = "b.py"\n')
    elif rule == "removed-question":
        (now / "paccel.toml").write_text('[[dropped_answers]]\nname = "kind"\n')
    elif rule == "removed-choice":
        (now / "paccel.toml").write_text('[[renamed_answers]]\nfrom = "size"\nto = "size"\nvalues = { s = "m" }\n')
    else:
        (now / "paccel.toml").write_text(f"# paccel: ignore[{rule}] {subject}\n")
    assert found(now, since=str(was)) == []


def test_changes_of_meaning_are_read_whatever_else_a_table_has() -> None:
    text = '[[changed_meaning]]\nname = "train.loss"\nsentence = "a mean"\nsince = "2"\nmore = 1\n[[changed_meaning]]\nx = 1\n'
    assert meanings_in(text).keys() == {"train.loss"}
    assert meanings_in("changed_meaning = 1") == meanings_in("not toml [") == {}


def test_the_newest_tag_is_what_a_template_in_git_is_compared_with(
    template: Callable[..., Path], git: Callable[..., str]
) -> None:
    folder = template({"a.py": BASE})
    git(folder, "init", "-q")
    assert check_template(str(folder)).since == ""
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    assert check_template(str(folder)).since == ""
    git(folder, "tag", "v1")
    (folder / PROJECT / "a.py").rename(folder / PROJECT / "b.py")
    report = check_template(str(folder))
    assert (report.since, [one.rule for one in report.findings]) == ("v1", ["undeclared-move"])


@pytest.mark.parametrize(
    ("comment", "silent"),
    [
        ("{# paccel: ignore[undefined-name] #}", True),
        ("{# paccel: ignore[drawn, undefined-name] #}\n", True),
        ("{# paccel: ignore[drawn] #}\n", False),
        ("{# paccel: ignore[undefined-name] #}\n\n", False),
    ],
)
def test_a_comment_in_the_line_or_above_silences_its_rule(
    comment: str, silent: bool, template: Callable[..., Path]
) -> None:
    folder = template({"a.txt": f"{comment}{{{{ cookiecutter.nothing }}}}"})
    assert (found(folder) == []) is silent


def test_a_finding_says_how_to_silence_it(template: Callable[..., Path], paccel: Callable[..., Any]) -> None:
    folder = template({"a.txt": "x"}, {"unused": "x"})
    result = paccel("check-template", folder, "--json")
    (finding,) = result.data["findings"]
    assert (result.code, finding["rule"], finding["subject"]) == (1, "unused-question", "unused")
    comment = finding["silence"].split("`")[1]
    (folder / "paccel.toml").write_text(comment + "\n")
    result = paccel("check-template", folder)
    assert (result.code, result.out) == (0, "demo: no findings\n")


def test_the_report_names_place_rule_and_remedy(template: Callable[..., Path], paccel: Callable[..., Any]) -> None:
    folder = template({"a.txt": "{{ nothing }}"})
    result = paccel("check-template", folder)
    assert result.code == 1
    assert (
        f"{PROJECT}/a.txt:1: undefined-name: `nothing` is not defined\n    if it is intended: put `paccel:"
        in result.out
    )


@pytest.mark.parametrize("what", ["missing", "json", "none"])
def test_what_is_no_template_exits_with_4(what: str, tmp_path: Path, paccel: Callable[..., Any]) -> None:
    folder = tmp_path / "x"
    if what != "missing":
        folder.mkdir()
    if what == "json":
        (folder / "cookiecutter.json").write_text("{")
    result = paccel("check-template", folder)
    assert result.code == 4
    assert result.err.startswith("Error: ")
    assert paccel("check-template", folder, "--since", "v1").code == 4


def test_an_unknown_earlier_version_exits_with_4(template: Callable[..., Path], paccel: Callable[..., Any]) -> None:
    assert paccel("check-template", template({"a.txt": A}), "--since", "v9").code == 4


@pytest.mark.parametrize(
    ("name", "silent"), [("a.loss", True), ("loss.mean", True), ("a", True), ("mean", True), ("a.Config", False)]
)
def test_a_declared_change_of_meaning_is_no_finding(name: str, silent: bool, template: Callable[..., Path]) -> None:
    old = load_template(str(template({"a.py": BASE}, name="old")))
    folder = template({"a.py": BASE.replace("mean=False", "mean=True")})
    new = load_template(str(folder))
    text = f'[[changed_meaning]]\nname = "{name}"\nsentence = "It is a mean."\nsince = "2"\n'
    declared = new.layers[-1]._replace(head={**new.layers[-1].head, "paccel.toml": File(text.encode())})
    new = new._replace(layers=(declared,))
    found = [finding.rule for finding in check_history(read_sources(new, folder), old)]
    assert found == ([] if silent else ["changed-default"])
    known = old._replace(layers=(declared._replace(project=old.layers[-1].project),))  # declared for an earlier change
    assert [finding.rule for finding in check_history(read_sources(new, folder), known)] == ["changed-default"]
