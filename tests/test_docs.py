"""What the documentation claims exists: links, names of the runtime, settings, answers, templates."""

import dataclasses
import importlib.util
import inspect
import re
import sys
from functools import reduce
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
from click.testing import CliRunner
from support.beside import modules_of
from support.patches import bare, patched

from paccel import runtime
from paccel.catalog.answers import resolve_answers
from paccel.catalog.catalog import bundled_names, load_template
from paccel.cli.main import main
from paccel.runtime.settings.run_settings import RunSettings

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PARITY = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")
REFERENCE = re.sub(r"^```.*?^```$", "", (ROOT / "docs" / "runtime.md").read_text(encoding="utf-8"), flags=re.M | re.S)
TEMPLATES = ROOT / "docs" / "templates"
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")
CODE = re.compile(r"`([^`]+)`")


MEMBER = r"(Run|Step|Loader|Meter|Checkpoints|EMA|EarlyStopping|schedules|finetuning)\.\w+(\(.*\))?"


def code(pattern: str, text: str = PARITY) -> list[str]:
    """What stands in backticks on a page, the one of parity, and matches."""
    return sorted({span for span in CODE.findall(text) if re.fullmatch(pattern, span)})


def members(name: str) -> set[str]:
    """The public members of a class of the runtime, those that an instance gets and its docstring names included."""
    owner = getattr(runtime, name)
    if inspect.ismodule(owner):
        own = {n for n, thing in vars(owner).items() if getattr(thing, "__module__", None) == owner.__name__}
        return {member for member in own if not member.startswith("_")}
    attributes = (inspect.getdoc(owner) or "").partition("Attributes:")[2].partition("\n\n")[0]
    return {n for n in dir(owner) if not n.startswith("_")} | set(re.findall(r"^    (\w+): ", attributes, re.MULTILINE))


