"""What is published is what is in the repository: every template file, no byte-code, the same projects."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from support.sampled import every_third_day

from paccel import __version__
from paccel.catalog import catalog
from paccel.catalog.answers import resolve_answers
from paccel.files.tree import File, read_tree
from paccel.project.state import Manifest, state_bytes
from paccel.render.render import render_formatted

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
TEMPLATES = read_tree(ROOT / "templates")


def run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with sdist and wheel, the wheel built from the sdist; byte-code was lying in the templates."""
    source = tmp_path_factory.mktemp("build") / "source"
    for part in ("generator", "runtime", "templates"):
        shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, source / name)
    for folder in [path for path in (source / "templates").rglob("*") if path.is_dir()]:
        (folder / "__pycache__").mkdir()
        (folder / "__pycache__" / "model.cpython-311.pyc").write_bytes(b"\0")
        (folder / "old.pyc").write_bytes(b"\0")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", source.parent / "dist", source, cwd=source.parent)
    return source.parent / "dist"


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    return dist / f"paccel-{__version__}-py3-none-any.whl"


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a virtual environment with the wheel, and with this environment's packages for the rest."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    paths = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    # A plain path, so that this environment's own `.pth` files, an editable paccel among them, are not read.
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps"]
    run(*pip, "--force-reinstall", "--no-build-isolation", wheel, cwd=folder)
    return python.parent


def members(wheel: Path) -> dict[str, File]:
    with zipfile.ZipFile(wheel) as archive:
        return {
            entry.filename: File(archive.read(entry), bool(entry.external_attr >> 16 & 0o100))
            for entry in archive.infolist()
        }


def test_the_wheel_holds_every_template_file_and_no_byte_code(wheel: Path) -> None:
    found = members(wheel)
    prefix = "paccel/templates/"
    assert {name.removeprefix(prefix): file for name, file in found.items() if name.startswith(prefix)} == TEMPLATES
    assert not [name for name in found if "__pycache__" in name or name.endswith((".pyc", ".pyo"))]
    assert any(
        Path(path).name.startswith(".") for path in TEMPLATES
    ), "no dot file among the templates to prove it with"


def test_the_wheel_holds_the_code_and_nothing_else(wheel: Path) -> None:
    found = members(wheel)
    for package, folder in (("paccel", "generator"), ("paccel/runtime", "runtime")):
        code = {f"{package}/{path}" for path in read_tree(ROOT / folder)}
        assert code <= found.keys()
    assert {name.partition("/")[0] for name in found} == {"paccel", f"paccel-{__version__}.dist-info"}
    assert f"paccel-{__version__}.dist-info/licenses/LICENSE" in found
    assert b"paccel = paccel.cli:main" in found[f"paccel-{__version__}.dist-info/entry_points.txt"].content


def test_the_sdist_holds_every_template_file_and_no_byte_code(dist: Path) -> None:
    top = f"paccel-{__version__}"
    with tarfile.open(dist / f"{top}.tar.gz") as archive:
        files = {member.name: member for member in archive.getmembers() if member.isfile()}
        for path, file in TEMPLATES.items():
            member = archive.extractfile(files[f"{top}/templates/{path}"])
            assert member is not None
            assert member.read() == file.content, path
    assert not [name for name in files if "__pycache__" in name or name.endswith((".pyc", ".pyo"))]


@every_third_day(0)
def test_a_project_from_the_wheel_is_the_one_from_the_checkout(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = run(installed / "python", "-c", "import paccel.cli; print(paccel.cli.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    monkeypatch.setattr(catalog, "bundled_root", lambda: ROOT / "templates")
    for name in catalog.bundled_names():
        run(installed / "paccel", "new", f"net-{name}", "--template", name, cwd=tmp_path)
        template = catalog.load_template(name)
        answers = resolve_answers(template, {}, project_name=f"net-{name}")
        tree, unformatted = render_formatted(template, answers)
        state = state_bytes(Manifest.of(template.ref, answers, tree, unformatted=unformatted), tree)
        expected = {**tree} | {path: File(content) for path, content in state.items()}
        assert read_tree(tmp_path / f"net-{name}", ignore=()) == expected
