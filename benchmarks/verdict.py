"""Whether the verdicts of `paccel compare` hold: false positives, and the seeds needed to see a true effect.

    python benchmarks/verdict.py FOLDER [--seeds 60] [--comparisons 200] [--template minimal | language-model]

Trains a project with two learning rates that differ by 10 %, for so many seeds each, in FOLDER; existing runs are not trained
again. Then it compares these real scores:

- *A/A*: two groups without a true difference. Paired: the two runs of each of n seeds, assigned to the groups by a coin
  toss. Unpaired: runs of one learning rate with different seeds. It counts how often the verdict is `better` or `worse`.
- *A true effect*: the number of seeds that the spread of these scores requires, and how often that many find the effect:
  groups of real scores are drawn at random, and the effect is added to one. The mean difference of the two learning rates
  is subtracted first, so that the added effect is the only one.
"""

import argparse
import math
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from paccel.runs import statistics
from paccel.runs.folder import find_runs
from paccel.runs.scores import choose_metric, points
from paccel.runs.statistics import paired, seeds_to_see, unpaired

SETTINGS = {
    "minimal": {"epochs": 8},
    "language-model": {"max_steps": 100, "width": 32, "context": 64, "eval_every": 100, "limit_batches": 100},
}
RATES = {"minimal": (2e-3, 2.2e-3), "language-model": (7e-3, 7.7e-3)}
METRICS = {"minimal": "eval/accuracy", "language-model": "eval/loss"}

TRAIN = """
import contextlib, io, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, ".")
import train
settings = {settings!r}
for seed in range({seeds}):
    for rate in {rates!r}:
        folder = Path("runs") / f"rate-{{rate}}-seed-{{seed}}"
        if not folder.exists():
            with contextlib.redirect_stdout(io.StringIO()):
                train.main(train.Config(seed=seed, learning_rate=rate, run_dir=folder, **settings))
"""


def scores(folder: Path, template: str, seeds: int) -> tuple[list[float], list[float]]:
    """Train missing runs, and return the final score of each seed for both learning rates."""
    project = folder / template
    if not project.exists():
        command = [sys.executable, "-m", "paccel", "new", str(project), "--template", template, "--no-input"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    program = TRAIN.format(settings=SETTINGS[template], rates=RATES[template], seeds=seeds)
    subprocess.run([sys.executable, "-c", program], cwd=project, check=True)
    runs = find_runs(project).runs
    metric = choose_metric(runs, METRICS[template])
    assert metric is not None
    final = {
        (run.settings["learning_rate"], run.settings["seed"]): points(run.rows(metric.name), metric.name)[-1].value
        for run in runs
        if run.state == "finished"
    }
    first, second = ([final[rate, seed] for seed in range(seeds)] for rate in RATES[template])
    return first, second


def false_positives(first: Sequence[float], second: Sequence[float], size: int, times: int) -> dict[str, int]:
    """How many of the A/A comparisons with `size` seeds are called a difference, by method."""
    draw = random.Random(size)
    found = {"paired": 0, "unpaired": 0}
    for _ in range(times):
        pairs = [(first[place], second[place]) for place in draw.sample(range(len(first)), size)]
        pairs = [pair if draw.random() < 0.5 else pair[::-1] for pair in pairs]
        a, b = zip(*pairs, strict=True)
        found["paired"] += is_called(paired(a, b))
        group = draw.sample(first, 2 * size)
        found["unpaired"] += is_called(unpaired(group[:size], group[size:]))
    return found


def is_called(estimate: statistics.Estimate) -> bool:
    """Whether the verdict is a difference; never if the scores have no spread."""
    return estimate.error > 0 and estimate.p < statistics.LEVEL


def interval(count: int, times: int) -> tuple[float, float]:
    """The 95 % interval of a proportion, by Wilson (1927)."""
    share, z = count / times, 1.96
    middle = share + z**2 / (2 * times)
    reach = z * math.sqrt(share * (1 - share) / times + z**2 / (4 * times**2))
    return (middle - reach) / (1 + z**2 / times), (middle + reach) / (1 + z**2 / times)


def found_share(
    first: Sequence[float], second: Sequence[float], effect: float, size: int, times: int, pairs: bool
) -> float:
    """How often a true effect is found with `size` seeds of each group, drawn with replacement."""
    draw = random.Random(size)
    centred = [b - fmean(second) + fmean(first) + effect for b in second]
    found = 0
    for _ in range(times):
        places = draw.choices(range(len(first)), k=size)
        others = places if pairs else draw.choices(range(len(first)), k=size)
        a, b = [first[place] for place in places], [centred[place] for place in others]
        found += is_called(paired(a, b) if pairs else unpaired(a, b))
    return found / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--comparisons", type=int, default=200)
    parser.add_argument("--template", choices=sorted(SETTINGS), default="minimal")
    given = parser.parse_args()
    first, second = scores(given.folder.absolute(), given.template, given.seeds)
    differences = [b - a for a, b in zip(first, second, strict=True)]
    spreads = stdev(first), stdev(second), stdev(differences)
    print(f"{given.template}: {METRICS[given.template]}, {given.seeds} seeds of each of two learning rates")
    print(f"means {fmean(first):.5f} and {fmean(second):.5f}")
    print(f"standard deviation {spreads[0]:.5f} and {spreads[1]:.5f}, of the differences in pairs {spreads[2]:.5f}")
    for size in (3, 5, 10):
        found = false_positives(first, second, size, given.comparisons)
        shares = []
        for name, count in found.items():
            low, high = interval(count, given.comparisons)
            shares.append(f"{name} {count} ({count / given.comparisons:.1%}, {low:.1%} to {high:.1%})")
        print(f"A/A, {size} seeds, called a difference of {given.comparisons}: {', '.join(shares)}")
    effect = 0.003 if given.template == "minimal" else 0.01 * fmean(first)
    for name, given_spreads in (("paired", spreads[2:]), ("unpaired", spreads[:2])):
        size = seeds_to_see(effect, *given_spreads)
        share = (
            "" if size is None else f", found in {found_share(first, second, effect, size, 1000, name == 'paired'):.1%}"
        )
        print(f"a true effect of {effect:.4g}, {name}: {size} seeds of each{share}")


if __name__ == "__main__":
    main()
