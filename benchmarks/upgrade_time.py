"""How long an upgrade takes: `paccel upgrade`, `copier update` and `cruft update` on one project with one edit.

    python benchmarks/upgrade_time.py [--rounds 9]

The project is that of the merge benchmark: a user's edit and a change of the template in one file, far apart. Each round
makes all projects anew and times only the upgrade commands, in an order that turns, so that whatever else the machine
does meets all alike; what is compared is the ratio within a round. Every tool must end with the same merged file.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import merge_tools
from merge_fidelity import machine
from merge_files import EPOCHS, STEP, T, train
from merge_words import Scenario

SCENARIO = Scenario("", train(EPOCHS), train(STEP), "clean", train(EPOCHS, STEP))


def seconds(tool: Callable[[Path, Scenario], object]) -> float:
    """The time that the last command of `tool`, its upgrade, takes; checked to have merged."""
    times: list[float] = []
    real = merge_tools.call

    def timed(*command: str, at: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        start = time.perf_counter()
        done = real(*command, at=at, check=check)
        if {"upgrade", "update"} & set(command[1:4]):
            times.append(time.perf_counter() - start)
            assert (at / T).read_text() == SCENARIO.result[T], f"{command} did not merge"
        return done

    merge_tools.call = timed
    folder = Path(tempfile.mkdtemp(prefix="upgrade-"))
    try:
        tool(folder, SCENARIO)
    finally:
        merge_tools.call = real
        shutil.rmtree(folder, ignore_errors=True)
    (taken,) = times
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    tools = {name: merge_tools.TOOLS[name] for name in ("paccel", "copier", "cruft")}
    times: dict[str, list[float]] = {name: [] for name in tools}
    names = [*tools]
    for number in range(rounds + 1):
        for name in names[number % 3 :] + names[: number % 3]:
            taken = seconds(tools[name])
            if number:  # the first round warms the caches of the disk
                times[name].append(taken)
    print(f"{rounds} rounds; {machine()}\n")
    for name, taken in times.items():
        ratios = [other / own for other, own in zip(taken, times["paccel"], strict=True)]
        print(
            f"{name:<8} median {statistics.median(taken):.3f} s   fastest {min(taken):.3f} s"
            f"   {statistics.median(ratios):5.1f} times paccel's (from {min(ratios):.1f} to {max(ratios):.1f})"
        )
    slower = min(
        statistics.median(o / p for o, p in zip(times[n], times["paccel"], strict=True)) for n in ("copier", "cruft")
    )
    return 0 if slower >= 5 else 1


if __name__ == "__main__":
    sys.exit(main())
