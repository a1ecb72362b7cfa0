"""State is encoded as JSON and tensors, and decoded with the same types and bits."""

import enum
import functools
import json
import math
import struct
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.sampled import examples

from paccel.runtime.errors import CheckpointError
from paccel.runtime.storage.encoding import decode, encode
from paccel.runtime.storage.tensorfile import tensor_chunks

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64, torch.uint16, torch.uint32,
]  # fmt: skip


def there_and_back(state: Any) -> Any:
    tree, tensors = encode(state)
    written = safetensors.torch.load(b"".join(tensor_chunks(tensors)))
    return decode(json.loads(json.dumps(tree, allow_nan=False)), written)


def bits(tensor: torch.Tensor) -> bytes:
    plain = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
    return plain.reshape(-1).view(torch.uint8).numpy().tobytes()


def same(a: Any, b: Any) -> bool:
    """Whether two states are bitwise equal, with the same types and order of keys."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return struct.pack(">d", a) == struct.pack(">d", b)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a), list(b)) and all(map(same, a.values(), b.values()))
    return bool(a == b)


@st.composite
def any_tensor(draw: st.DrawFn) -> torch.Tensor:
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 3), max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    size = dtype.itemsize * math.prod(shape)
    raw = torch.randint(0, 2 if dtype == torch.bool else 256, (size,), dtype=torch.uint8, generator=generator)
    tensor = raw.view(dtype).reshape(shape)
    how = draw(st.sampled_from(["plain", "transposed", "sliced", "expanded", "conjugate"]))
    if how == "transposed" and tensor.dim() > 1:
        return tensor.transpose(0, -1)
    if how == "sliced" and tensor.dim() > 0:
        return tensor[::2]
    if how == "expanded":
        return tensor.expand(2, *shape)
    if how == "conjugate" and dtype.is_complex:
        return tensor.conj()
    return tensor


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("$")
keys = scalars | st.tuples(st.integers(), st.text(max_size=2))
arrays = st.sampled_from(
    [np.float32(1.1), np.float64("nan"), np.int8(-3), np.bool_(True), np.arange(6.0).reshape(2, 3).T, np.zeros((0, 2))]
)
states = st.recursive(
    scalars | any_tensor() | arrays,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.just("$"), inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


@examples(300)
@given(states)
def test_any_state_is_decoded_with_its_types_and_bits(state: Any) -> None:
    assert same(there_and_back(state), state)


def test_the_sign_and_payload_of_nan_survive() -> None:
    odd = struct.unpack(">d", bytes.fromhex("fff8000000001234"))[0]
    assert same(there_and_back([odd, math.inf, -math.inf, -0.0, 5e-324]), [odd, math.inf, -math.inf, -0.0, 5e-324])


def test_tied_tensors_are_stored_once_and_stay_tied() -> None:
    weight = torch.randn(3, 4)
    tree, tensors = encode({"a": weight, "b": weight.view(3, 4), "c": weight.clone()})
    assert sorted(tensors) == ["a", "c"]
    back = decode(tree, tensors)
    assert back["a"] is back["b"]
    assert back["a"] is not back["c"]


def test_overlapping_views_become_separate_tensors_with_the_same_values() -> None:
    whole = torch.arange(10.0)
    state = {"all": whole, "part": whole[2:5], "again": whole.view(2, 5), "bits": whole.view(torch.int32)}
    assert same(there_and_back(state), state)


def test_a_dense_layout_survives_and_gaps_do_not() -> None:
    image = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    back = there_and_back({"image": image, "matrix": torch.randn(5, 4).T, "sliced": image[..., ::2]})
    assert back["image"].stride() == image.stride()
    assert back["matrix"].stride() == (1, 4)
    assert back["sliced"].is_contiguous()


def test_tensors_are_named_by_their_places_without_collisions() -> None:
    t = [torch.full((1,), float(i)) for i in range(5)]
    state = {"a": {"b": t[0]}, "a.b": t[1], "__metadata__": t[2], 1: {2: t[3]}, "\ud800": t[4]}
    tree, tensors = encode(state)
    assert set(tensors) == {"a.b", "a.b#2", "__metadata__#2", "1.2", "\\ud800"}
    assert same(decode(json.loads(json.dumps(tree)), tensors), state)


def test_subclasses_become_their_plain_types() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    back = there_and_back([OrderedDict(a=1), torch.Size([1, 2]), parameter])
    assert same(back, [{"a": 1}, (1, 2), torch.ones(2)])
    assert not back[2].requires_grad


def test_an_optimizer_state_is_restored() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert same(there_and_back(optimizer.state_dict()), optimizer.state_dict())


class Colour(enum.IntEnum):
    RED = 1


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclass(frozen=True)
class Position:
    step: int
    seen: set[str]
    size: int = field(init=False, default=0)


class OddText(str):
    pass


class Runs:
    def __reduce__(self) -> Any:
        return print, ("code",)


@pytest.mark.parametrize(
    ("thing", "kind"),
    [
        ({OddText("b")}, "OddText"),
        (OddText("a"), "OddText"),
        (namedtuple("Pair", "a b")(1, 2), "Pair"),
        (torch.Generator(), "torch._C.Generator"),
        (functools.partial(len), "partial"),
        (Position, "type"),
        (len, "builtin_function_or_method"),
        (Runs(), "Runs"),
        (torch.ones(2, 2).to_sparse(), "sparse_coo"),
        (torch.ones(2, device="meta"), "meta"),
        (torch.ones(2, dtype=torch.complex128), "complex128"),
        (np.array(["text"]), "<U4"),
        (np.array([object()]), "object"),
        (np.ones(2, dtype=">f4"), ">f4"),
        (np.datetime64("2020-01-01"), "datetime64"),
        ({torch.ones(1): 1}, "Tensor"),
    ],
)
def test_other_types_are_refused_with_place_and_type(thing: Any, kind: str) -> None:
    with pytest.raises(CheckpointError, match=r"`groups\.1\.odd`") as caught:
        encode({"groups": [0, {"odd": thing}]})
    assert kind in str(caught.value)


def test_a_state_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(CheckpointError, match="contains itself"):
        encode({"a": loop})


@pytest.mark.parametrize(
    "tree",
    [{"$": "tensor", "name": "gone"}, {"$": "code"}, {"$": "float", "bits": "zz"}, {"$": "tuple"}, {"$": ["a"]}],
)
def test_an_invalid_tree_is_refused(tree: Any) -> None:
    with pytest.raises(CheckpointError, match="changed after it was written"):
        decode([tree], {})


MORE = [
    Counter("aab"), defaultdict(list, {"b": [1], 3: [2.5]}), defaultdict(int), Decimal("1.50"),
    deque([1, [2]], maxlen=3), deque(), {1, "a", None, (2, b"c")}, frozenset({1.5}), b"\x00\xff", bytearray(b"a"), 1 - 2j,
    datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=UTC), date(2024, 2, 29), time(1, 2, 3), timedelta(-1, 2, 3),
    Path("a/b"), Colour.RED, torch.bfloat16, torch.device("cuda", 1), Pair(1, torch.ones(2)), Position(3, {"x"}),
    {Colour.RED: 1, np.int64(3): 2, b"k": 3, Path("p"): 4, frozenset({1}): 5, date(2024, 1, 1): 6},
]  # fmt: skip


@pytest.mark.parametrize("thing", MORE, ids=lambda thing: type(thing).__name__)
def test_other_types_of_python_and_pytorch_are_restored(thing: Any) -> None:
    back = there_and_back({"groups": [thing]})["groups"][0]
    if isinstance(thing, Pair):
        assert type(back) is Pair
        assert torch.equal(back.b, thing.b)
    else:
        assert type(back) is type(thing)
        assert back == thing
    assert getattr(back, "maxlen", None) == getattr(thing, "maxlen", None)


def test_a_restored_counter_and_defaultdict_keep_working() -> None:
    found = decode(*encode({"seen": Counter(a=1), "rows": defaultdict(list)}))
    found["seen"]["b"] += 1
    found["rows"]["c"].append(2)
    assert found == {"seen": {"a": 1, "b": 1}, "rows": {"c": [2]}}


@pytest.mark.slow
def test_equal_sets_have_equal_bytes_in_any_process() -> None:
    code = "from paccel.runtime.storage.encoding import encode; print(encode({'a', 'b', 'c', 1, None, ('d', 2)})[0])"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_a_class_that_the_script_does_not_have_is_named_and_nothing_is_imported() -> None:
    for kind in ("enum", "dataclass", "namedtuple"):
        with pytest.raises(CheckpointError, match="no class `this:Zen`"):
            decode({"$": kind, "class": "this:Zen", "name": "A", "fields": {}}, {})
    assert "this" not in sys.modules
    for kind in ("enum", "dataclass", "namedtuple"):  # and no other class does
        with pytest.raises(CheckpointError):
            decode({"$": kind, "class": "subprocess:Popen", "name": "A", "fields": {"args": "true"}}, {})


def test_strides_that_need_more_memory_than_the_tensor_are_refused() -> None:
    with pytest.raises(CheckpointError, match="strides"):
        decode({"$": "tensor", "name": "a", "stride": [10**15, 1]}, {"a": torch.ones(2, 2)})
