"""Batches keep their type on the way to a device; `meta` stands for a GPU."""

from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass, field
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import TensorDataset

from paccel.runtime import ConfigError, Run
from paccel.runtime.data.delivery import cloned, to_device

META = torch.device("meta")
ONES = torch.ones(2)


@dataclass
class Batch:
    images: Any


@dataclass(frozen=True, slots=True)
class Frozen:
    images: torch.Tensor
    count: int = field(init=False, default=3)


class WithAttributes(dict):
    __getattr__ = dict.__getitem__


class Named(list):
    def __init__(self, items: list[Any], name: str) -> None:
        super().__init__(items)
        self.name, self.weights = name, ONES


class Pair(NamedTuple):
    images: torch.Tensor
    name: str


class OneOfAPair(namedtuple("Two", "images name")):
    def __new__(cls, images: torch.Tensor) -> "OneOfAPair":
        return super().__new__(cls, images, "one")


class Graph:
    """Moves itself, as PyG's data does."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def to(self, device: torch.device) -> "Graph":
        return Graph(self.images.to(device))


class MovesInPlace(Graph):
    def to(self, device: torch.device) -> None:  # type: ignore[override]
        self.images = self.images.to(device)


def images_of(batch: Any) -> torch.Tensor:
    if hasattr(type(batch), "__getitem__") and not isinstance(batch, tuple | list):
        return batch["images"]
    return batch[0] if isinstance(batch, list) else batch.images


@pytest.mark.parametrize(
    "batch",
    [
        Batch(ONES),
        Frozen(ONES),
        WithAttributes(images=ONES),
        UserDict(images=ONES),
        OrderedDict(images=ONES),
        MappingProxyType({"images": ONES}),
        Named([ONES], "a"),
        Pair(ONES, "a"),
        OneOfAPair(ONES),
        Graph(ONES),
        MovesInPlace(ONES),
    ],
    ids=lambda batch: type(batch).__name__,
)
def test_a_batch_keeps_its_type_and_its_tensors_are_on_the_device(batch: Any) -> None:
    moved = to_device(batch, META)
    assert type(moved) is type(batch)
    assert images_of(moved).device == META
    assert ONES.device.type == "cpu"
    if isinstance(batch, Named):
        assert (moved.name, moved.weights.device) == ("a", META)


@pytest.mark.slow
def test_classes_of_attrs_and_pydantic_and_what_tokenizers_return_are_moved() -> None:
    attrs = pytest.importorskip("attrs")
    pydantic = pytest.importorskip("pydantic")
    transformers = pytest.importorskip("transformers")
    by_attrs = attrs.make_class("ByAttrs", ["images"], frozen=True)(ONES)
    by_pydantic = pydantic.create_model("ByPydantic", images=(Any, ...))(images=ONES)
    for batch in (by_attrs, by_pydantic, transformers.BatchEncoding({"images": ONES})):
        moved = to_device(batch, META)
        assert type(moved) is type(batch)
        assert images_of(moved).device == META


def test_packed_sequences_and_batches_within_batches_are_moved() -> None:
    moved = to_device({"a": [Batch(pack_sequence([ONES, ONES])), ("text", None, 3)]}, META)
    assert moved["a"][0].images.data.device == META
    assert moved["a"][1] == ("text", None, 3)


class Slotted:
    """A batch without a `__dict__`."""

    __slots__ = "images"

    def __init__(self) -> None:
        self.images = [ONES]


def test_objects_without_tensors_are_not_copied() -> None:
    thing = SimpleNamespace(name="a", rows=[1, 2])
    assert to_device([thing], META)[0] is thing


@pytest.mark.parametrize(
    "thing", [SimpleNamespace(images=ONES), {ONES}, Slotted(), Batch(SimpleNamespace(images=[ONES]))]
)
def test_objects_with_tensors_that_cannot_be_moved_are_named_also_on_the_cpu(thing: Any) -> None:
    name = type(thing.images if isinstance(thing, Batch) else thing).__name__
    with pytest.raises(ConfigError, match=f"holds tensors in `{name}`, which cannot be moved to a device"):
        to_device(thing, META)

    @dataclass
    class Config:
        seed: int = 0

    with Run(Config(), record=False) as run, pytest.raises(ConfigError, match=f"holds tensors in `{name}`"):
        list(run.batches(run.loader(TensorDataset(torch.arange(4)), 2, collate_fn=lambda rows: thing)))


def test_a_copy_of_a_batch_does_not_change_with_it() -> None:
    batch = {"a": [torch.zeros(2)], "b": "text"}
    copy = cloned(batch)
    batch["a"][0].add_(1)
    assert copy["a"][0].tolist() == [0, 0]
    assert copy["b"] == "text"
