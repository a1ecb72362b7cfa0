"""Checkpoints and weights are complete or not there, whatever happens during a write."""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from support.points import Points
from support.saved import write_objects
from torch import nn

from paccel.runtime.errors import CheckpointError
from paccel.runtime.storage.checkpoint import (
    list_checkpoints,
    read_checkpoint,
    remove_checkpoint,
    verify_checkpoint,
)
from paccel.runtime.storage.files import atomic_write, json_bytes
from paccel.runtime.storage.tensorfile import dtype_name, tensor_chunks
from paccel.runtime.storage.weights import read_weights, write_weights


def objects(step: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(step)
    weight = torch.randn(4, 3, generator=generator)
    return {"model": {"weight": weight, "tied": weight}, "schedule": {"steps_done": step, "best": float("inf")}}


def save(folder: Path, step: int) -> None:
    write_objects(folder / f"step-{step}", objects(step), {"step": step})


def newest_valid(folder: Path) -> int:
    return next(step for step, path in list_checkpoints(folder) if verify_checkpoint(path) is None)


# Checkpoints


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    save(tmp_path, 7)
    path = tmp_path / "step-7"
    assert verify_checkpoint(path) is None
    found, metadata = read_checkpoint(path)
    assert metadata == {"step": 7}
    assert list(found) == ["model", "schedule"]
    assert found["schedule"] == {"steps_done": 7, "best": float("inf")}
    assert torch.equal(found["model"]["weight"], objects(7)["model"]["weight"])
    assert found["model"]["weight"] is found["model"]["tied"]
    assert sorted(p.name for p in path.iterdir()) == ["manifest.json", "model.safetensors", "state.json"]


def test_tensors_that_were_read_do_not_need_the_file(tmp_path: Path) -> None:
    save(tmp_path, 1)
    weight = read_checkpoint(tmp_path / "step-1")[0]["model"]["weight"]
    with (tmp_path / "step-1" / "model.safetensors").open("r+b") as file:
        file.write(bytes(1000))
    assert torch.equal(weight, objects(1)["model"]["weight"])
    assert weight.data_ptr() % 64 == 0  # aligned like any tensor, so that sums are computed in the same order


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        save(tmp_path / folder, 3)
    for file in (tmp_path / "a" / "step-3").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / "step-3" / file.name).read_bytes()


