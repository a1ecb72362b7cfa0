"""An untrusted template neither hangs nor fills the memory: it fails soon, with one error."""

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.sampled import sampled

from paccel.catalog.answers import resolve_answers
from paccel.catalog.catalog import load_template
from paccel.errors import TemplateError
from paccel.render.render import render
from paccel.sandbox.budget import TooMuch, check_format, check_operator, check_product, weight
from paccel.sandbox.environment import make_environment

pytestmark = pytest.mark.slow

LOOP = "{% for i in range(99999) %}"
LONG = "{% set s = 'x' * 9999999 %}"

BOMBS = {
    "nested loops": f"{LOOP}{LOOP}{LOOP}x{'{% endfor %}' * 3}",
    "silent loops": f"{LOOP}{LOOP}{LOOP}{'{% endfor %}' * 3}",
    "loops in a macro": f"{{% macro m() %}}{LOOP}{LOOP}text{'{% endfor %}' * 2}{{% endmacro %}}{{{{ m() }}}}",
    "loops in a block": f"{{% set t %}}{LOOP}{LOOP}text{'{% endfor %}' * 2}{{% endset %}}{{{{ t }}}}",
    "a large text often": f"{LONG}{{% macro m() %}}{LOOP}{{{{ s }}}}{{% endfor %}}{{% endmacro %}}{{{{ m() }}}}",
    "a large text in the source": f"{{% macro m() %}}{LOOP}{'y' * 99999}{{% endfor %}}{{% endmacro %}}{{{{ m() }}}}",
    "huge text": "{{ 'a' * 10**9 }}",
    "huge list": "{{ [1] * 10**9 }}",
    "list of lists": "{% set l = ['abc' * 999999] * 999 %}{{ [l, l, l] * 999 }}",
    "huge power": "{{ 10**(10**10) }}",
    "power of powers": "{{ ((9**9999)**9999)**9999 }}",
    "squares": "{% set ns = namespace(n=7) %}" + LOOP + "{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "doubling by ~": "{% set ns = namespace(s='x') %}" + LOOP + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "doubling by +": "{% set ns = namespace(s='x') %}" + LOOP + "{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "doubling a list": "{% set l = [1] %}" + LOOP + "{% set _ = l.extend(l) %}{% endfor %}",
    "doubling by join": "{% set ns = namespace(s='x') %}" + LOOP + "{% set ns.s = [ns.s, ns.s] | join %}{% endfor %}",
    "doubling by format": "{% set ns = namespace(s='x') %}"
    + LOOP
    + "{% set ns.s = '{0}{0}'.format(ns.s) %}{% endfor %}",
    "range": "{{ range(10**9) | list }}",
    "random text": "{{ random_ascii_string(10**9) }}",
    "lipsum": "{{ lipsum(n=10**7) }}",
    "long paragraphs": "{{ lipsum(1, true, 10**8, 10**9) }}",
    "much lipsum": LOOP + "{{ lipsum(n=50) }}{% endfor %}",
    "center": "{{ 'x' | center(10**9) }}",
    "wordwrap": "{{ (' ' * 999999) | wordwrap(1) }}",
    "ljust": "{{ 'x'.ljust(10**9) }}",
    "zfill": "{{ 'x'.zfill(10**9) }}",
    "width": "{{ '%1000000000d' % 1 }}",
    "width by format": "{{ '{:>1000000000}'.format(1) }}",
    "width by filter": "{{ '%1000000000d' | format(1) }}",
    "width as argument": "{{ '{:>{w}}'.format(1, w=10**9) }}",
    "width by star": "{{ '%*d' % (10**9, 1) }}",
    "indent": "{{ 'x' | indent(10**9, true) }}",
    "tabs": "{{ ('\t' * 99999).expandtabs(99999) }}",
    "bytes": "{{ (1).to_bytes(10**9, 'big') }}",
    "batch": "{{ [1] | batch(10**9, 'x') | list }}",
    "slice": "{{ [1] | slice(10**9) | list }}",
    "tojson": "{{ [1, [2]] | tojson(10**9) }}",
    "jsonify": "{{ [1, [2]] | jsonify(10**9) }}",
    "replace": LONG + "{{ s | replace('x', s) }}",
    "replace as method": LONG + "{{ s.replace('x', s) }}",
    "join": LONG + "{{ range(99999) | join(s) }}",
    "join as method": LONG + "{{ s.join(['a'] * 9999) }}",
    "map": LONG + "{{ [s] | map('replace', 'x', s) | list }}",
    "endless macro": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a tree of macros": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(200) }}",
    "endless include": "{% include 'bomb.txt' %}",
    "an include often": LOOP + "{% include 'large.txt' %}{% endfor %}",
    "endless loop of a loop": "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
    "deep brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "deep blocks": "{% if true %}" * 3000 + "{% endif %}" * 3000,
    "text of a list": LONG + "{% set l = [s] * 6 %}{{ [l, l, l, l] }}",
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paccel.sandbox.budget.FILE_SECONDS", 0.1)


@pytest.mark.parametrize("name", sampled([*BOMBS], 17))
def test_a_bomb_is_one_error(name: str, template: Callable[..., Path]) -> None:
    loaded = load_template(str(template({"bomb.txt": BOMBS[name], "large.txt": "z" * 999999})))
    began = time.thread_time()
    with pytest.raises(TemplateError, match=r"`bomb.txt`.*of `demo` cannot be rendered: "):
        render(loaded, {"project_name": "net"})
    assert time.thread_time() - began < 5


def test_an_expression_that_takes_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = make_environment({}, "demo")
    assert environment.from_string("{{ 'A b1' | slugify(regex_pattern='[^a-z]') }}").render() == "a-b"
    monkeypatch.setattr("paccel.sandbox.patterns.SECONDS", 0.5)
    with pytest.raises(TemplateError, match="`regex_pattern` of `slugify` takes more than"):
        environment.from_string("{{ ('a' * 60 ~ '!') | slugify(regex_pattern='(a+)+$') }}").render()


@pytest.mark.parametrize("entry", ["x", "__x", "path", "default"])
def test_entries_and_paths_are_bounded_too(entry: str, template: Callable[..., Path]) -> None:
    bomb = "{{ 'a' * 10**9 }}"
    questions = {"x": {"y": "1", "x": bomb}, "__x": {"__x": ["", {"k": bomb}]}, "default": {"d": bomb}}
    loaded = load_template(str(template({bomb if entry == "path" else "a": ""}, questions.get(entry, {}))))
    with pytest.raises(TemplateError, match="cannot be rendered: it makes a text"):
        render(loaded, resolve_answers(loaded, {}))


def test_the_bound_holds_in_a_thread(template: Callable[..., Path]) -> None:
    loaded = load_template(str(template({"bomb.txt": BOMBS["silent loops"]})))
    errors: list[str] = []

    def work() -> None:
        try:
            render(loaded, {"project_name": "net"})
        except TemplateError as error:
            errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert "takes more than 0.1 seconds" in errors[0]


def test_a_whole_render_is_bounded(template: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paccel.sandbox.budget.RENDER_SIZE", 5000)
    loaded = load_template(str(template({f"{i}.txt": "{{ 'x' * 999 }}" for i in range(9)})))
    with pytest.raises(TemplateError, match="the template makes more than"):
        render(loaded, {"project_name": "net"})


def test_ordinary_templates_have_room() -> None:
    environment = make_environment({}, "demo")
    for source, result in (
        ("{{ '%5d|%s' % (3, 'x') }}", "    3|x"),
        ("{{ '{:,} {}'.format(1234567890, 'x') }}", "1,234,567,890 x"),
        ("{{ 2**64 }} {{ 'ab' * 3 }} {{ [1] * 2 }} {{ 7 % 4 }} {{ 1 + 2 }} {{ 'a' + 'b' }}", None),
        ("{{ 'x' | center(80) | length }} {{ 'a,b'.split(',') }} {{ 'x'.ljust(3) }}|", "80 ['a', 'b'] x  |"),
        ("{% for i in range(9999) %}{{ i }},{% endfor %}", ",".join(map(str, range(9999))) + ","),
        ("{% for a in [1, 2] %}{{ loop.last }}{{ loop.length }}{% else %}x{% endfor %}", None),
        ("{% set t = 'line\n' * 20000 %}{{ t.replace('\n', '\n    ') | length }}", "180000"),
        ("{{ ('word ' * 9999) | wordwrap(72) | length }}", "49994"),
        ("{{ 123456789 | string | length }} {{ 'x' | default(10000000) }}", "9 x"),
    ):
        rendered = environment.from_string(source).render()
        assert result is None or rendered == result


def test_sizes_are_counted_at_any_depth() -> None:
    endless: list[object] = []
    endless.append(endless)
    assert weight(["ab", {"c": ("d",)}]) == 8
    with pytest.raises(TooMuch):
        check_product("x", [endless])
    with pytest.raises(TooMuch):
        check_operator("*", ["x" * 1000], 10**6)
    with pytest.raises(TooMuch):
        check_format("{:{}}", [1, 10**9])
    check_format("{:{}}", [1, 10])
    check_operator("*", -1, 10**6)


@pytest.mark.parametrize("depth", [500, 5000, 50000])
@pytest.mark.parametrize("place", ["json", "private", "toml", "prompts"])
def test_deeply_nested_metadata_is_one_error_or_none(depth: int, place: str, tmp_path: Path) -> None:
    nested = "[" * depth + "1" + "]" * depth
    folder = tmp_path / "demo"
    (folder / "{{cookiecutter.name}}").mkdir(parents=True)
    (folder / "{{cookiecutter.name}}" / "a.txt").write_text("{{ cookiecutter }}")
    entry = {"json": "x", "private": "__x", "prompts": "__prompts__"}.get(place)
    (folder / "cookiecutter.json").write_text(f'{{"name": "net"{f""", "{entry}": {nested}""" if entry else ""}}}')
    if place == "toml":
        (folder / "paccel.toml").write_text(f"title = {nested}\n")
    with pytest.raises(TemplateError) if depth > 500 else contextlib.suppress(TemplateError):
        loaded = load_template(str(folder))
        render(loaded, resolve_answers(loaded, {}))
