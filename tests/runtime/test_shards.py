"""Shards: samples by number, in any process, and each kind of damage is named."""

import gzip
import os
import pickle
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from support.loading import indices_of_steps, make, number_of
from support.sampled import every_third_day
from support.shards import KINDS, write

from paccel.runtime.errors import ConfigError, DataError
from paccel.runtime.shards import Shards


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


@pytest.mark.parametrize(
    "method", ["pickle", pytest.param("spawn", marks=[pytest.mark.slow, every_third_day(1)]), "fork"]
)
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


def test_links_are_followed_and_hidden_and_special_files_are_skipped(tmp_path: Path) -> None:
    write(tmp_path / "data", range(0))
    (tmp_path / "data").write_text('{"n": 0}\n')
    (tmp_path / "0.jsonl").symlink_to("data")
    (tmp_path / "1.jsonl").symlink_to("nowhere")
    (tmp_path / "2.jsonl").mkdir()
    (tmp_path / "._0.jsonl").write_bytes(b"\0\5\x16\7, as macOS leaves it")
    if os.name != "nt":
        os.mkfifo(tmp_path / "3.jsonl")
    assert [shard["n"] for shard in Shards(tmp_path)] == [0]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs fork")
def test_several_processes_may_write_the_index_at_the_same_time(tmp_path: Path) -> None:
    for shard in range(4):
        write(tmp_path / f"{shard}.jsonl", range(3000 * shard, 3000 * shard + 3000))
    fork = get_context("fork")
    barrier, found = fork.Barrier(4), fork.Queue()

    def make_it() -> None:
        barrier.wait(60)
        shards = Shards(tmp_path)
        found.put((shards[11_999]["n"], shards.content_hash))

    makers = [fork.Process(target=make_it) for _ in range(4)]
    for maker in makers:
        maker.start()
    hashes = {found.get(timeout=60) for _ in makers}
    for maker in makers:
        maker.join(60)
    assert (len(hashes), [maker.exitcode for maker in makers]) == (1, [0] * 4)
    assert len(list((tmp_path / ".index").iterdir())) == 2


def test_the_index_is_under_data_if_the_folder_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "0.jsonl", range(3))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert Shards(tmp_path).index.parent == Path("data/index")
    assert not (tmp_path / ".index").exists()


def test_an_index_of_an_older_paccel_is_rebuilt(folder: Path) -> None:
    Shards(folder)
    (folder / ".index" / "index.json").write_text('{"format": 1}')
    assert number_of(Shards(folder)[32]) == 32


