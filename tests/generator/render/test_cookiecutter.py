"""Every file of a layer renders to the same bytes as with cookiecutter itself."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from binaryornot.check import is_binary
from cookiecutter.environment import StrictEnvironment
from cookiecutter.generate import generate_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2 import FileSystemLoader
from support.sampled import examples, sampled

from paccel.catalog.answers import resolve_answers
from paccel.catalog.catalog import DEFAULT_TEMPLATE, PARTIALS_DIR, bundled_names, load_template
from paccel.catalog.questions import Answer
from paccel.catalog.template import Layer, Template
from paccel.errors import TemplateError
from paccel.files.tree import File, Tree, write_tree
from paccel.render.render import LayerRenderer
from paccel.sandbox.environment import make_environment

pytestmark = pytest.mark.slow

STATEMENTS = {"_jinja2_env_vars": {"line_statement_prefix": "# %", "trim_blocks": True, "lstrip_blocks": True}}


def answers_of(template: Template, **given: Answer) -> dict[str, Answer]:
    return resolve_answers(template, given, project_name="my-project")


def one_changed(template: Template) -> list[dict[str, Answer]]:
    """Other answers: one question at a time for the default template, all questions together for the others."""
    if template.name != DEFAULT_TEMPLATE:
        others = {q.name: q.choices[-1] if q.choices else not q.default for q in template.questions if q.kind != "text"}
        return [answers_of(template, **others)]
    found = []
    for question in template.questions:
        values: tuple[Answer, ...] = (True, False) if question.kind == "bool" else question.choices[1:]
        found += [answers_of(template, **{question.name: value}) for value in values]
    return found


def by_cookiecutter(layer: Layer, answers: Mapping[str, Answer], scratch: Path) -> dict[str, bytes]:
    """The layer rendered by cookiecutter's own environment and `generate_file`, which skips an empty name."""
    project, output = scratch / "layer" / "project", scratch / "output"
    write_tree(project, layer.project)
    write_tree(project.parent / PARTIALS_DIR, layer.partials)
    names = LayerRenderer(layer, answers).context.names
    options = layer.entries.get("_jinja2_env_vars", {})
    environment = StrictEnvironment(context={"cookiecutter": layer.entries}, keep_trailing_newline=True, **options)
    # paccel's one addition: the blank line after a line statement stays.
    environment.preprocess = make_environment(layer.entries, "x").preprocess
    with contextlib.chdir(project):
        environment.loader = FileSystemLoader([".", f"../{PARTIALS_DIR}"])
        for path in layer.project:
            target = environment.from_string(path).render(names)
            (output / target).parent.mkdir(parents=True, exist_ok=True)
            generate_file(str(output), path, names, environment)
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}


def by_paccel(layer: Layer, answers: Mapping[str, Answer]) -> dict[str, bytes]:
    return {rendered.target: rendered.file.content for rendered in LayerRenderer(layer, answers).files()}


def compare(template: Template, chosen: dict[str, Answer], scratch: Path) -> None:
    answers = template.values(chosen)
    for place, layer in enumerate(template.active_layers(answers)):
        assert by_paccel(layer, answers) == by_cookiecutter(layer, answers, scratch / str(place))


@pytest.mark.parametrize("name", bundled_names())
def test_every_file_of_the_defaults_is_what_cookiecutter_makes_of_it(name: str, tmp_path: Path) -> None:
    template = load_template(name)
    compare(template, answers_of(template), tmp_path)


@pytest.mark.parametrize("name", bundled_names())
def test_every_file_of_other_answers_is_what_cookiecutter_makes_of_it(name: str, tmp_path: Path) -> None:
    template = load_template(name)
    for number, chosen in enumerate(sampled(one_changed(template), 8)):
        compare(template, chosen, tmp_path / str(number))


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


@settings(examples(150), suppress_health_check=list(HealthCheck))
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


def test_every_template_has_the_extensions_of_cookiecutter() -> None:
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


@pytest.mark.parametrize("suffix", ["", ".txt", ".png", ".dat"])
def test_a_file_is_binary_where_it_is_to_cookiecutter(suffix: str, template: Any, tmp_path: Path) -> None:
    starts = [
        b"",
        b"BMI ",
        b"%PDF-1.4 ",
        b"MZ",
        b"GIF89a",
        b"ID3",
        b"PK",
        b"dex\n",
        b"\xef\xbb\xbf",
        b"\x1b[31m",
        b"\x04",
    ]
    middles = [b"", b"\xe9\xe8", "日本語".encode("shift-jis"), "é".encode(), b"\0", bytes(range(128)), b"\x7f"]
    contents = [start + b"{{ 1 }}" + middle for start in starts for middle in middles]
    folder = template({f"{number}{suffix}": content for number, content in enumerate(contents)})
    project = folder / "{{cookiecutter.project_name}}"
    for number, content in enumerate(contents):
        path = f"{number}{suffix}"
        layer = Layer("demo", {}, {path: File(content)}, {}, {}, load_template(str(folder)).metadata)
        try:
            copied = [rendered.file.content for rendered in LayerRenderer(layer, {}).files()] == [content]
        except TemplateError:
            copied = False  # it is not UTF-8, and cookiecutter fails as well
        assert copied == is_binary(str(project / path)), content
