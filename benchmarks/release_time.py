"""CPU time of the same commands with two releases of paccel, in turn.

    python benchmarks/release_time.py OLD NEW [--rounds 15]

OLD and NEW are `paccel` commands from two environments (`python -m venv`, `pip install paccel==…`). In each round both create
new projects and run the same commands on them. The result is the ratio, within a round, of each command's CPU time, user and
system. The order alternates, so that other load on the machine affects both alike.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SMALL = {
    "cookiecutter.json": '{"project_name": "small", "rate": "0.1"}\n',
    "{{cookiecutter.project_name}}/train.py": "def train():\n    steps = 10\n    return steps\n\n\nRATE = {{cookiecutter.rate}}\n",
}
COMMANDS = {
    "--help": ["--help"],
    "new image-classification": ["new", "made", "--template", "image-classification", "--no-input"],
    "upgrade, nothing to do": ["upgrade"],
    "set ema=true": ["set", "ema=true"],
    "set docker=true": ["set", "docker=true"],
    "upgrade of a small template": ["upgrade"],
}


def cpu_seconds(paccel: Path, *arguments: str, at: Path) -> float:
    """The CPU time of one command and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([paccel, *arguments], cwd=at, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def write(folder: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def measure(paccel: Path) -> dict[str, float]:
    """Command -> its CPU time, on new projects."""
    folder = Path(tempfile.mkdtemp(prefix="release-"))
    try:
        write(folder / "template", SMALL)
        cpu_seconds(paccel, "new", "small", "--template", "./template", "--no-input", at=folder)
        edited = folder / "small" / "train.py"
        edited.write_text(edited.read_text().replace("steps = 10", "steps = 20"))
        write(
            folder / "template",
            {name: text.replace("return steps", "return 2 * steps") for name, text in SMALL.items()},
        )
        times = {}
        for name, arguments in COMMANDS.items():
            at = {"--help": folder, "new image-classification": folder}.get(name, folder / "made")
            times[name] = cpu_seconds(paccel, *arguments, at=folder / "small" if "small" in name else at)
        merged = edited.read_text()
        assert "steps = 20" in merged, "the user's edit is lost"
        assert "2 * steps" in merged, "the template's edit is missing"
        return times
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    commands = {"old": options.old.resolve(), "new": options.new.resolve()}
    rounds: dict[str, list[dict[str, float]]] = {"old": [], "new": []}
    for number in range(options.rounds + 1):
        for which in ("old", "new") if number % 2 else ("new", "old"):
            times = measure(commands[which])
            if number:  # the first round compiles byte-code and warms disk caches
                rounds[which].append(times)
    print(f"{options.rounds} rounds; {os.cpu_count()} cores, Python {sys.version.split()[0]}; CPU seconds, medians\n")
    for name in COMMANDS:
        old, new = ([times[name] for times in rounds[which]] for which in ("old", "new"))
        ratios = [after / before for before, after in zip(old, new, strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        print(
            f"{name:<28} {statistics.median(old):.3f}   {statistics.median(new):.3f}   "
            f"{statistics.median(ratios):.2f} times (quartiles {low:.2f} to {high:.2f})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
