"""Ejecting rewrites imports, requirements and commands in a file, and nothing else."""

import ast
import tomllib
from pathlib import Path

import pytest

from paccel.files.tree import File
from paccel.vendor.requirements import replace_requirement
from paccel.vendor.rewrite import in_project, lines_left, rewritten, uses_runtime
from paccel.vendor.runtime import PACKAGE, runtime_files, runtime_requirements, vendored_at

ROOT = Path(__file__).parents[3]
RUNTIME = [path.relative_to(ROOT).as_posix() for path in (ROOT / "runtime").rglob("*.py")]
NEEDED = {"numpy": "numpy>=1.26", "torch": "torch>=2.6"}


def text_of(path: str, text: str) -> str:
    return rewritten(path, File(text.encode())).content.decode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from paccel.runtime import Run", "from paccel_runtime import Run"),
        ("from paccel.runtime.loop.step import Step", "from paccel_runtime.loop.step import Step"),
        ("import paccel.runtime as x", "import paccel_runtime as x"),
        ("import paccel.runtime\nprint(paccel.runtime.Run)", "import paccel_runtime\nprint(paccel_runtime.Run)"),
        ("import os, paccel.runtime.ema", "import os, paccel_runtime.ema"),
        ("from paccel import runtime", "import paccel_runtime as runtime"),
        ("from paccel import runtime as rt", "import paccel_runtime as rt"),
        ("from paccel import (\n    runtime,  # the loop\n)", "import paccel_runtime as runtime"),
        ("from paccel import __version__, runtime as r", "import paccel_runtime as r; from paccel import __version__"),
        ("if x:\n    from paccel import runtime\n", "if x:\n    import paccel_runtime as runtime\n"),
        ('mock.patch("paccel.runtime.run.Run")', 'mock.patch("paccel_runtime.run.Run")'),
        ("import_module('paccel.runtime')", "import_module('paccel_runtime')"),
        ("from paccel import catalog", "from paccel import catalog"),
        ("mypaccel.runtime.x = other.paccel.runtime", "mypaccel.runtime.x = other.paccel.runtime"),
        ("paccel.runtimes = 1", "paccel.runtimes = 1"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_code_uses_the_project_s_own_package(before: str, after: str, end: str) -> None:
    done = text_of("a.py", before.replace("\n", end))
    assert done == after.replace("\n", end)
    if ast.parse(before):
        ast.parse(done)


def test_notebooks_scripts_and_text_are_rewritten_and_other_files_are_not() -> None:
    cell = r'{"source": ["from paccel import runtime\n", "!pip install \"paccel[runtime]\""]}'
    assert text_of("a.ipynb", cell).startswith(r'{"source": ["import paccel_runtime as runtime\n", "!pip install \"acc')
    assert text_of("launch/a.sbatch", "srun python -m paccel.runtime.x") == "srun python -m paccel_runtime.x"
    assert text_of("Dockerfile.gpu", 'CMD ["-m", "paccel.runtime.x"]') == 'CMD ["-m", "paccel_runtime.x"]'
    assert text_of("data.csv", "paccel.runtime") == "paccel.runtime"
    latin = File("# é\nimport paccel.runtime\n".encode("latin-1"))
    assert rewritten("a.py", latin).content == "# é\nimport paccel_runtime\n".encode("latin-1")


def test_rewriting_twice_changes_nothing() -> None:
    text = '[project]\ndependencies = ["paccel[runtime]"]\n[tool.ruff]\nline-length = 1\n'
    for path, before in (("pyproject.toml", text), ("a.py", "from paccel import runtime\nimport paccel.runtime\n")):
        once = text_of(path, before)
        assert once != before
        assert text_of(path, once) == once


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('a = [\n    "paccel[runtime]>=0.2,<0.3",  # x\n]', 'a = [\n    "numpy>=1.26",\n    "torch>=2.6",  # x\n]'),
        ("a = ['paccel [ runtime ]', 'x']", "a = ['numpy>=1.26', 'torch>=2.6', 'x']"),
        ('a = ["paccel[runtime]", "torch>=2.7"]', 'a = ["numpy>=1.26", "torch>=2.7"]'),
        ('a = ["paccel[runtime]", "torch"]', 'a = ["numpy>=1.26", "torch>=2.6", "torch"]'),
        ('a = ["paccel[runtime]", "torch>=2.0"]', 'a = ["numpy>=1.26", "torch>=2.6", "torch>=2.0"]'),
        (
            "a = [\"paccel[runtime]; os_name == 'nt'\"]",
            "a = [\"numpy>=1.26; os_name == 'nt'\", \"torch>=2.6; os_name == 'nt'\"]",
        ),
        ("paccel[runtime]>=0.2  # x\ny", "numpy>=1.26\ntorch>=2.6  # x\ny"),
        ("  - pip:\n    - paccel[runtime]", "  - pip:\n    - numpy>=1.26\n    - torch>=2.6"),
        (
            "RUN pip install --no-cache-dir 'paccel[runtime]'",
            "RUN pip install --no-cache-dir 'numpy>=1.26' 'torch>=2.6'",
        ),
        ("uv add paccel[runtime]", "uv add 'numpy>=1.26' 'torch>=2.6'"),
        (
            '# dependencies = [\n#   "paccel[runtime]",\n# ]',
            '# dependencies = [\n#   "numpy>=1.26",\n#   "torch>=2.6",\n# ]',
        ),
        ("paccel", "paccel"),
        ('["paccel", "paccel[dev]"]', '["paccel", "paccel[dev]"]'),
        ("see `paccel[runtime]` for more", "see `paccel[runtime]` for more"),
    ],
)
def test_the_requirement_becomes_what_the_runtime_needs(before: str, after: str) -> None:
    assert replace_requirement(before, NEEDED) == after


