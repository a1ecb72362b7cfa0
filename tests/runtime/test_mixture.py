"""Mixtures: each source gets its share, in its own order, whatever the weights do."""

import pickle

import pytest
from support.loading import indices_of_steps, make
from torch.utils.data import Dataset

from paccel.runtime.errors import ConfigError
from paccel.runtime.mixture import Mixture


class Named(Dataset):
    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[str, int]:
        return self.name, index


SOURCES = {"web": Named("web", 50), "code": Named("code", 7), "books": Named("books", 1)}


def mixture(weights: object, batch_size: int = 8, num_steps: int = 400, seed: int = 0) -> Mixture:
    return Mixture(SOURCES, weights, batch_size, num_steps, seed)  # type: ignore[arg-type]


def changing(step: int) -> dict[str, float]:
    return {"web": 400 - step, "code": step, "books": 1}


@pytest.mark.parametrize(
    "weights",
    [
        {"web": 5, "code": 3, "books": 2},
        {"web": 0.999, "code": 0, "books": 0.001},
        {0: {"web": 1, "code": 0, "books": 0}, 100: {"web": 1, "code": 1, "books": 0.01}},
        changing,
    ],
)
def test_after_any_step_each_source_has_contributed_its_share_to_within_a_few_samples(weights: object) -> None:
    mixed = mixture(weights)
    due, given = dict.fromkeys(SOURCES, 0.0), dict.fromkeys(SOURCES, 0)
    for step in range(400):
        now = weights(step) if callable(weights) else weights
        if 0 in now:
            now = now[max(first for first in now if first <= step)]
        for name, weight in now.items():
            due[name] += 8 * weight / sum(now.values())
        for name, count in mixed.counts(step, 8).items():
            given[name] += count
            assert abs(given[name] - due[name]) < 3, (step, name)
        assert sum(given.values()) == 8 * (step + 1)
    assert given["books"] > 0


@pytest.mark.parametrize("weights", [{"web": 5, "code": 3, "books": 2}, pytest.param(changing, marks=pytest.mark.slow)])
def test_each_source_is_read_whole_in_each_of_its_epochs_in_a_new_order(weights: object) -> None:
    mixed = mixture(weights)
    seen: dict[str, list[int]] = {name: [] for name in SOURCES}
    for place in range(len(mixed)):
        name, index = mixed[place]
        source, number = mixed.locate(place)
        assert (list(SOURCES)[source], number) == (name, len(seen[name]))
        seen[name].append(index)
    for name, indices in seen.items():
        size = len(SOURCES[name])
        epochs = [indices[first : first + size] for first in range(0, len(indices) - size, size)]
        assert all(sorted(epoch) == list(range(size)) for epoch in epochs)
        assert size < 5 or len({tuple(epoch) for epoch in epochs}) > 0.95 * len(epochs) > 3
    assert [mixture(weights, seed=1)[place] for place in range(99)] != [mixed[place] for place in range(99)]


def test_a_place_is_the_same_on_any_processes_in_a_worker_and_after_a_resume() -> None:
    mixed = mixture(changing)
    alone = indices_of_steps([make(mixed, shuffle=False)], 1, 1)
    two = indices_of_steps([make(mixed, shuffle=False, rank=rank, num_processes=2) for rank in range(2)], 1, 2)
    assert alone == two == [list(range(step * 8, step * 8 + 8)) for step in range(400)]
    copied = pickle.loads(pickle.dumps(mixed))
    assert [copied[place] for place in (3199, 5, 1777)] == [mixed[place] for place in (3199, 5, 1777)]


def test_a_billion_samples_take_neither_time_nor_memory() -> None:
    large = Mixture(SOURCES, {"web": 0.9, "code": 0.1, "books": 1e-4}, 1000, 10**6, 0)
    assert sum(large.counts(999_999, 1000).values()) == 1000
    assert len(large._stages) == 1


def test_other_weights_are_other_data() -> None:
    same, other = {"web": 5, "code": 3, "books": 2}, {"web": 5, "code": 3, "books": 3}
    hashes = [make(mixture(w), shuffle=False).describe() for w in (same, dict(same), other)]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"web": 1, "code": 1}, "are for web, code, but the sources of the mixture are web, code, books"),
        ({"web": 1, "code": -1, "books": 1}, "must be finite and at least 0, and not all 0"),
        ({"web": 0, "code": 0, "books": 0}, "must be finite and at least 0, and not all 0"),
        ({"web": float("nan"), "code": 0, "books": 0}, "must be finite and at least 0"),
        (lambda step: [1, 2, 3], r"The weights of step 0 must be a dict with one for each source, not \[1, 2, 3\]"),
        ({5: {"web": 1, "code": 1, "books": 1}}, "must begin at step 0, not at 5"),
    ],
)
def test_invalid_weights_are_an_error(weights: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mixture(weights)


def test_an_empty_source_and_no_steps_are_errors() -> None:
    with pytest.raises(ConfigError, match="The source `none` of the mixture is empty"):
        Mixture({"none": []}, {"none": 1}, 8, 10, 0)
    with pytest.raises(ConfigError, match="must be at least 1, not 8 and 0"):
        mixture({}, num_steps=0)