@pytest.fixture(scope="module")
def settings() -> set[str]:
    path = ROOT / "tests" / "snapshots" / "image-classification" / "default" / "train.py"
    with modules_of(path.parent, "train_of_the_docs", "data", "model"):
        spec = importlib.util.spec_from_file_location("train_of_the_docs", path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules["train_of_the_docs"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return {field.name for field in dataclasses.fields(module.Config)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_resolve(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        # GitHub resolves `../../actions` and `../../security` to pages of the repository.
        if "://" not in target and not target.startswith(("../../actions/", "../../security/")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_of_the_repository_that_are_named_exist(page: Path) -> None:
    for path in re.findall(r"`((?:tests|benchmarks|generator|runtime|templates)/[\w/.-]+)", page.read_text("utf-8")):
        assert (ROOT / path).exists(), path


def test_the_eleven_examples_have_a_row_each() -> None:
    assert len(re.findall(r"^\| `(?:core|nlp|vision)/[\w/]+` \| .+ \|$", PARITY, re.MULTILINE)) == 11


@pytest.mark.parametrize("name", sorted({*code(MEMBER), *code(MEMBER, REFERENCE)}))
def test_a_name_of_the_runtime_exists(name: str) -> None:
    path, _, arguments = name.partition("(")
    owner, attribute = path.split(".")
    documented = inspect.getdoc(getattr(runtime, owner)) or ""
    if not hasattr(getattr(runtime, owner), attribute):  # set when an instance is made
        assert re.search(rf"^\s*{attribute}: ", documented, re.MULTILINE), name
        return
    found: Any = reduce(getattr, path.split("."), runtime)
    options = re.findall(r"(\w+)=", arguments)
    if not options:
        return
    parameters = inspect.signature(found).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    assert takes_any or set(options) <= parameters.keys(), name


@pytest.mark.parametrize(
    "name", [n for n in code(r"[A-Za-z_]+") if n in ("EMA", "Checkpoints") or n.startswith("load_")]
)
def test_a_public_name_is_public(name: str) -> None:
    assert name in runtime.__all__


def test_the_reference_has_each_public_name_and_each_public_member() -> None:
    spans = set(CODE.findall(REFERENCE))
    assert set(runtime.__all__) <= {span.partition("(")[0] for span in spans}
    owners = [name for name in runtime.__all__ if not _has_no_members(getattr(runtime, name))]
    for owner in owners:
        missing = {f"{owner}.{member}" for member in members(owner)} - spans
        assert not missing


def _has_no_members(thing: Any) -> bool:
    return inspect.isfunction(thing) or (inspect.isclass(thing) and issubclass(thing, BaseException))


def test_the_reference_has_what_a_run_reads_of_its_config_and_of_the_environment() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "runtime").rglob("*.py"))
    fields = {field.name for field in dataclasses.fields(RunSettings)}
    variables = set(re.findall(r'environ[.\w]*[\[(]"(\w+)"', source)) | set(
        re.findall(r'"([A-Z]+_SIZE|MASTER_PORT)"', source)
    )
    assert {"seed", "time_limit"} <= fields
    assert {"LOCAL_RANK", "WORLD_SIZE", "CUBLAS_WORKSPACE_CONFIG"} <= variables
    assert fields | variables <= set(CODE.findall(REFERENCE))


def test_each_test_that_the_page_on_exactness_names_exists() -> None:
    named = re.findall(r"`(test_\w+\.py)::([\w:]+)`", (ROOT / "docs" / "exactness.md").read_text(encoding="utf-8"))
    assert len(named) > 25
    files = {
        path.name: path
        for folder in ("runtime", "gpu", "templates")
        for path in (ROOT / "tests" / folder).rglob("test_*.py")
    }
    for file, test in named:
        source = files[file].read_text(encoding="utf-8")
        for part in test.split("::"):
            assert re.search(rf"(def|class) {part}\b", source), f"{file}::{test}"


def test_settings_that_are_named_exist(settings: set[str]) -> None:
    named = {span.removeprefix("Config.") for span in code(r"Config\.\w+")}
    assert named
    assert named <= settings


def test_answers_that_are_named_exist() -> None:
    asked = {question.name for question in load_template("image-classification").questions}
    named = set(re.findall(r"[Aa]nswer `(\w+)`", PARITY))
    assert named
    assert named <= asked


def test_templates_and_their_answers_exist() -> None:
    for name, answer in re.findall(r"[Tt]emplate `([\w-]+)`(?:, `(\w+=\w+)`)?", PARITY):
        template = load_template(name)
        resolve_answers(template, dict([answer.split("=")]) if answer else {}, project_name="my-project")
    for command in code(r"paccel new NAME .*"):
        words = command.split()
        chosen = words[words.index("--template") + 1] if "--template" in words else "image-classification"
        given = dict(word.split("=") for word in words if "=" in word)
        resolve_answers(load_template(chosen), given, project_name="my-project")


@pytest.mark.parametrize("name", bundled_names())
def test_each_template_has_its_place_in_the_readme_the_index_and_the_parity_page(name: str) -> None:
    listed = f"[{name}]({name}.md)" if (TEMPLATES / f"{name}.md").exists() else name
    row = f"| {listed} | {load_template(name).metadata.description} |"
    assert row in (TEMPLATES / "README.md").read_text(encoding="utf-8")
    assert f"| `{name}` |" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"[Tt]emplate `{name}`|--template {name}\b", PARITY)


@pytest.mark.parametrize("name", [name for name in bundled_names() if (TEMPLATES / f"{name}.md").exists()])
def test_the_page_of_a_template_has_the_curves_of_a_run_and_the_figure_that_it_reaches(name: str) -> None:
    page = (TEMPLATES / f"{name}.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^]]+\]\(([\w-]+\.png)\)", page)
    assert f"{name}.png" in pictures
    for picture in pictures:
        assert (TEMPLATES / picture).read_bytes().startswith(b"\x89PNG")
    reached = re.findall(r"\d+\.\d+", load_template(name).metadata.reaches)
    assert reached, "it says what it reaches"
    assert reached[0] in page


def test_each_example_is_a_command_that_makes_a_project() -> None:
    rows = re.findall(r"^\| `(?:core|nlp|vision)/[\w/]+` \| (.+) \|$", PARITY, re.MULTILINE)
    named = [row for row in rows if "`paccel new NAME" in row or "the same" in row]
    assert named == rows


def test_the_loop_in_the_readme_is_the_generated_one(generated: Path) -> None:
    (loop,) = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert indent(loop, 8 * " ") in (generated / "train.py").read_text(encoding="utf-8")


def test_the_merge_in_the_readme_is_what_paccel_does(generated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit, merge = re.findall(r"^```diff\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    (session,) = re.findall(r"^```console\n\$ paccel set ema=true\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    train = generated / "train.py"
    edited = patched(train.read_text(encoding="utf-8"), edit)
    train.write_text(edited, encoding="utf-8")
    monkeypatch.chdir(generated)
    assert _paccel("set", "ema=true") == session
    merged = train.read_text(encoding="utf-8").splitlines()
    assert [bare(line) for line in patched(edited, merge).splitlines()] == [bare(line) for line in merged]


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    _paccel("new", str(tmp_path / "my-project"), "--no-input")
    return tmp_path / "my-project"


def _paccel(*arguments: str) -> str:
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output