def test_the_requirements_are_those_of_the_extra_with_their_bounds() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["runtime"]
    assert sorted(runtime_requirements().values()) == sorted(extra)


def test_settings_of_setuptools_and_ruff_know_the_package() -> None:
    text = '[project]\ndependencies = ["paccel[runtime]"]\n[tool.setuptools]\npackages = ["net"]\n[tool.ruff]\nline-length = 9\n'
    data = tomllib.loads(text_of("pyproject.toml", text))["tool"]
    assert {"net", PACKAGE, f"{PACKAGE}.loop", f"{PACKAGE}.storage"} <= {*data["setuptools"]["packages"]}
    assert data["ruff"]["lint"]["isort"]["known-third-party"] == [PACKAGE]
    known = text + '[tool.ruff.lint.isort]\nknown-third-party = ["a"]\n'
    assert tomllib.loads(text_of("pyproject.toml", known))["tool"]["ruff"]["lint"]["isort"]["known-third-party"] == [
        PACKAGE,
        "a",
    ]


def test_what_is_left_of_paccel_is_found() -> None:
    assert lines_left("a.py", File(b"x = 1\nfrom paccel.catalog import catalog\n# import paccel\n")) == [2]
    assert lines_left("pyproject.toml", File(b'a = ["paccel[dev]"]\n')) == [1]
    assert lines_left("pyproject.toml", File(b'a = 1\nb = [\n    "paccel>=0.2",\n]\n')) == [3]
    assert lines_left("requirements.txt", File(b"numpy\npaccel\n")) == [2]
    assert lines_left("pyproject.toml", File(b'known-third-party = ["paccel_runtime"]\n')) == []
    assert lines_left("README.md", File(b"from paccel import x\n")) == []


def test_the_copy_is_whole_and_self_contained() -> None:
    files = runtime_files()
    assert {path.removeprefix("runtime/") for path in RUNTIME} <= files.keys()
    assert files["LICENSE"].content == (ROOT / "LICENSE").read_bytes()
    for path, file in files.items():
        if path.endswith(".py"):
            assert not uses_runtime(path, file), path
            for node in ast.walk(ast.parse(file.content)):
                if isinstance(node, ast.Import):
                    assert not any(alias.name.startswith("paccel") for alias in node.names), path
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    assert not (node.module or "").startswith("paccel"), path