def test_checkpoints_are_listed_by_number_newest_first(tmp_path: Path) -> None:
    assert list_checkpoints(tmp_path / "none") == []
    for step in (2, 10, 9):
        save(tmp_path, step)
    for name in ("step-11.tmp", "step-x", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-12").write_text("a file")
    assert [step for step, _ in list_checkpoints(tmp_path)] == [10, 9, 2]


def test_every_kind_of_damage_is_found(tmp_path: Path) -> None:
    save(tmp_path, 1)
    path = tmp_path / "step-1"
    for file in sorted(path.iterdir()):
        content = file.read_bytes()
        damaged = [b"", content[:-1], content[: len(content) // 2], content + b" "]
        for place in {0, 9, len(content) // 3, len(content) - 2}:
            for bit in (0, 7):
                flipped = bytearray(content)
                flipped[place] ^= 1 << bit
                damaged.append(bytes(flipped))
        for bad in damaged:
            file.write_bytes(bad)
            assert file.name in (verify_checkpoint(path) or "")
        file.unlink()
        assert verify_checkpoint(path) == f"`{file.name}` is missing"
        file.write_bytes(content)
        assert verify_checkpoint(path) is None


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert "no folder" in (verify_checkpoint(tmp_path / "step-1") or "")
    with pytest.raises(CheckpointError, match="no folder"):
        read_checkpoint(tmp_path / "step-1")


def test_a_later_schema_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paccel.runtime.storage.checkpoint.SCHEMA", 3)
    save(tmp_path, 1)
    monkeypatch.undo()
    assert verify_checkpoint(tmp_path / "step-1") == "its schema is 3, and this paccel reads schemas 1 to 2"


def test_state_that_cannot_be_stored_is_an_error_with_object_and_place_and_leaves_no_files(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"`model` cannot be saved: `a\.b` has the type `builtin_function_or_method`"
    ):
        write_objects(tmp_path / "step-1", {"model": {"a": {"b": len}}}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", [["a/b"], ["../up"], [""], [".hidden"], ["Model", "model"]])
def test_a_name_that_cannot_be_a_file_is_refused(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be a file name|differ only in upper and lower case"):
        write_objects(tmp_path / "step-1", dict.fromkeys(names, 1), {})


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    save(tmp_path, 1)
    write_objects(tmp_path / "step-1", {"other": 5}, {"step": 1})
    assert read_checkpoint(tmp_path / "step-1")[0] == {"other": 5}
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


# Killed, or with a full disk, at every access to the disk


def killed_at(n: int, work: Callable[[], None]) -> bool:
    """Run `work` in a forked process that is killed at its n-th access. Returns whether it got so far."""
    process = os.fork()
    if process == 0:
        code = 77
        try:
            Points(lambda number: os._exit(9) if number == n else None).install()
            work()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code in (0, 9)
    return code == 9


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.timeout(60)
def test_killed_at_any_point_of_saving_and_pruning_there_is_a_good_checkpoint(tmp_path: Path) -> None:
    before = tmp_path / "before"
    for step in (1, 2):
        save(before, step)

    count = 0
    while True:
        folder = shutil.copytree(before, tmp_path / f"run-{count}")

        def work(folder: Path = folder) -> None:
            save(folder, 3)
            remove_checkpoint(folder / "step-1")

        was_killed = killed_at(count + 1, work)
        for _, path in list_checkpoints(folder):
            assert verify_checkpoint(path) is None, f"a torn checkpoint is listed, killed at point {count}"
        assert newest_valid(folder) in (2, 3)
        save(folder, 3)  # the next start of the run cleans up
        assert newest_valid(folder) == 3
        assert not list(folder.glob("*.tmp"))
        if not was_killed:
            break
        count += 1
    assert count > 20


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.timeout(60)
def test_killed_while_replacing_the_only_checkpoint_one_of_the_two_is_left(tmp_path: Path) -> None:
    count = 0
    while True:
        folder = tmp_path / f"run-{count}"
        save(folder, 1)
        was_killed = killed_at(count + 1, lambda: write_objects(folder / "step-1", {"new": 1}, {}))  # noqa: B023
        assert newest_valid(folder) == 1
        write_objects(folder / "step-1", {"new": 2}, {})
        assert [path.name for path in folder.iterdir()] == ["step-1"]
        if not was_killed:
            break
        count += 1
    assert count > 15


def full_at(n: int) -> Points:
    def full(number: int) -> None:
        if number == n:
            raise OSError(errno.ENOSPC, "No space left on device")

    return Points(full)


def test_a_full_disk_at_any_point_keeps_the_last_checkpoint_and_leaves_no_files(tmp_path: Path) -> None:
    for n in range(1, 1000):
        folder = tmp_path / str(n)
        save(folder, 1)
        points, raised = full_at(n), None
        with points:
            try:
                save(folder, 2)
            except OSError as error:
                raised = error.errno
        if points.count < n:
            break
        assert raised == (None if n == 1 else errno.ENOSPC)  # the first makes a folder that is there already
        assert newest_valid(folder) >= 1
        assert not list(folder.glob("*.tmp"))
    assert n > 10


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="files by descriptor are Linux's")
def test_files_are_synced_before_the_rename_and_the_rename_before_the_old_checkpoint_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def name(path: Any) -> str:
        return str(Path(path).relative_to(tmp_path))

    def noting(module: Any, function: str, tell: Callable[..., str]) -> None:
        original = getattr(module, function)

        def call(*args: Any, **options: Any) -> Any:
            done.append(tell(*args))
            return original(*args, **options)

        monkeypatch.setattr(module, function, call)

    save(tmp_path, 1)
    atomic_write(tmp_path / "small", b"old")
    noting(os, "fsync", lambda descriptor: f"sync {name(os.readlink(f'/proc/self/fd/{descriptor}'))}")
    noting(os, "rename", lambda old, new: f"{name(old)} -> {name(new)}")
    noting(os, "replace", lambda old, new: f"{name(old)} -> {name(new)}")
    noting(shutil, "rmtree", lambda path: f"remove {name(path)}")
    save(tmp_path, 1)
    assert done == [
        *(f"sync step-1.tmp/{file}" for file in ("model.safetensors", "state.json", "manifest.json")),
        "sync step-1.tmp",
        "step-1 -> step-1.old",
        "step-1.tmp -> step-1",
        "sync .",
        "step-1.old -> step-1.old.tmp",
        "sync .",
        "remove step-1.old.tmp",
    ]
    done.clear()
    atomic_write(tmp_path / "small", b"new")
    assert done == ["sync small.0.tmp", "small.0.tmp -> small", "sync ."]


def test_a_small_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "status.json"
    atomic_write(path, b"old")

    for n in range(2, 6):  # the first makes a folder that is there already
        with full_at(n), pytest.raises(OSError, match="No space"):
            atomic_write(path, b"a longer new content")
        assert path.read_bytes() == b"old"
        assert [p.name for p in path.parent.iterdir()] == ["status.json"]
    atomic_write(path, b"new")
    assert [p.name for p in path.parent.iterdir()] == ["status.json"]
    assert path.read_bytes() == b"new"


# The format


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.bool, torch.float8_e4m3fn])
def test_files_are_the_same_as_safetensors_writes(dtype: torch.dtype) -> None:
    tensors = {name: torch.randint(0, 2, (2, 3)).to(dtype) for name in ("b", "a", "ä")}
    tensors["empty"] = torch.zeros(0, 4, dtype=dtype)
    content = b"".join(tensor_chunks(tensors))
    assert content == safetensors.torch.save(tensors)
    assert dtype_name(torch.complex128) is None


# Weights


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight
        self.norm = nn.BatchNorm1d(3)


def state_bits(module: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in module.state_dict().items()}


def test_weights_are_restored_with_ties_and_counters(tmp_path: Path) -> None:
    path, model, other = tmp_path / "w" / "final.safetensors", Tied(), Tied()
    write_weights(path, model, {"step": "3", "a": "b", "z": "y"})
    metadata, differences = read_weights(path, other)
    assert differences == []
    assert re.fullmatch("[0-9a-f]{64}", metadata.pop("paccel.sha256"))
    assert metadata == {
        "format": "pt",
        "step": "3",
        "a": "b",
        "z": "y",
        "head.weight": "embedding.weight",
    }
    assert state_bits(other) == state_bits(model)
    assert other.head.weight is other.embedding.weight
    assert "head.weight" not in safetensors.torch.load_file(path)


def test_weights_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    model = Tied()
    for name in ("a", "b"):
        write_weights(tmp_path / name, model, {key: key for key in "qwertyuiop"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_safetensors_reads_our_weights_and_we_read_theirs(tmp_path: Path) -> None:
    model, other, third = Tied(), Tied(), Tied()
    write_weights(tmp_path / "ours", model)
    safetensors.torch.load_model(other, tmp_path / "ours")
    safetensors.torch.save_model(model, str(tmp_path / "theirs"))
    read_weights(tmp_path / "theirs", third)
    assert state_bits(other) == state_bits(third) == state_bits(model)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda m: nn.DataParallel(torch.compile(m))])
def test_weights_have_the_names_of_the_unwrapped_model(wrap: Any, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2), torch.compile(nn.Linear(2, 1)))
    write_weights(tmp_path / "w", wrap(model))
    assert sorted(safetensors.torch.load_file(tmp_path / "w")) == ["0.bias", "0.weight", "1.bias", "1.weight"]
    plain = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    read_weights(tmp_path / "w", plain)
    other = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    read_weights(tmp_path / "w", wrap(other))
    assert torch.equal(other[0].weight, model[0].weight)
    assert torch.equal(plain[1].bias, model[1].bias)


def test_weights_that_do_not_fit_are_all_listed_and_nothing_is_loaded(tmp_path: Path) -> None:
    write_weights(tmp_path / "w", {"0.weight": torch.ones(2, 2), "extra": torch.ones(1)})
    model = nn.Sequential(nn.Linear(3, 2))
    before = state_bits(model)
    with pytest.raises(CheckpointError) as caught:
        read_weights(tmp_path / "w", model)
    assert str(caught.value).splitlines()[1:] == [
        "  missing: `0.bias`",
        "  shape: `0.weight` is (2, 2) in the file and (2, 3) in the model",
        "  unexpected: `extra`",
    ]
    assert state_bits(model) == before


def test_a_file_that_is_not_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"not a header at all")
    (tmp_path / "final.safetensors").touch()
    found = {"w": "`{}` cannot be read", "best": "There is no `{}`; its folder has `final.safetensors`"}
    for path, message in ((tmp_path / name, text) for name, text in found.items()):
        with pytest.raises(CheckpointError, match=message.format(path)):
            read_weights(path, nn.Linear(1, 1))


def test_weights_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="`extra` has the type"):
        write_weights(tmp_path / "w", {"a": torch.ones(1), "extra": len})
    with pytest.raises(CheckpointError, match="have the same name: `a`"):
        write_weights(tmp_path / "w", {"a": torch.ones(1), "_orig_mod.a": torch.ones(1)})
    assert not (tmp_path / "w").exists()


