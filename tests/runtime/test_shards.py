"""Shards: every sample by its number, in any process, and each kind of damage named."""

import io
import json
import os
import pickle
import tarfile
from pathlib import Path

import pytest
import torch
from support.loading import indices_of_steps, make, number_of

from paccel.runtime.errors import ConfigError, DataError
from paccel.runtime.shards import Shards

KINDS = ["tar", "jsonl", "parquet"]


def write(path: Path, numbers: range, long_names: bool = False) -> None:
    if path.suffix == ".tar":
        with tarfile.open(path, "w") as archive:
            for n in numbers:
                for suffix, data in (
                    ("json", json.dumps({"n": n}).encode()),
                    ("seg.bin", bytes([n % 256]) * (n * 37 % 900)),
                ):
                    member = tarfile.TarInfo(f"{'folder-' * 30 * long_names}a/{n:05}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"n": n, "text": "ä\n" * (n % 5)}) + "\n" for n in numbers))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"n": list(numbers)}), path, row_group_size=4)


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Three shards of 10, 3 and 20 samples."""
    (tmp_path / "shards").mkdir()
    for shard, numbers in enumerate((range(10), range(10, 13), range(13, 33))):
        write(tmp_path / "shards" / f"{shard}.{request.param}", numbers)
    return tmp_path / "shards"


def test_each_sample_has_a_number_and_the_index_is_made_once(folder: Path) -> None:
    shards = Shards(folder)
    assert [number_of(shards[n]) for n in range(len(shards))] == list(range(33))
    assert (number_of(shards[-1]), len(shards.names)) == (32, 3)
    with pytest.raises(IndexError):
        shards[33]
    made = {path.name: path.stat().st_mtime_ns for path in (folder / ".index").iterdir()}
    again = Shards(sorted(folder.glob("[0-9].*")), decode=number_of)
    assert [again[n] for n in (32, 0, 11)] == [32, 0, 11]
    assert {path.name: path.stat().st_mtime_ns for path in (folder / ".index").iterdir()} == made
    assert again.content_hash == shards.content_hash


def test_a_sample_of_tar_has_all_its_files_also_with_long_names(tmp_path: Path) -> None:
    write(tmp_path / "short.tar", range(5))
    write(tmp_path / "z-long.tar", range(5, 8), long_names=True)
    shards = Shards(tmp_path)
    assert shards[3] == {"__key__": "a/00003", "json": b'{"n": 3}', "seg.bin": b"\3" * 111}
    assert shards[6]["__key__"] == "folder-" * 30 + "a/00006"
    assert shards[6]["seg.bin"] == b"\6" * 222


@pytest.mark.parametrize("method", ["pickle", pytest.param("spawn", marks=pytest.mark.slow), "fork"])
def test_workers_open_shards_by_themselves(folder: Path, method: str) -> None:
    shards = Shards(folder, decode=number_of)
    assert shards[5] == 5  # opens a file before the fork
    if method == "pickle":
        assert pickle.loads(pickle.dumps(shards))[20] == 20
        return
    if method == "fork" and (os.name == "nt" or folder.joinpath("0.parquet").exists()):
        pytest.skip("Arrow's threads do not survive a fork of the test process")
    loader = make(shards, num_workers=2, worker_options={"multiprocessing_context": method})
    batches = [batch for batch, _ in loader.fetch(loader.training_parts(1, 0, 1))]
    loader.close()
    assert torch.cat(batches).tolist() == loader.indices_between(1, 0, 33)


def test_a_custom_order_by_blocks_has_each_sample_once_and_its_neighbours_near(folder: Path) -> None:
    shards = Shards(folder, decode=number_of)
    order = shards.in_blocks(seed=1, window=2, block=4)
    loader = make(shards, shuffle=order)
    first, second = ([i for step in indices_of_steps([loader], epoch, 1) for i in step] for epoch in (1, 2))
    assert sorted(first) == sorted(second) == list(range(33))
    assert first != second != list(range(33))
    assert len({index // 4 for index in first[:8]}) <= 6


class TestErrors:
    def test_a_shard_that_is_missing_new_changed_or_gone_is_named(self, folder: Path) -> None:
        Shards(folder)
        shards = Shards(folder)  # which has opened none yet
        second = next(folder.glob("1.*"))
        data = second.read_bytes()
        second.unlink()
        with pytest.raises(DataError, match=r"of other shards \(`shards/1\..*` is missing\): put back what it was"):
            Shards(folder)
        with pytest.raises(DataError, match=r"1\..*` is gone"):
            shards[11]
        second.write_bytes(data + b"\n")
        with pytest.raises(DataError, match=f"1{second.suffix}` has {len(data) + 1} bytes, and had {len(data)}"):
            Shards(folder)
        second.write_bytes(data)
        (folder / f"3{second.suffix}").write_bytes(data)
        with pytest.raises(DataError, match=r"`shards/3\..*` is not in it"):
            Shards(folder)

    def test_a_shard_of_the_same_size_that_changed_is_named_where_it_is_read(self, folder: Path) -> None:
        Shards(folder)
        first = next(folder.glob("0.*"))
        data = bytearray(first.read_bytes())
        data[len(data) // 3] ^= 1
        data[-20] ^= 1
        first.write_bytes(data)
        shards = Shards(folder)
        assert number_of(shards[11]) == 11
        with pytest.raises(
            DataError, match=r"0\..*` has changed since its index was made: put back what it was, or del"
        ):
            shards[0]

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_empty_and_a_truncated_shard_are_errors_before_there_is_an_index(
        self, kind: str, tmp_path: Path
    ) -> None:
        path = tmp_path / f"0.{kind}"
        write(path, range(30))
        data = path.read_bytes()
        for bad in (b"", data[: len(data) // 2 + 3]):
            path.write_bytes(bad)
            with pytest.raises(DataError, match=r"0\.\w+` is damaged, or no|There is no sample in"):
                Shards(tmp_path)
            assert not (tmp_path / ".index" / "index.json").exists()

    def test_what_is_no_shard_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="There is no shard at"):
            Shards(tmp_path)
        with pytest.raises(DataError, match=r"There is no shard at `.*/\*.tar`"):
            Shards(f"{tmp_path}/*.tar")
        with pytest.raises(DataError, match="No shards were given"):
            Shards([])
        write(tmp_path / "a.tar", range(2))
        write(tmp_path / "b.jsonl", range(2))
        with pytest.raises(ConfigError, match=r"b.jsonl` is no shard, or of another kind"):
            Shards(tmp_path)
        (tmp_path / "c.tar.gz").write_bytes(b"")
        with pytest.raises(ConfigError, match="compressed files cannot be read at a place"):
            Shards(tmp_path / "c.tar.gz")

    def test_an_index_that_is_damaged_is_named(self, folder: Path) -> None:
        Shards(folder)
        (folder / ".index" / "index.json").write_text("{}")
        with pytest.raises(DataError, match="is no index of shards"):
            Shards(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_remote_shards_are_read_through_fsspec(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.chdir(tmp_path)
    memory = fsspec.filesystem("memory")
    for shard, numbers in enumerate((range(6), range(6, 9))):
        local = tmp_path / f"{shard}.{kind}"
        write(local, numbers)
        memory.pipe(f"/{tmp_path.name}/{local.name}", local.read_bytes())
    for path in (f"memory://{tmp_path.name}", f"memory://{tmp_path.name}/*.{kind}"):
        shards = Shards(path, decode=number_of)
        assert [shards[n] for n in range(len(shards))] == list(range(9))
        assert shards.index.parent == Path("data/index")
    with pytest.raises(DataError, match="There is no shard at `memory://nothing`"):
        Shards("memory://nothing")
