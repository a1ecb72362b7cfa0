"""How the time of `paccel new`, `upgrade` and `set` grows with the number of files in a template.

    python benchmarks/large_templates.py [--files 1250 2500 5000] [--rounds 3]

The template has folders of 25 files: an empty `__init__.py`, a licence header, and Python files of 20 lines, all of which
use an answer. Between the two versions, 40 % of the files move: half of these folders go into another folder, half get
another name, and each moved Python file changes in one line. `set` changes an answer, and with it nearly every file. The
result is the minimum over rounds of the command's CPU time, user and system, in its own process.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

PROJECT = "{{cookiecutter.project_name}}"
PER_FOLDER = 25
MOVED = 5  # folders 0 and 1 of each five move
HEADER = "# Copyright ACME\n# SPDX-License-Identifier: MIT\n# All rights reserved\n"
TIMEOUT_SECONDS = 600


def write_template(folder: Path, files: int, moved: bool = False) -> int:
    """Write the template, before or after the move; return how many of its files move."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / PROJECT).mkdir(parents=True)
    (folder / "cookiecutter.json").write_text(json.dumps({"project_name": "net", "team": "blue"}))
    count = 0
    for number in range(files // PER_FOLDER):
        moves = number % MOVED if number % MOVED < 2 else None
        name = f"part_{number}"
        if moved and moves is not None:
            name = f"src/{name}" if moves == 0 else f"section_{number}"
        count += PER_FOLDER if moves is not None else 0
        place = folder / PROJECT / name
        place.mkdir(parents=True)
        (place / "__init__.py").touch()
        (place / "about.py").write_text(HEADER)
        for module in range(PER_FOLDER - 2):
            lines = [f"value_{line} = {number * 1000 + module * 20 + line}" for line in range(18)]
            if moved and moves is not None:
                lines[9] += "  # changed"
            text = "\n".join(['TEAM = "{{ cookiecutter.team }}"', "", *lines]) + "\n"
            (place / f"module_{number}_{module}.py").write_text(text)
    return count


def seconds(*arguments: str, at: Path, code: int = 0) -> float:
    """The CPU time of one command."""
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-m", "paccel", *arguments],
        cwd=at,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    after = os.times()
    assert done.returncode == code, done.stderr
    return after.children_user - before.children_user + after.children_system - before.children_system


def measure(files: int, folder: Path) -> dict[str, float]:
    """The CPU time of each command on a template of so many files; checks that it did its work."""
    template, project = folder / "template", folder / "net"
    shutil.rmtree(project, ignore_errors=True)
    write_template(template, files)
    found = {"new": seconds("new", "net", "--template", str(template), "--no-input", at=folder)}
    edited = project / "part_0" / "module_0_0.py"
    edited.write_text(edited.read_text() + "mine = 1\n")
    found["upgrade, up to date"] = seconds("upgrade", at=project)
    write_template(template, files, moved=True)
    found["upgrade, 40 % moved"] = seconds("upgrade", at=project)
    text = (project / "src" / "part_0" / "module_0_0.py").read_text()
    assert "mine = 1\n" in text
    assert "# changed" in text
    assert not (project / "part_1").exists()
    found["set"] = seconds("set", "team=red", at=project)
    assert 'TEAM = "red"' in (project / "src" / "part_0" / "module_0_0.py").read_text()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, nargs="+", default=[1250, 2500, 5000])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="large-") as name:
        rounds = [[measure(files, Path(name)) for files in options.files] for _ in range(options.rounds)]
    least = [{key: min(done[i][key] for done in rounds) for key in rounds[0][i]} for i in range(len(options.files))]
    print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}; seconds of processor time\n"
    )
    print("| files | " + " | ".join(least[0]) + " |")
    print("|---" * (len(least[0]) + 1) + "|")
    for files, found in zip(options.files, least, strict=True):
        print(f"| {files:,} | " + " | ".join(f"{value:.2f}" for value in found.values()) + " |")
    slow = [
        f"{command} of {files:,}"
        for (few, before), (files, found) in pairwise(zip(options.files, least, strict=True))
        for command in found
        if found[command] > 1.5 * files / few * before[command]
    ]
    print(f"\nMore than half again as long as the number of files explains: {', '.join(slow) or 'nothing'}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
