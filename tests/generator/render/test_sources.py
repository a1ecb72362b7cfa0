"""What was rendered from the same origin is taken as it was; what is rendered is what cookiecutter would have made."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from cookiecutter.environment import StrictEnvironment
from cookiecutter.generate import generate_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2 import FileSystemLoader

from paccel.catalog.catalog import DEFAULT_TEMPLATE, PARTIALS_DIR, Layer, Template, bundled_names, load_template
from paccel.catalog.jinja import make_environment
from paccel.catalog.questions import Answer, resolve_answers
from paccel.files.tree import File, Tree, write_tree
from paccel.project.state import Manifest, state_bytes
from paccel.render import render as engine
from paccel.render.formatter import Formatter
from paccel.render.render import render
from paccel.render.sources import RENDERING, Sources

Make = Callable[..., Path]
STATEMENTS = {"_jinja2_env_vars": {"line_statement_prefix": "# %", "trim_blocks": True, "lstrip_blocks": True}}
BLACK = "[tool.black]\nline-length = {{ cookiecutter.width }}\n"


def answers_of(template: Template, **given: Answer) -> dict[str, Answer]:
    return resolve_answers(template, given, project_name="my-project")


def one_changed(template: Template) -> list[dict[str, Answer]]:
    """The defaults, then each question answered otherwise: one at a time for the default template, else all at once."""
    found = [answers_of(template)]
    if template.name != DEFAULT_TEMPLATE:
        others = {q.name: q.choices[-1] if q.choices else not q.default for q in template.questions if q.kind != "text"}
        return [*found, answers_of(template, **others)]
    for question in template.questions:
        values: tuple[Answer, ...] = (True, False) if question.kind == "bool" else question.choices[1:]
        found += [answers_of(template, **{question.name: value}) for value in values]
    return found


@pytest.fixture
def engine_log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that went through the engine."""
    log: list[str] = []
    generate = engine._generate

    def noted(sources: Any, source: Any) -> bytes:
        log.append(source.path)
        return generate(sources, source)

    monkeypatch.setattr(engine, "_generate", noted)
    return log


@pytest.mark.parametrize("name", bundled_names())
def test_a_render_that_takes_from_an_earlier_one_equals_one_from_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Formatter, "format", lambda self, content, path: content)  # it takes most of the time
    template = load_template(name)
    answers = one_changed(template)
    before = render(template, answers[0])
    for changed in answers:
        fresh = render(template, changed)
        reused = render(template, changed, before)
        assert reused == fresh
        assert [file.origin for file in reused.values()] == [file.origin for file in fresh.values()]


def test_only_what_can_have_changed_is_rendered(template: Make, engine_log: list[str]) -> None:
    files = {
        "name.txt": "{{ cookiecutter.project_name }}",
        "ema.txt": "{{ cookiecutter.ema }}",
        "all.txt": "{{ cookiecutter }}",
        "some.txt": "{{ cookiecutter['ema'] }}",
        "maybe.txt": "{{ cookiecutter.later is defined }}",
        "part.txt": "{%- include 'p.txt' %}",
        "chosen.txt": "{% include cookiecutter.which %}",
        "other.txt": "{% include 'o.txt' %}",
        "plain.txt": "no marks",
    }
    partials = {"templates/p.txt": "{% include 'q.txt' %}", "templates/q.txt": "{{ cookiecutter.ema }}"}
    folder = template(
        files, {"ema": False, "which": "o.txt"}, extra={**partials, "templates/o.txt": "{{ cookiecutter.which }}"}
    )
    first = load_template(str(folder))
    before = render(first, answers_of(first))
    engine_log.clear()
    assert render(first, answers_of(first), before) == before
    assert engine_log == []
    after = render(first, answers_of(first, ema=True), before)
    assert engine_log == ["all.txt", "chosen.txt", "ema.txt", "maybe.txt", "part.txt", "some.txt"]
    engine_log.clear()
    (folder / "templates" / "q.txt").write_text("another partial")
    (folder / "{{cookiecutter.project_name}}" / "plain.txt").write_text("other words")
    second = load_template(str(folder))
    tree = render(second, answers_of(second, ema=True), after)
    assert engine_log == ["chosen.txt", "part.txt"]
    assert (tree["part.txt"].content, tree["plain.txt"].content) == (b"another partial", b"other words")


def test_other_formatting_is_another_origin(template: Make) -> None:
    line = "value = function(argument_one, argument_two, argument_three)\n"
    folder = template({"pyproject.toml": BLACK, "a.py": line}, {"width": "100"})
    found = load_template(str(folder))
    before = render(found, answers_of(found))
    assert before["a.py"].content.decode() == line
    narrow = render(found, answers_of(found, width="40"), before)
    assert narrow == render(found, answers_of(found, width="40"))
    assert narrow["a.py"] != before["a.py"]


def test_another_setting_of_the_layer_is_another_origin(template: Make) -> None:
    found = [
        load_template(str(template({"a.txt": "{% if true %}\nx\n{% endif %}\n"}, {"_jinja2_env_vars": options})))
        for options in ({}, {"trim_blocks": True})
    ]
    before = render(found[0], answers_of(found[0]))
    assert before["a.txt"].content == b"\nx\n\n"
    assert render(found[1], answers_of(found[1]), before)["a.txt"].content == b"x\n"


def test_another_mode_is_another_origin(template: Make) -> None:
    folder = template({"tool": "x\n"})
    first = load_template(str(folder))
    before = render(first, answers_of(first))
    (folder / "{{cookiecutter.project_name}}" / "tool").chmod(0o755)
    second = load_template(str(folder))
    assert render(second, answers_of(second), before)["tool"].executable