def flipped_at(content: bytes, place: int, bit: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def test_no_bit_of_a_weights_file_can_be_flipped_without_an_error(tmp_path: Path) -> None:
    model, other, path = nn.Linear(3, 2), nn.Linear(3, 2), tmp_path / "w"
    write_weights(path, model, {"step": "3"})
    content, before = path.read_bytes(), state_bits(other)
    for place in range(len(content)):
        path.write_bytes(flipped_at(content, place, place % 8))
        try:
            metadata, _ = read_weights(path, other)
        except CheckpointError:
            assert state_bits(other) == before
        else:  # in the name of the hash: the file then looks like one of another tool, without a hash
            assert "paccel.sha256" not in metadata
            assert state_bits(other) == state_bits(model)
            other = nn.Linear(3, 2)
            before = state_bits(other)
    path.write_bytes(content)
    read_weights(path, other)
    assert state_bits(other) == state_bits(model)


def test_without_strict_what_fits_is_loaded(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 5))
    write_weights(tmp_path / "w", model.state_dict() | {"old": torch.ones(1)})
    other = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4), nn.Linear(4, 1))
    head = state_bits(other)["1.weight"]
    _, differences = read_weights(tmp_path / "w", other, strict=False)
    assert differences == [
        "missing: `2.bias`",
        "missing: `2.weight`",
        "shape: `1.bias` is (5,) in the file and (4,) in the model",
        "shape: `1.weight` is (5, 2) in the file and (4, 2) in the model",
        "unexpected: `old`",
    ]
    assert torch.equal(other[0].weight, model[0].weight)
    assert state_bits(other)["1.weight"] == head
    with pytest.raises(CheckpointError, match="has no weight of the model"):
        read_weights(tmp_path / "w", nn.Conv1d(1, 1, 1), strict=False)