class TestErrors:
    def test_a_shard_that_is_rewritten_while_a_run_reads_it_is_named(self, folder: Path) -> None:
        shards = Shards(folder, decode=number_of)
        first = next(folder.glob("0.*"))
        assert shards[5] == 5
        os.utime(first, ns=(1, 1))
        assert shards[6] == 6, "only its time has changed"
        with first.open("r+b") as file:
            file.write(bytes(8))
        os.utime(first, ns=(2, 2))
        with pytest.raises(DataError, match=r"0\..*` has changed since it was indexed"):
            shards[7]

    def test_a_shard_that_is_missing_new_changed_or_gone_is_named(self, folder: Path) -> None:
        Shards(folder)
        shards = Shards(folder)  # which has opened none yet
        second = next(folder.glob("1.*"))
        data = second.read_bytes()
        second.unlink()
        with pytest.raises(
            DataError, match=r"does not match the shards \(`shards/1\..*` is missing\): restore the shards"
        ):
            Shards(folder)
        with pytest.raises(DataError, match=r"1\..*` no longer exists"):
            shards[11]
        second.write_bytes(data + b"\n")
        with pytest.raises(DataError, match=f"1{second.suffix}` has {len(data) + 1} bytes, and had {len(data)}"):
            Shards(folder)
        second.write_bytes(data)
        with pytest.raises(DataError, match=r"does not match the shards \(they are in another order\)"):
            Shards(sorted(folder.glob("[0-9].*"), reverse=True))
        (folder / f"3{second.suffix}").write_bytes(data)
        with pytest.raises(DataError, match=r"`shards/3\..*` is not in the index"):
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
        with pytest.raises(DataError, match=r"0\..*` has changed since it was indexed: restore the shards, or del"):
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
            with pytest.raises(DataError, match=r"0\.\w+` is damaged, or no|No samples in"):
                Shards(tmp_path)
            assert not (tmp_path / ".index" / "index.json").exists()

    def test_paths_without_shards_and_other_files_are_errors(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="No shards found at"):
            Shards(tmp_path)
        with pytest.raises(DataError, match=r"No shards found at `.*/\*.tar`"):
            Shards(f"{tmp_path}/*.tar")
        with pytest.raises(DataError, match="No shards given"):
            Shards([])
        write(tmp_path / "a.tar", range(2))
        write(tmp_path / "b.jsonl", range(2))
        with pytest.raises(ConfigError, match=r"b.jsonl` is not a shard, or of another kind"):
            Shards(tmp_path)
        (tmp_path / "c.tar.gz").write_bytes(b"")
        with pytest.raises(ConfigError, match="of one kind and not compressed"):
            Shards(tmp_path / "c.tar.gz")

    def test_a_damaged_index_is_named(self, folder: Path) -> None:
        Shards(folder)
        (folder / ".index" / "index.json").write_text("{}")
        with pytest.raises(DataError, match="is not a valid index of shards"):
            Shards(folder)

    @pytest.mark.skipif(os.name == "nt", reason="needs pipes")
    def test_a_pipe_in_place_of_an_index_or_a_shard_is_an_error_and_does_not_block(self, tmp_path: Path) -> None:
        write(tmp_path / "0.jsonl", range(3))
        (tmp_path / ".index").write_text("")
        with pytest.raises(DataError, match=r"The index cannot be written to `.*/\.index`"):
            Shards(tmp_path)
        (tmp_path / ".index").unlink()
        shards = pickle.loads(pickle.dumps(Shards(tmp_path)))
        (tmp_path / "0.jsonl").unlink()
        os.mkfifo(tmp_path / "0.jsonl")
        with pytest.raises(DataError, match=r"0\.jsonl` is no longer a regular file"):
            shards[0]
        (tmp_path / ".index" / "index.json").unlink()
        os.mkfifo(tmp_path / ".index" / "index.json")
        (tmp_path / "0.jsonl").unlink()
        write(tmp_path / "0.jsonl", range(3))
        with pytest.raises(DataError, match="is not a valid index of shards"):
            Shards(tmp_path)

    @pytest.mark.parametrize("of", ["shard", "index"])
    def test_a_file_without_read_permission_is_named(
        self, of: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Simulated, as tests may run as root."""
        write(tmp_path / "0.jsonl", range(3))
        shards = pickle.loads(pickle.dumps(Shards(tmp_path)))

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(*((os, "open") if of == "shard" else (Path, "read_bytes")), refuse)
        with pytest.raises(DataError, match=rf"The {of} `.*` cannot be read \(Permission denied\)"):
            shards[0] if of == "shard" else Shards(tmp_path)

    def test_an_index_with_impossible_offsets_is_an_error(self, tmp_path: Path) -> None:
        write(tmp_path / "0.jsonl", range(3))
        Shards(tmp_path)
        (places,) = (tmp_path / ".index").glob("places-*.bin")
        places.write_bytes(b"\xff" * places.stat().st_size)
        with pytest.raises(DataError, match=r"0\.jsonl` cannot be read at the offset in its index"):
            Shards(tmp_path)[0]

    @pytest.mark.parametrize("name", ["0.tar", "0.jsonl"])
    def test_a_compressed_shard_is_named_whatever_its_extension(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(gzip.compress(b"{}\n"))
        with pytest.raises(DataError, match="it is compressed, which has no random access: decompress it"):
            Shards(tmp_path)