def test_a_baseline_keeps_the_origins_and_a_file_without_one_is_rendered(template: Make, engine_log: list[str]) -> None:
    folder = template({"a.txt": "{{ cookiecutter.project_name }}"})
    found = load_template(str(folder))
    tree = render(found, answers_of(found))
    from paccel.files.archive import read_zip

    state = state_bytes(Manifest.of(found.ref, answers_of(found), tree), tree)
    read = read_zip(state[".paccel/baseline.zip"], "x")
    assert read["a.txt"].origin == tree["a.txt"].origin != ""
    stale = {"a.txt": File(b"of an older paccel")}
    engine_log.clear()
    assert render(found, answers_of(found), stale) == tree
    assert engine_log == ["a.txt"]


def test_the_rendering_that_origins_name_is_the_one_that_is_pinned() -> None:
    """Another year's black writes other bytes: whoever lets it in has to change `RENDERING` too."""
    import tomllib

    settings = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    (black,) = (text for text in settings["project"]["dependencies"] if text.startswith("black"))
    assert black == "black>=26.1,<27"
    assert "black 26" in RENDERING


# --- cookiecutter itself as the oracle -----------------------------------------------------------------------------


def by_cookiecutter(layer: Layer, answers: Mapping[str, Answer], scratch: Path) -> dict[str, bytes]:
    """The layer through cookiecutter's own environment and `generate_file`, which passes over an empty name."""
    project, output = scratch / "layer" / "project", scratch / "output"
    write_tree(project, layer.project)
    write_tree(project.parent / PARTIALS_DIR, layer.partials)
    values = Sources(layer, answers).values
    options = layer.settings.get("_jinja2_env_vars", {})
    environment = StrictEnvironment(context={"cookiecutter": layer.settings}, keep_trailing_newline=True, **options)
    # paccel's one addition: the blank line behind a line statement stays.
    environment.preprocess = make_environment(layer.settings, "x").preprocess
    with contextlib.chdir(project):
        environment.loader = FileSystemLoader([".", f"../{PARTIALS_DIR}"])
        for path in layer.project:
            target = environment.from_string(path).render(cookiecutter=values)
            (output / target).parent.mkdir(parents=True, exist_ok=True)
            generate_file(str(output), path, {"cookiecutter": values}, environment)
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}


def by_paccel(layer: Layer, answers: Mapping[str, Answer]) -> dict[str, bytes]:
    sources = Sources(layer, answers)
    return {source.target: engine._render_file(sources, source).content for source in sources.read()}


@pytest.mark.parametrize("name", bundled_names())
def test_every_file_is_what_cookiecutter_makes_of_it(name: str, tmp_path: Path) -> None:
    template = load_template(name)
    for number, chosen in enumerate(one_changed(template)):
        answers = {**template.metadata.fixed, **chosen}
        for place, layer in enumerate(template.active_layers(answers)):
            scratch = tmp_path / f"{number}-{place}"
            assert by_paccel(layer, answers) == by_cookiecutter(layer, answers, scratch)


PIECES = [
    "{{ cookiecutter.project_name }}",
    "{% if cookiecutter.ema %}",
    "{% else %}",
    "{% endif %}",
    "{# a remark #}",
    "# % if not cookiecutter.ema\n",
    "# % endif\n",
    "{% include 'p.txt' %}",
    "{{ cookiecutter.project_name | slugify | upper }}",
    "{{ cookiecutter | jsonify }}",
    "{% raw %}{{ x }}{% endraw %}",
    "plain ",
    "é✓\n",
    "\n",
    "\r\n",
    "\t# %\n",
    "${{ github }}",
]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.sampled_from([{}, STATEMENTS]), st.booleans())
def test_any_text_is_what_cookiecutter_makes_of_it(
    tmp_path_factory: pytest.TempPathFactory, text: str, options: Mapping[str, Any], ema: bool
) -> None:
    from paccel.catalog.metadata import parse_metadata

    partial: Tree = {"p.txt": File(b"[{{ cookiecutter.project_name }}]\r\n")}
    layer = Layer("demo", dict(options), {"a.txt": File(text.encode())}, partial, {}, parse_metadata("", "x"))
    answers: dict[str, Answer] = {"project_name": "My Project", "ema": ema}
    try:
        theirs: dict[str, bytes] | None = by_cookiecutter(layer, answers, tmp_path_factory.mktemp("oracle"))
    except Exception:
        theirs = None
    try:
        ours: dict[str, bytes] | None = by_paccel(layer, answers)
    except Exception:
        ours = None
    assert ours == theirs


def test_what_cookiecutter_gives_to_every_template_is_there_when_it_is_used() -> None:
    environment = make_environment({}, "demo")

    def text(source: str) -> str:
        return environment.from_string(source).render()

    assert text("{{ 'Ä b' | slugify(separator='_') }}") == "a_b"
    assert text("{{ {'b': 1, 'a': 2} | jsonify(2) }}") == '{\n  "a": 2,\n  "b": 1\n}'
    assert len(text("{{ uuid4() }}")) == 36
    assert len(text("{{ random_ascii_string(7) }}{{ random_ascii_string(3, punctuation=true) }}")) == 10
    assert text("{% now 'utc', '%Y' %}").isdigit()
    theirs = StrictEnvironment(context={})
    assert environment.filters.keys() == theirs.filters.keys()
    assert environment.globals.keys() == theirs.globals.keys()
