"""How long an upgrade takes: `paccel upgrade`, `copier update` and `cruft update` on one project with one edit.

    python benchmarks/upgrade_time.py [--rounds 15] [--environment DIR]

The tools are installed as users have them, from wheels with compiled byte-code, in a new virtual environment (in DIR, where it
is kept, if you pass one). The project is that of the merge benchmark: a user's edit and a change of the template in one file,
far apart. Each round creates new projects and times only the upgrade commands, in a rotating order, so that other load on the
machine affects all alike; the result is the ratio within a round. All tools must end with the same merged file. `unchecked`
is paccel without the check of the merged project, which no other tool has. For comparison: how long Python takes to start,
and to import click, which is a lower bound for command lines written with it.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path

import merge_tools
from support.merge_cases import load_case

ROOT = Path(__file__).parents[1]
CASE = load_case("edits-far-apart-in-one-file")
FLOOR = {"python": "pass", "click": "import click"}


def install(folder: Path) -> str:
    """Create an environment with the tools, unless it exists; return the installed versions."""
    pip = [str(folder / "bin" / "python"), "-m", "pip"]
    if not (folder / "bin" / "cruft").exists():
        venv.create(folder, with_pip=True)
        subprocess.run([*pip, "install", "-q", str(ROOT), "copier", "cruft"], check=True)
    listed = subprocess.run([*pip, "list", "--format", "freeze"], check=True, capture_output=True, text=True).stdout
    wanted = ("paccel", "ty", "ruff", "copier", "cruft", "click")
    return ", ".join(line.replace("==", " ") for line in listed.splitlines() if line.partition("==")[0] in wanted)


def seconds(tool: merge_tools.Tool, program: tuple[str, ...] = ()) -> float:
    """The time of the last command of `tool`, its upgrade; checks that it merged.

    Args:
        program: A program to call instead of the tool's own.
    """
    times: list[float] = []
    real = merge_tools.call

    def timed(*command: str, at: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        if program and "upgrade" in command[1:3]:
            command = (*program, *command[1:])
        start = time.perf_counter()
        done = real(*command, at=at, check=check)
        if {"upgrade", "update"} & {*command}:
            times.append(time.perf_counter() - start)
            assert (at / "train.py").read_bytes() == CASE.expected[0][
                "train.py"
            ].content, f"{command} did not merge: {done.stderr}"
        return done

    merge_tools.call = timed
    folder = Path(tempfile.mkdtemp(prefix="upgrade-"))
    try:
        tool(folder, CASE)
    finally:
        merge_tools.call = real
        shutil.rmtree(folder, ignore_errors=True)
    (taken,) = times
    return taken


def floor(code: str) -> float:
    start = time.perf_counter()
    subprocess.run(["python", "-c", code], check=True)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--environment", type=Path, help="create the environment there, or use an existing one")
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    folder = options.environment or Path(tempfile.mkdtemp(prefix="upgrade-environment-"))
    try:
        versions = install(folder.resolve())
        os.environ["PATH"] = f"{folder.resolve() / 'bin'}{os.pathsep}{os.environ['PATH']}"
        times = measure(options.rounds)
    finally:
        if not options.environment:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{options.rounds} rounds; {os.cpu_count()} cores, Python {sys.version.split()[0]}; {versions}\n")
    ratios = {
        name: [other / own for other, own in zip(taken, times["paccel"], strict=True)] for name, taken in times.items()
    }
    for name, taken in times.items():
        print(
            f"{name:<8} median {statistics.median(taken):.3f} s   fastest {min(taken):.3f} s   "
            f"{statistics.median(ratios[name]):5.2f} times paccel's (quartiles"
            f" {' to '.join(f'{cut:.2f}' for cut in statistics.quantiles(ratios[name], n=4)[::2])})"
        )
    cruft = statistics.median(other / own for other, own in zip(times["cruft"], times["unchecked"], strict=True))
    print(f"cruft takes {cruft:.2f} times what `unchecked` does")
    return 0 if cruft >= 5 else 1


def measure(rounds: int) -> dict[str, list[float]]:
    """Name -> one time per round."""
    tasks: dict[str, Callable[[], float]] = {
        name: lambda tool=merge_tools.TOOLS[name]: seconds(tool) for name in ("paccel", "copier", "cruft")  # type: ignore[misc]
    }
    tasks["unchecked"] = lambda: seconds(merge_tools.paccel, ("python", "-c", merge_tools.WITHOUT_TOOLS))
    tasks |= {name: lambda code=code: floor(code) for name, code in FLOOR.items()}  # type: ignore[misc]
    times: dict[str, list[float]] = {name: [] for name in tasks}
    names = [*tasks]
    for number in range(rounds + 1):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            taken = tasks[name]()
            if number:  # the first round warms disk caches
                times[name].append(taken)
    return times


if __name__ == "__main__":
    sys.exit(main())
