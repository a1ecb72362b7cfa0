"""Several datasets mixed by weights that may change with the step, with an index, so that every promise holds."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch.utils.data import Dataset

from .data.fingerprint import fingerprint
from .data.randomness import key
from .data.shuffle import EpochOrder, shuffled
from .errors import ConfigError

_SHARES = 1 << 20  # weights are rounded to so many parts


class _Stage(NamedTuple):
    """Steps with the same weights: from which place on, and what had been taken from each source by then."""

    start: int
    shares: tuple[int, ...]
    taken: tuple[int, ...]
    carried: tuple[int, ...]  # by source: the fraction of a sample that it is owed, in parts of the divisor


class Mixture(Dataset[Any]):
    """A dataset for a whole run of `num_steps` steps: sample `i` is that of place `i` in it, from one of the sources.

    Pass it to `run.loader(mixture, batch_size)` without `shuffle`, and train for one epoch. Each source is read in an
    order of its own, a function of (seed, source, epoch of the source), and again in another when it is used up. Sources
    follow each other evenly: after any number of samples, each has given its share to within about one sample for each
    source. Nothing is drawn and no list is kept, so a resumed run stands where it stood at once.

    Args:
        sources: Datasets with a length and an index, by name.
        weights: By name, in any unit; 0 leaves a source out. Or a dict from the first step (from 0) of each stage to its
            weights, or a function from the step, counted from 0, to them.
        batch_size: Samples of a step, over all processes: that of `run.loader`.
        num_steps: Steps of the run.
        seed: That of the run.

    Raises:
        ConfigError: A weight has no source or is below 0, a source is empty or has no weight, or no weight is above 0.
    """

    def __init__(
        self,
        sources: Mapping[str, Any],
        weights: Mapping[str, float] | Mapping[int, Mapping[str, float]] | Callable[[int], Mapping[str, float]],
        batch_size: int,
        num_steps: int,
        seed: int,
    ) -> None:
        if batch_size < 1 or num_steps < 1:
            raise ConfigError(f"`batch_size` and `num_steps` must be at least 1, not {batch_size} and {num_steps}")
        if empty := [name for name, source in sources.items() if len(source) == 0]:
            raise ConfigError(f"The source `{empty[0]}` of the mixture is empty")
        self.names, self.datasets = list(sources), list(sources.values())
        self.size, self.seed = batch_size * num_steps, seed
        self._stages = self._make_stages(weights, batch_size, num_steps)
        self._starts = [stage.start for stage in self._stages]
        self._orders: dict[int, tuple[int, EpochOrder]] = {}  # by source: its epoch, and the order in it
        whole = [fingerprint(source)["content"] for source in self.datasets], self.size, seed, self._stages
        self.content_hash = str(whole)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, place: int) -> Any:
        source, number = self.locate(place)
        epoch, at = divmod(number, len(self.datasets[source]))
        known, order = self._orders.get(source, (-1, None))
        if order is None or known != epoch:
            order = shuffled(key(self.seed, f"mixture {self.names[source]}"), epoch + 1, len(self.datasets[source]))
            self._orders[source] = epoch, order
        return self.datasets[source][int(order[at : at + 1])]

    def locate(self, place: int) -> tuple[int, int]:
        """The source of a place, by number, and how many samples of that source come before it."""
        if not 0 <= place < self.size:
            raise IndexError(f"place {place} of {self.size}")
        stage = self._stages[bisect_right(self._starts, place) - 1]
        within = place - stage.start
        before, after = _given(stage, within), _given(stage, within + 1)
        source = next(number for number, count in enumerate(before) if after[number] > count)
        return source, stage.taken[source] + before[source]

    def counts(self, step: int, batch_size: int) -> dict[str, int]:
        """Samples of each source in a step, counted from 0."""
        found = [self.locate(place)[0] for place in range(step * batch_size, (step + 1) * batch_size)]
        return {name: found.count(number) for number, name in enumerate(self.names)}

    def _make_stages(self, weights: Any, batch_size: int, num_steps: int) -> list[_Stage]:
        stages: list[_Stage] = []
        for step, given in _by_step(weights, num_steps):
            shares = self._shares(given, step)
            if stages and stages[-1].shares == shares:
                continue
            start = step * batch_size
            if not stages:
                taken = carried = (0,) * len(shares)
            else:
                last = stages[-1]
                more = _given(last, start - last.start)
                taken = tuple(a + b for a, b in zip(last.taken, more, strict=True))
                carried = _carried(last, start - last.start, shares)
            stages.append(_Stage(start, shares, taken, carried))
        return stages

    def _shares(self, weights: Mapping[str, float], step: int) -> tuple[int, ...]:
        if not isinstance(weights, Mapping):
            raise ConfigError(f"The weights of step {step} must be a dict with one for each source, not {weights!r}")
        if set(weights) != set(self.names):
            raise ConfigError(
                f"The weights of step {step} are for {', '.join(map(str, weights))}, and the sources of the mixture are "
                f"{', '.join(self.names)}: give each a weight, 0 to leave it out"
            )
        values = [float(weights[name]) for name in self.names]
        total = sum(values)
        if not all(0 <= value < float("inf") for value in values) or total <= 0:
            raise ConfigError(f"The weights of step {step} must be 0 or more, and one of them above 0: {dict(weights)}")
        return tuple(max(round(_SHARES * value / total), int(value > 0)) for value in values)


def _by_step(weights: Any, num_steps: int) -> Sequence[tuple[int, Mapping[str, float]]]:
    """The first step of each stage and its weights."""
    if callable(weights):
        return [(step, weights(step)) for step in range(num_steps)]
    if not all(isinstance(step, int) for step in weights):
        return [(0, weights)]
    if not weights or min(weights) != 0:
        raise ConfigError(f"The first stage of the weights must begin at step 0, not at {min(weights, default=None)}")
    return [(step, weights[step]) for step in sorted(weights) if step < num_steps]


def _given(stage: _Stage, places: int) -> list[int]:
    """How many of the first places of a stage each source gets: one more of one source with each place.

    The first source gets its share of all places, the next its share of what is left, and so on.
    """
    counts, left, rest = [], places, sum(stage.shares)
    for share, carried in zip(stage.shares, stage.carried, strict=True):
        count = left if share == rest else (left * share + carried) // rest
        counts.append(count)
        left, rest = left - count, rest - share
    return counts


def _carried(stage: _Stage, places: int, shares: tuple[int, ...]) -> tuple[int, ...]:
    """What each source is owed after a stage, in parts of the divisor of the next one: small weights are not lost."""
    owed, left, rest, next_rest = [], places, sum(stage.shares), sum(shares)
    for share, carried, next_share in zip(stage.shares, stage.carried, shares, strict=True):
        amount = left * share + carried
        last = share == rest
        owed.append(0 if last or next_share == 0 else (amount % rest) * next_rest // rest)
        left, rest, next_rest = left - (left if last else amount // rest), rest - share, next_rest - next_share
    return tuple(owed)