def test_a_render_of_a_project_that_is_not_ejected_stays_as_it_is() -> None:
    tree = {"a.py": File(b"import paccel.runtime\n")}
    assert in_project(tree, None) == tree
    assert in_project(tree, vendored_at("src/paccel_runtime"))["a.py"] == File(b"import paccel_runtime\n")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("requirements.txt", "a\r\npaccel[runtime]\r\nb\r\n"),
        ("pyproject.toml", 'a = [\r\n    "paccel[runtime]",\r\n]\r\n'),
    ],
)
def test_line_ends_stay(path: str, text: str) -> None:
    done = text_of(path, text)
    assert done.count("\r\n") == done.count("\n") > text.count("\n")
    assert "paccel" not in done


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        (
            "Dockerfile",
            "RUN pip install \\\n    rich \\\n    paccel[runtime]==0.2.0 \\\n    tqdm\n",
            "RUN pip install \\\n    rich \\\n    'numpy>=1.26' 'torch>=2.6' \\\n    tqdm\n",
        ),
        (
            "Dockerfile",
            'RUN uv pip install \\\n    "paccel[runtime]"\n',
            'RUN uv pip install \\\n    "numpy>=1.26" "torch>=2.6"\n',
        ),
        (
            "Dockerfile",
            "RUN pip install \\\n    rich paccel[runtime]\n",
            "RUN pip install \\\n    rich 'numpy>=1.26' 'torch>=2.6'\n",
        ),
        ("environment.yml", '- pip:\n  - "paccel[runtime]"\n', '- pip:\n  - "numpy>=1.26"\n  - "torch>=2.6"\n'),
        ("requirements.txt", "paccel[runtime]>=0.2  # here\n", "numpy>=1.26\ntorch>=2.6  # here\n"),
        ("requirements.txt", "Paccel[rewrite, Runtime]\n", "numpy>=1.26\ntorch>=2.6\n"),
        ("requirements.txt", "paccel[runtime] @ git+https://example.org/x\n", "numpy>=1.26\ntorch>=2.6\n"),
        (
            "setup.cfg",
            "install_requires =\n    paccel[runtime]\n    rich\n",
            "install_requires =\n    numpy>=1.26\n    torch>=2.6\n    rich\n",
        ),
    ],
)
def test_each_way_to_list_the_runtime_stays_valid(
    path: str, before: str, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paccel.vendor.rewrite.runtime_requirements", lambda: NEEDED)
    assert text_of(path, before) == after
    assert lines_left(path, File(after.encode())) == []


@pytest.mark.parametrize(
    ("path", "text", "lines"),
    [
        ("pyproject.toml", '[tool.poetry.dependencies]\npaccel = {version = "^0.2", extras = ["runtime"]}\n', [2]),
        ("pyproject.toml", '[tool.poetry.dependencies.paccel]\nversion = "^0.2"\nextras = ["runtime"]\n', [1]),
        ("pyproject.toml", '[tool.uv.sources]\npaccel = { git = "https://example.org/x" }\n', [2]),
        ("Pipfile", '[packages]\npaccel = {extras = ["runtime"], version = ">=0.2"}\n', [2]),
        ("requirements.txt", "paccel[runtime]==0.2 \\\n    --hash=sha256:00\n", [1]),
        ("requirements.txt", "-e git+https://example.org/x#egg=paccel[runtime]\n", [1]),
        ("environment.yml", "dependencies:\n  - conda-forge::paccel=0.2\n", [2]),
        ("Dockerfile", "RUN pip install torch paccel\n", [1]),
        (".github/workflows/ci.yml", "- run: pip install paccel && paccel upgrade --check\n", []),
        ("install.sh", "# pip install paccel\npip install paccel-other my.paccel\n", []),
    ],
)
def test_what_is_not_rewritten_is_named_with_its_line(path: str, text: str, lines: list[int]) -> None:
    assert text_of(path, text) == text
    assert lines_left(path, File(text.encode())) == lines