class Counting(nn.Linear):
    """Has state other than tensors, from `get_extra_state`."""

    seen = ({"a"}, torch.zeros(2))

    def get_extra_state(self) -> Any:
        return self.seen

    def set_extra_state(self, state: Any) -> None:
        self.seen = state


def test_extra_states_and_lazy_modules_are_kept(tmp_path: Path) -> None:
    model, other = nn.Sequential(Counting(1, 1)), nn.Sequential(Counting(1, 1))
    model[0].seen = ({"b", "c"}, torch.ones(2))
    write_weights(tmp_path / "w", model)
    read_weights(tmp_path / "w", other)
    assert other[0].seen[0] == {"b", "c"}
    assert torch.equal(other[0].seen[1], torch.ones(2))
    plain, lazy = nn.Linear(3, 2), nn.LazyLinear(2)
    write_weights(tmp_path / "plain", plain)
    read_weights(tmp_path / "plain", lazy)
    assert torch.equal(lazy.weight, plain.weight)
    with pytest.raises(CheckpointError, match="pass a batch through the model"):
        write_weights(tmp_path / "lazy", nn.LazyLinear(2))


# Checkpoints with valid hashes and hostile content


def forged(folder: Path, change: Callable[[dict[str, Any]], Any], state: Any = None) -> Path:
    """A checkpoint whose manifest was changed together with its hash."""
    save(folder, 1)
    path = folder / "step-1"
    manifest = json.loads((path / "manifest.json").read_bytes())
    del manifest["sha256"]
    if state is not None:
        content = json.dumps(state).encode()
        (path / "state.json").write_bytes(content)
        manifest["files"]["state.json"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest = change(manifest) or manifest
    body = json_bytes(manifest)
    full = json_bytes({**manifest, "sha256": hashlib.sha256(body).hexdigest()}) if isinstance(manifest, dict) else body
    (path / "manifest.json").write_bytes(full)
    return path


FORGERIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda _: [1],
    "no files": lambda manifest: manifest.pop("files") and None,
    "no schema": lambda manifest: manifest.pop("schema") and None,
    "files in a list": lambda manifest: manifest.update(files=["state.json"]),
    "sizes in text": lambda manifest: manifest["files"]["state.json"].update(size="7"),
    "no hash": lambda manifest: manifest["files"]["state.json"].pop("sha256") and None,
    "an entry that is a number": lambda manifest: manifest["files"].update({"state.json": 7}),
    "a path": lambda manifest: manifest["files"].update({"../../x.safetensors": {"size": 1, "sha256": ""}}),
    "metadata in a list": lambda manifest: manifest.update(metadata=[]),
    "no state": lambda manifest: manifest["files"].pop("state.json") and None,
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_manifest_of_another_form_is_an_error_that_names_it(tmp_path: Path, kind: str) -> None:
    path = forged(tmp_path, FORGERIES[kind])
    assert verify_checkpoint(path)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


STATES = {
    "a list": [],
    "nested": json.loads("[" * 900 + "]" * 900),
    "a tensor that is not there": {"model": {"$": "tensor", "name": "gone"}},
    "huge strides": {"model": {"$": "tensor", "name": "weight", "stride": [10**15, 1]}},
    "a class": {"model": {"$": "dataclass", "class": "os:system", "fields": {}}},
    "a date": {"model": {"$": "datetime", "text": 7}},
    "a set of lists": {"model": {"$": "set", "items": [[1]]}},
}


@pytest.mark.parametrize("kind", STATES)
def test_a_state_of_another_form_is_a_named_error(tmp_path: Path, kind: str) -> None:
    path = forged(tmp_path, lambda _: None, state=STATES[kind])
    assert verify_checkpoint(path) is None
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["manifest.json", "state.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "endless", "folder", "link to nothing"])
def test_only_regular_files_are_read(tmp_path: Path, name: str, kind: str) -> None:
    save(tmp_path, 1)
    file = tmp_path / "step-1" / name
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to("/dev/zero" if kind == "endless" else "/nowhere")
    assert f"`{name}`" in (verify_checkpoint(tmp_path / "step-1") or "")
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path / "step-1")
    if name == "model.safetensors":
        with pytest.raises(CheckpointError):
            read_weights(file, Tied())


@pytest.mark.timeout(20)
@pytest.mark.parametrize("length", [2**63, 10**9, 0], ids=["huge", "longer than the file", "none"])
def test_an_impossible_header_length_is_an_error_that_names_the_file(tmp_path: Path, length: int) -> None:
    write_weights(tmp_path / "w", nn.Linear(1, 1))
    content = (tmp_path / "w").read_bytes()
    (tmp_path / "w").write_bytes(length.to_bytes(8, "little") + content[8:])
    with pytest.raises(CheckpointError, match=r"`.*w` cannot be read"):
        read_weights(tmp_path / "w", nn.Linear(1, 1))
