"""The workflows of GitHub Actions: their syntax, their permissions, and the Python versions that they test."""

import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORKFLOWS = ROOT / ".github" / "workflows"


def test_the_workflow_linter_finds_nothing() -> None:
    linter = Path(sysconfig.get_path("scripts")) / "zizmor"
    done = subprocess.run(
        [linter, "--offline", "--strict-collection", "--quiet", ROOT / ".github"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_supported_python_is_tested() -> None:
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["classifiers"]
    supported = [version for line in classifiers for version in re.findall(r"Python :: (3\.\d+)", line)]
    for name in ("ci.yml", "nightly.yml"):
        matrices = re.findall(r"python: \[(.+)\]", (WORKFLOWS / name).read_text(encoding="utf-8"))
        assert matrices
        for matrix in matrices:
            assert re.findall(r"3\.\d+", matrix) == supported


def test_ci_runs_the_readme_s_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    steps = re.findall(r"- run: (.+)", (WORKFLOWS / "ci.yml").read_text(encoding="utf-8"))
    for command in ("pip install -c constraints.txt '.[runtime,dev]'", 'pytest -m "not slow"'):
        assert command in steps
        assert command in readme
