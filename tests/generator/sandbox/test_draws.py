"""Random values and the time in a template are drawn once per project."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paccel.project.state import MANIFEST_PATH, read_manifest
from paccel.sandbox.draws import Draws
from paccel.sandbox.environment import make_environment

Run = Callable[..., Any]
Make = Callable[..., Path]
PROJECT = "{{cookiecutter.project_name}}"

SETTINGS = """\
SECRET = "{{ random_ascii_string(20, punctuation=true) }}"
ID = "{{ uuid4() }}"
TWO = "{{ random_ascii_string(6) }}-{{ random_ascii_string(6) }}"
PORT = {{ range(1024, 9999) | random }}
YEAR = {% now 'utc', '%Y' %}, {% now 'utc' + 'weeks=1', '%H:%M:%S' %}
KEY = "{{ cookiecutter.__key }}{{ cookiecutter.__keys[1] }}"
{% for _ in range(3) %}
{{ random_ascii_string(8) }}
{% endfor %}
{% include 'part.txt' %}
TEXT = "{{ lipsum(1, false, 3, 6) }}"
B = 2
"""
ENTRIES = {"__key": "{{ uuid4() }}", "__keys": ["{{ uuid4() }}", "{{ uuid4() }}"], "other": False}


@pytest.fixture
def drawn(template: Make, paccel: Run, work: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A template with random values, and a project made from it."""
    files = {
        "settings.py": SETTINGS,
        "same.txt": '{{ cookiecutter.__key }}\nSECRET = "{{ random_ascii_string(20, punctuation=true) }}"\n',
    }
    source = template(files, ENTRIES, extra={"templates/part.txt": "PART = {{ uuid4() }}\n"})
    assert paccel("new", "net", "--template", source, "--no-input").code == 0
    monkeypatch.chdir(work / "net")
    return source / PROJECT, work / "net"


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def test_each_value_is_its_own_and_two_projects_differ(drawn: tuple[Path, Path], paccel: Run, work: Path) -> None:
    text = (drawn[1] / "settings.py").read_text()
    uuids = re.findall(r"[0-9a-f-]{36}", text)
    assert len(uuids) == len({*uuids}) == 4
    assert len({*re.findall(r"^[A-Za-z]{8}$", text, re.MULTILINE)}) == 3
    first, second = re.findall(r'TWO = "(\w{6})-(\w{6})"', text)[0]
    assert first != second
    same = (drawn[1] / "same.txt").read_text()
    assert same.splitlines()[0] in text  # one value, in two files
    assert same.splitlines()[1] not in text  # the same line in another file
    assert paccel("new", work / "other", "--template", drawn[0].parent, "--no-input").code == 0
    assert (work / "other" / "settings.py").read_text() != text


def test_an_upgrade_and_a_new_answer_keep_every_value(drawn: tuple[Path, Path], paccel: Run) -> None:
    source, root = drawn
    before = (root / "settings.py").read_text()
    edit(source / "settings.py", "B = 2", "B = 3")
    assert paccel("upgrade").code == 0
    assert (root / "settings.py").read_text() == before.replace("B = 2", "B = 3")
    assert paccel("set", "other=true").code == 0
    assert paccel("upgrade").out == "Up to date\n"
    assert (root / "settings.py").read_text() == before.replace("B = 2", "B = 3")


def test_new_draws_and_changed_lines_take_nothing_from_the_others(drawn: tuple[Path, Path], paccel: Run) -> None:
    source, root = drawn
    before = (root / "settings.py").read_text()
    secret = re.findall(r'SECRET = "(.*)"', before)[0]
    edit(source / "settings.py", "SECRET = ", 'NEW = "{{ random_ascii_string(20, punctuation=true) }}"\nSECRET = ')
    edit(source / "settings.py", 'ID = "{{ uuid4() }}"', 'PROJECT_ID = "{{ uuid4() }}"  # for ever')
    assert paccel("upgrade").code == 0
    after = (root / "settings.py").read_text()
    assert f'SECRET = "{secret}"' in after
    assert re.findall(r'NEW = "(.*)"', after)[0] not in before
    assert re.findall(r'PROJECT_ID = "(.*)"', after) == re.findall(r'^ID = "(.*)"', before, re.MULTILINE)


def test_a_moved_file_keeps_its_values(drawn: tuple[Path, Path], paccel: Run) -> None:
    source, root = drawn
    before = (root / "settings.py").read_text()
    (source / "settings.py").rename(source / "config.py")
    edit(source / "config.py", "B = 2", "B = 3")
    assert paccel("upgrade").code == 0
    assert (root / "config.py").read_text() == before.replace("B = 2", "B = 3")


def test_the_baseline_can_be_rendered_again(drawn: tuple[Path, Path], paccel: Run) -> None:
    baseline = drawn[1] / ".paccel" / "baseline.zip"
    before = baseline.read_bytes()
    baseline.unlink()
    assert paccel("doctor", "--rebuild-baseline").code == 0
    assert baseline.read_bytes() == before


