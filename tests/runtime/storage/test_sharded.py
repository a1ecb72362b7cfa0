"""Checkpoints that several processes write together: parts, indexes, and what a kill or a full disk leaves."""

import hashlib
import itertools
import json
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.sampled import ALL
from support.saved import write_objects
from support.sharded_save import part_of, save_as_one, state_of, values
from support.together import new_process
from torch import Tensor, nn

from paccel.runtime.errors import CheckpointError
from paccel.runtime.storage import stored
from paccel.runtime.storage.checkpoint import (
    encode_objects,
    list_checkpoints,
    read_checkpoint,
    verify_checkpoint,
    write_sharded,
)
from paccel.runtime.storage.manifest import manifest_bytes
from paccel.runtime.storage.shards import Box, Shard, problem_of
from paccel.runtime.storage.stored import Stored


def whole_state(number: int) -> dict[str, Any]:
    return {"model": {**values(number), "buffer": torch.full((3,), number)}, "meter": {"count": number}}


class Threads:
    """Threads in place of processes: they wait for each other, and an error in one is raised in all."""

    def __init__(self, count: int) -> None:
        self.count, self.barrier, self.found = count, threading.Barrier(count, timeout=20), {}

    def run(self, function: Callable[["Threads.One"], Any]) -> list[BaseException | None]:
        errors: list[BaseException | None] = [None] * self.count

        def call(rank: int) -> None:
            try:
                function(Threads.One(self, rank))
            except BaseException as error:
                errors[rank] = error

        threads = [threading.Thread(target=call, args=(rank,)) for rank in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return errors

    class One:
        def __init__(self, all_of_them: "Threads", rank: int) -> None:
            self.threads, self.rank, self.num_processes = all_of_them, rank, all_of_them.count

        def on_all(self, function: Callable[[], Any]) -> list[Any]:
            try:
                self.threads.found[self.rank] = function(), None
            except Exception as error:
                self.threads.found[self.rank] = None, error
            self.threads.barrier.wait()
            found = dict(self.threads.found)
            self.threads.barrier.wait()
            error = found[self.rank][1] or next((e for _, e in found.values() if e is not None), None)
            if error is not None:
                raise error
            return [value for value, _ in found.values()]

        def on_main(self, function: Callable[[], Any]) -> Any:
            return self.on_all(function if self.rank == 0 else lambda: None)[0]


def save(folder: Path, number: int, count: int = 2) -> list[BaseException | None]:
    def write(processes: Threads.One) -> None:
        encoded = encode_objects(state_of(number, processes.rank, count))
        write_sharded(folder / f"step-{number}", encoded, {"step": number}, processes)

    return Threads(count).run(write)


def check(found: dict[str, Any], number: int) -> None:
    expected = whole_state(number)
    assert list(found) == list(expected)
    assert list(found["model"]) == list(expected["model"])
    for name, tensor in expected["model"].items():
        assert found["model"][name].dtype == tensor.dtype
        assert torch.equal(found["model"][name], tensor), name
    assert found["meter"] == expected["meter"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "BLOCK", 5000)  # so that each part has several


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_sharded_checkpoint_is_read_whole_and_in_parts(tmp_path: Path, count: int) -> None:
    assert save(tmp_path, 4, count) == [None] * count
    path = tmp_path / "step-4"
    assert [verify_checkpoint(path, rank, 3) for rank in range(3)] == [None] * 3
    moved = shutil.move(path, tmp_path / "elsewhere")
    found, metadata = read_checkpoint(Path(moved))
    assert metadata == {"step": 4}
    check(found, 4)
    lazily, _ = read_checkpoint(Path(moved), lazily=True)
    tensors = lazily["model"]
    assert {type(tensors[name]) for name in values(4)} == {Stored}
    check(lazily, 4)
    for name, full in values(4).items():
        for other in (2, 5):
            for rank in range(other):
                for dimension in range(full.dim()):
                    shard = part_of(full, rank, other, dimension)
                    box = Box(shard.offset, tuple(shard.part.shape))
                    assert torch.equal(tensors[name].part(box), shard.part)


def test_reading_a_part_reads_only_its_blocks_and_detects_damage_in_them(tmp_path: Path) -> None:
    save(tmp_path, 1)
    file = tmp_path / "step-1" / "model-00001-of-00002.safetensors"
    rows = read_checkpoint(tmp_path / "step-1", lazily=True)[0]["model"]["rows"]
    content = bytearray(file.read_bytes())
    content[rows.pieces[0].start + 100] ^= 1  # in the first row
    file.write_bytes(content)
    assert torch.equal(rows.part(Box((100, 0), (200, 70))), values(1)["rows"][100:300])
    with pytest.raises(CheckpointError, match=r"model-00001-of-00002\.safetensors` has the right size and the wrong"):
        rows.part(Box((0, 0), (1, 70)))
    file.write_bytes(content[:-100])
    assert "bytes instead of" in (verify_checkpoint(tmp_path / "step-1") or "")


def test_every_kind_of_damage_is_found_by_the_process_that_looks_at_it(tmp_path: Path) -> None:
    save(tmp_path, 1)
    path = tmp_path / "step-1"
    files = sorted(path.iterdir())
    assert [file.name for file in files] == [
        "index-00001-of-00002.json",
        "index-00002-of-00002.json",
        "manifest.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "state.json",
    ]
    for file in files:
        content = file.read_bytes()
        for place in sorted({0, 9, len(content) // 3, len(content) // 2, len(content) - 2}):
            flipped = bytearray(content)
            flipped[place] ^= 4
            file.write_bytes(flipped)
            assert any(verify_checkpoint(path, rank, 2) for rank in range(2)), (file.name, place)
        for torn in (content[:-1], content + b"x", b""):
            file.write_bytes(torn)
            assert any(verify_checkpoint(path, rank, 2) for rank in range(2)), file.name
        file.unlink()
        assert any(verify_checkpoint(path, rank, 2) for rank in range(2)), file.name
        file.write_bytes(content)
    assert verify_checkpoint(path) is None


def test_a_tensor_without_any_part_is_an_error(tmp_path: Path) -> None:
    def write(processes: Threads.One) -> None:
        state = state_of(1, processes.rank, 2)
        if processes.rank == 1:
            del state["model"]["rows"]
        write_sharded(tmp_path / "step-1", encode_objects(state), {}, processes)

    errors = Threads(2).run(write)
    said = "`rows` of `model`, with shape (301, 70), is not whole: its parts have 10570 of its 21070 elements"
    assert all(said in str(error) for error in errors)
    assert not list(tmp_path.iterdir())


def test_processes_that_see_different_folders_are_an_error(tmp_path: Path) -> None:
    def write(processes: Threads.One) -> None:
        folder = tmp_path / str(processes.rank)
        (folder / "step-1.tmp").mkdir(parents=True) if processes.rank else folder.mkdir()
        write_sharded(folder / "step-1", encode_objects(state_of(1, processes.rank, 2)), {}, processes)

    errors = Threads(2).run(write)
    assert all("has no part of process 1: all processes must see one folder" in str(error) for error in errors)
    assert not list((tmp_path / "0").iterdir())


def forge(path: Path, change: Callable[[dict[str, Any]], None], number: int = 1) -> None:
    """Change an index, and the manifest to match, like an attacker who knows the format."""
    index = path / f"index-0000{number}-of-00002.json"
    content = json.loads(index.read_text())
    change(content["model"])
    index.write_text(json.dumps(content))
    manifest = json.loads((path / "manifest.json").read_text())
    data = index.read_bytes()
    manifest["files"][index.name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    del manifest["sha256"]
    (path / "manifest.json").write_bytes(manifest_bytes(manifest))


def rows_with(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda model: model["tensors"]["rows"].update(fields)


FORGED: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "a file outside": (lambda m: m.update(file="../secret.safetensors"), r"`\.\./secret\.safetensors` is no file of"),
    "an absolute path": (lambda m: m.update(file="/etc/secret.safetensors"), "is no file of a checkpoint"),
    "no text for a file": (lambda m: m.update(file=7), "is no index of a checkpoint"),
    "no tensors": (lambda m: m.update(tensors=[]), "is no index of a checkpoint"),
    "overlap": (rows_with(offset=[100, 0]), "two of its parts overlap"),
    "outside": (rows_with(offset=[0, 1]), "one of its parts lies outside of it"),
    "another number of dimensions": (
        rows_with(offset=[0], size=[10570], rows=1175),
        "one of its parts lies outside of it",
    ),
    "a hole": (lambda m: m["tensors"].pop("rows"), "its parts have 10500 of its 21070 elements"),
    "less than there is": (rows_with(size=[17, 70], sha256=[""]), "its parts have 11690 of its 21070 elements"),
    "another shape": (rows_with(shape=[302, 70]), "`rows` of `model` has two shapes or types"),
    "another type": (rows_with(dtype="F64"), "`rows` of `model` has two shapes or types"),
    "an unknown type": (rows_with(dtype="F7"), "the type `F7` is unknown"),
    "a negative place": (rows_with(start=-8), "it has a part of the size"),
    "a place that is no number": (rows_with(start="8"), "is no index of a checkpoint"),
    "no hashes": (rows_with(sha256=[]), "it has 0 hashes of 9 blocks"),
    "blocks without rows": (rows_with(rows=0), "in blocks of 0 rows"),
}


@pytest.mark.parametrize("kind", FORGED)
def test_an_index_that_was_forged_is_refused_whatever_it_says(tmp_path: Path, kind: str) -> None:
    save(tmp_path, 1)
    change, says = FORGED[kind]
    forge(tmp_path / "step-1", change, number=2 if kind == "overlap" else 1)
    assert re.search(says, verify_checkpoint(tmp_path / "step-1") or "")
    with pytest.raises(CheckpointError, match=says):
        read_checkpoint(tmp_path / "step-1", lazily=True)


def test_a_hole_hidden_by_an_overlap_is_found_in_any_dimension() -> None:
    halves = [Box((0, 0), (2, 4)), Box((2, 0), (2, 4))]
    assert problem_of(halves, (4, 4)) is None
    assert problem_of(halves[:1] * 2, (4, 4)) == "two of its parts overlap"
    quarters = [Box((a, b), (2, 2)) for a in (0, 2) for b in (0, 2)]
    assert problem_of(quarters, (4, 4)) is None
    assert problem_of([*quarters[:3], quarters[0]], (4, 4)) == "two of its parts overlap"
    assert problem_of([Box((0, 0), (4, 2)), Box((0, 1), (4, 2))], (4, 4)) == "two of its parts overlap"
    assert problem_of([Box((), ())], ()) is None
    assert problem_of([Box((), ())] * 2, ()) == "two of its parts overlap"
    assert problem_of([Box((0, 0), (0, 4))], (0, 4)) is None
    assert problem_of([], (0, 4)) is None
    assert problem_of([], (1, 4)) == "its parts have 0 of its 4 elements"


def test_parts_of_two_saves_are_not_mixed_and_other_files_are_ignored(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    one, two = (tmp_path / f"step-{number}" for number in (1, 2))
    (one / "model-00003-of-00003.safetensors").write_bytes(b"of somebody else")
    assert verify_checkpoint(one) is None
    for kind in ("model-00002-of-00002.safetensors", "index-00002-of-00002.json"):
        shutil.copy(two / kind, one / kind)
        assert f"`{kind}` has the right size and the wrong content" in (verify_checkpoint(one) or "")
    shutil.copy(two / "manifest.json", one)
    assert "index-00001-of-00002.json` has the right size and the wrong content" in (verify_checkpoint(one) or "")


TENSORS = {
    "no rows": torch.empty(0, 5),
    "no columns": torch.empty(5, 0),
    "a number": torch.tensor(3.5),
    "one element": torch.ones(1, 1),
    "bf16": torch.arange(21.0).reshape(7, 3).bfloat16(),
    "fp8": torch.arange(21.0).reshape(7, 3).to(torch.float8_e4m3fn),
    "bool": torch.arange(21).reshape(7, 3) % 2 == 0,
    "complex": torch.complex(torch.arange(6.0), torch.ones(6)).conj(),
    "unsigned": torch.arange(9).to(torch.uint16),
    "transposed": torch.arange(48.0).reshape(6, 8).t(),
    "sliced": torch.arange(100.0).reshape(10, 10)[::2, 1::3],
    "expanded": torch.arange(5.0)[:, None].expand(5, 4),
}


def test_tensors_of_any_kind_come_back_from_parts_and_from_the_main_process(tmp_path: Path) -> None:
    def write(processes: Threads.One) -> None:
        parts = {n: part_of(t, processes.rank, 2, 0) for n, t in TENSORS.items() if t.dim()}
        number = TENSORS["a number"] if processes.rank else None  # process 1 writes it
        parts["a number"] = Shard((), torch.float32, (), number, lambda: TENSORS["a number"])
        encoded = encode_objects({"parts": parts, "whole": TENSORS})
        write_sharded(tmp_path / "step-1", encoded, {}, processes)

    assert Threads(2).run(write) == [None, None]
    assert [verify_checkpoint(tmp_path / "step-1", rank, 2) for rank in range(2)] == [None, None]
    for lazily in (False, True):
        found, _ = read_checkpoint(tmp_path / "step-1", lazily=lazily)
        for kind, (name, tensor) in itertools.product(("parts", "whole"), TENSORS.items()):
            assert (found[kind][name].dtype, found[kind][name].shape) == (tensor.dtype, tensor.shape)
            assert found[kind][name].tolist() == tensor.tolist(), (kind, name)


def test_an_unsupported_dtype_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"`model` cannot be saved: `x` is a tensor .* complex128 tensor, sharded"
    ):
        encode_objects({"model": {"x": part_of(torch.ones(4, dtype=torch.complex128), 0, 2, 0)}})


def test_pytorch_s_own_reader_reads_the_parts(tmp_path: Path) -> None:
    from torch.distributed import checkpoint

    save(tmp_path, 2)
    found = {name: torch.zeros_like(tensor) for name, tensor in values(2).items()}
    reader = checkpoint.HuggingFaceStorageReader(str(tmp_path / "step-2"))
    checkpoint.load(found, storage_reader=reader, no_dist=True)
    assert all(torch.equal(found[name], tensor) for name, tensor in values(2).items())


class TestStored:
    """A tensor on disk behaves like one in memory, and reads no more than needed."""

    @pytest.fixture
    def on_disk(self, tmp_path: Path) -> Stored:
        write_objects(tmp_path / "step-1", {"model": {"weight": torch.arange(40000.0).reshape(200, 200)}}, {})
        found: Stored = read_checkpoint(tmp_path / "step-1", lazily=True)[0]["model"]["weight"]
        assert type(found) is Stored
        return found

    def test_shape_and_dtype_are_known_without_the_file(self, on_disk: Stored) -> None:
        on_disk.pieces[0].file.unlink()
        assert (on_disk.shape, on_disk.dtype, on_disk.dim()) == ((200, 200), torch.float32, 2)
        assert (on_disk.stride(), on_disk.numel()) == ((200, 1), 40000)
        with pytest.raises(CheckpointError, match=r"model\.safetensors` cannot be read"):
            on_disk + 1

    def test_operations_read_its_values(self, on_disk: Stored) -> None:
        whole = torch.arange(40000.0).reshape(200, 200)
        assert type(on_disk + 0) is Tensor
        assert torch.equal(on_disk * 2, whole * 2)
        assert torch.equal(torch.cat([on_disk, on_disk]), torch.cat([whole, whole]))
        assert torch.equal(on_disk[3:5, 7], whole[3:5, 7])
        assert torch.equal(on_disk.T, whole.T)
        assert torch.equal(on_disk.to(torch.float64), whole.double())
        assert on_disk.numpy()[1, 1] == 201.0

    def test_a_module_loads_it_into_any_type_and_layout(self, on_disk: Stored) -> None:
        whole = torch.arange(40000.0).reshape(200, 200)
        model = nn.Linear(200, 200, bias=False)
        pointer = model.weight.data_ptr()
        model.load_state_dict({"weight": on_disk})
        assert torch.equal(model.weight, whole)
        assert model.weight.data_ptr() == pointer
        model.bfloat16().load_state_dict({"weight": on_disk})
        assert torch.equal(model.weight, whole.bfloat16())
        model = nn.Linear(200, 200, bias=False)
        model.weight.data = model.weight.data.t()
        model.load_state_dict({"weight": on_disk})
        assert torch.equal(model.weight, whole)
        assert model.weight.stride() == (1, 200)
        with pytest.raises(RuntimeError, match="size mismatch for weight"):
            nn.Linear(2, 2, bias=False).load_state_dict({"weight": on_disk})

    def test_strides_and_ties_are_restored(self, tmp_path: Path) -> None:
        images = torch.randn(20, 30, 8, 9).to(memory_format=torch.channels_last)
        write_objects(tmp_path / "step-1", {"a": {"x": images, "y": images}}, {})
        found = read_checkpoint(tmp_path / "step-1", lazily=True)[0]["a"]
        assert found["x"] is found["y"]
        assert found["x"].whole().stride() == images.stride()
        assert torch.equal(found["x"], images)


# Kills and full disks, in processes


class AllOf:
    """Two processes under a time limit."""

    def __init__(self, folder: Path, number: int, faults: dict[int, tuple[str, int]]) -> None:
        meet = folder / f"meet-{time.monotonic_ns()}"
        self.processes = [new_process(save_as_one, folder, number, r, str(meet), faults.get(r)) for r in range(2)]

    def codes(self) -> list[int]:
        for process in self.processes:
            process.start()
        deadline = time.monotonic() + 60
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        late = [process for process in self.processes if process.is_alive()]
        for process in late:
            process.kill()
        assert not late, "a process hung"
        return [process.exitcode for process in self.processes]


def newest_valid(folder: Path) -> int:
    return next(step for step, path in list_checkpoints(folder) if verify_checkpoint(path) is None)


@pytest.mark.slow
@pytest.mark.timeout(0 if ALL else 300)
@pytest.mark.parametrize("kind", ["kill", "full"])
def test_at_any_write_of_any_process_a_kill_or_a_full_disk_leaves_a_good_checkpoint_and_no_process_hangs(
    tmp_path: Path, kind: str
) -> None:
    assert AllOf(tmp_path, 1, {}).codes() == [0, 0], (tmp_path / "0.err").read_text()
    numbers = [int((tmp_path / f"points-{rank}").read_text()) for rank in range(2)]
    assert numbers[0] > numbers[1] > 5
    cases = [(rank, at) for rank in range(2) for at in range(1, numbers[rank] + 1)]
    checkpoints = tmp_path / "checkpoints"
    for rank, at in cases if ALL else cases[(0 if kind == "kill" else 2) :: 5]:
        for path in checkpoints.iterdir():
            if path.name != "step-1":
                shutil.rmtree(path)
        codes = AllOf(tmp_path, 2, {rank: (kind, at)}).codes()
        saved = [step for step, _ in list_checkpoints(checkpoints)]
        assert codes[rank] in ((9,) if kind == "kill" else (0, 3)), (rank, at)
        if codes != [0, 0]:
            assert codes[1 - rank] in (0, 3), (rank, at)
        assert newest_valid(checkpoints) == max(saved), (rank, at)
        check(read_checkpoint(checkpoints / f"step-{max(saved)}")[0], max(saved))
        if kind == "full":
            assert not list(checkpoints.glob("*.tmp"))
            assert codes == ([0, 0] if at == 1 and rank == 0 else [3, 3]), (rank, at)
    assert AllOf(tmp_path, 3, {}).codes() == [0, 0]
    assert sorted(path.name for path in checkpoints.iterdir() if path.name != "step-2") == ["step-1", "step-3"]