def test_the_clock_of_a_project_stands_still(
    drawn: tuple[Path, Path], paccel: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, root = drawn
    manifest = read_manifest(root)
    old = manifest.drawn | {"time": "2021-12-31T23:30:00+00:00"}
    (root / MANIFEST_PATH).write_text(manifest._replace(drawn=old).to_json())
    edit(source / "settings.py", "B = 2", "B = 3")
    assert paccel("upgrade").code == 0
    assert "YEAR = 2021, 23:30:00" in (root / "settings.py").read_text()


def test_a_project_of_0_1_0_without_a_record_keeps_its_values(drawn: tuple[Path, Path], paccel: Run) -> None:
    source, root = drawn
    before = (root / "settings.py").read_text()
    (root / MANIFEST_PATH).write_text(read_manifest(root)._replace(drawn={}, paccel="0.1.0").to_json())
    edit(source / "settings.py", "B = 2", "B = 3")
    assert paccel("upgrade").code == 0
    after = (root / "settings.py").read_text()

    def values(name: str, text: str) -> list[str]:
        return re.findall(rf"^{name} = (.*)", text, re.MULTILINE)

    for name in ("SECRET", "ID", "TWO", "PART", "KEY"):
        assert values(name, after) == values(name, before)
    edit(source / "settings.py", "B = 3", "B = 4")
    assert paccel("upgrade").code == 0
    assert values("SECRET", (root / "settings.py").read_text()) == values("SECRET", before)


def test_a_template_that_draws_nothing_records_nothing(template: Make, paccel: Run, work: Path) -> None:
    assert paccel("new", "net", "--template", template(), "--no-input").code == 0
    assert '"drawn"' not in (work / "net" / MANIFEST_PATH).read_text()


@pytest.mark.parametrize(
    "drawn",
    ['{"time": 5}', '{"time": "x"}', '{"values": []}', '{"values": {"a": {"b": [1]}}}', '{"values": {"a": 1}}', "7"],
)
def test_a_record_of_another_form_is_damage(drawn: str, template: Make, paccel: Run, work: Path) -> None:
    assert paccel("new", "net", "--template", template(), "--no-input").code == 0
    path = work / "net" / MANIFEST_PATH
    path.write_text(path.read_text().replace('"answers"', f'"drawn": {drawn}, "answers"'))
    assert paccel("doctor", "--rebuild-baseline").code == 3


def test_a_value_of_another_list_is_not_taken() -> None:
    draws = Draws()
    environment = make_environment({}, "demo", draws)

    def text(source: str) -> str:
        draws.begin("a")
        return environment.from_string(source).render()

    source = "{{ ['a', 'b'] | random }}"
    first = text(source)
    assert {text(source) for _ in range(9)} == {first}
    assert text("{{ [] | random | default('none') }}") == "none"
    draws.begin("a")
    assert environment.from_string("{% set r = uuid4 %}{{ r() }}").render() != text("{{ uuid4() }}")


def test_the_time_extension_of_old_templates_is_cookiecutters() -> None:
    for name in ("jinja2_time.TimeExtension", "cookiecutter.extensions.TimeExtension"):
        draws = Draws({"time": "2020-02-29T12:00:00+00:00"})
        environment = make_environment({"_extensions": [name]}, "demo", draws)
        source = "{% now 'Europe/Berlin', '%Y-%m-%d %H' %} {% now 'utc' - 'days=1,hours=2' %}"
        assert environment.from_string(source).render() == "2020-02-29 13 2020-02-28"


@pytest.mark.parametrize("name", ["part.txt", "renamed.txt"])
def test_a_partial_keeps_what_it_draws_and_the_lines_around_it_draw_their_own(
    template: Make, paccel: Run, work: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    text = "{% for key in 'ab' %}\n{{ key }}: {{ uuid4() }}\n{% endfor %}\n{% include 'part.txt' %}"
    partial = "id: {{ uuid4() }}\n"
    source = template({"ids.yml": text}, extra={"templates/part.txt": partial})
    assert paccel("new", "net", "--template", source, "--no-input").code == 0
    monkeypatch.chdir(work / "net")
    before = Path("ids.yml").read_text()
    assert len({*re.findall(r"[0-9a-f-]{36}", before)}) == 3
    (source / "templates" / "part.txt").rename(source / "templates" / name)
    edit(
        source / PROJECT / "ids.yml",
        "{% include 'part.txt' %}",
        f"{{% include '{name}' %}}# ids\nnew: {{{{ uuid4() }}}}\n",
    )
    assert paccel("upgrade").code == 0
    after = Path("ids.yml").read_text()
    kept, _, added = after.partition("# ids\n")
    assert kept == before
    assert re.findall(r"[0-9a-f-]{36}", added)[0] not in before
