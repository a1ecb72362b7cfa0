"""Shards: samples by number, in any process, and each kind of damage is named."""

import functools
import gzip
import http.server
import io
import json
import os
import pickle
import tarfile
import threading
import urllib.request
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from support.loading import indices_of_steps, make, number_of
from support.sampled import every_third_day

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


def tar(path: Path, *members: tuple[str, bytes | str], form: int = tarfile.PAX_FORMAT) -> Path:
    """A tar file of names and contents; text in place of bytes is the target of a symbolic link, or after `=` of a hard one."""
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type = tarfile.LNKTYPE if content.startswith("=") else tarfile.SYMTYPE
                member.linkname = content.removeprefix("=")
                archive.addfile(member)
            elif name.endswith("/"):
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


class TestTar:
    @pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
    def test_folders_links_and_names_of_any_kind_as_other_tools_write_them(self, form: int, tmp_path: Path) -> None:
        long = "" if form == tarfile.USTAR_FORMAT else "long-" * 60
        path = tar(
            tmp_path / "0.tar",
            ("a/", b""),
            ("README", b"no sample"),
            ("a/.hidden", b"no sample either"),
            (f"a/{long}ä.seg.PNG", b"seg"),
            (f"a/{long}ä.JPG", b"jpg"),
            ("b/1.jpg", "=a/" + long + "ä.JPG"),
            ("b/1.json", b"{}"),
            ("c/2.jpg", "../b/1.jpg"),
            form=form,
        )
        assert [Shards(path)[n] for n in range(3)] == [
            {"__key__": f"a/{long}ä", "seg.png": b"seg", "jpg": b"jpg"},
            {"__key__": "b/1", "jpg": b"jpg", "json": b"{}"},
            {"__key__": "c/2", "jpg": b"jpg"},
        ]

    def test_the_files_of_a_sample_need_not_follow_each_other(self, tmp_path: Path) -> None:
        path = tar(tmp_path / "0.tar", ("1.jpg", b"x"), ("2.jpg", b"yy"), ("1.txt", b""), ("2.txt", b"z"))
        assert Shards(path).__getitems__([1, 0]) == [
            {"__key__": "2", "jpg": b"yy", "txt": b"z"},
            {"__key__": "1", "jpg": b"x", "txt": b""},
        ]

    @pytest.mark.parametrize(
        ("members", "message"),
        [
            ([("1.jpg", b"x"), ("1.JPG", b"y")], r"1\.tar` is damaged.*`1\.JPG` occurs twice"),
            ([("1.jpg", "nowhere.jpg")], r"`1\.jpg` is a link to `nowhere\.jpg`, which is not a file in this shard"),
            ([("1.jpg", "2.jpg"), ("2.jpg", "1.jpg")], r"`1\.jpg` is a link that does not lead to a file"),
            (
                [("0.txt", b"y"), ("1.txt", b"y")],
                r"the sample `0` begins in `.*0\.tar`: all files of a sample must be in",
            ),
        ],
    )
    def test_an_incomplete_sample_names_the_shard_and_the_file(
        self, members: list[tuple[str, bytes | str]], message: str, tmp_path: Path
    ) -> None:
        tar(tmp_path / "0.tar", ("0.jpg", b"x"))
        tar(tmp_path / "1.tar", *members)
        with pytest.raises(DataError, match=message):
            Shards(tmp_path)

    def test_a_damaged_header_names_the_file_before_it(self, tmp_path: Path) -> None:
        path = tar(tmp_path / "0.tar", *((f"{n}.bin", b"x") for n in range(9)))
        data = bytearray(path.read_bytes())
        data[5 * 1024 + 3] ^= 1
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"0\.tar` is damaged.*damaged after `4\.bin` at 5120"):
            Shards(tmp_path)


class TestLines:
    def test_byte_order_mark_blank_lines_and_windows_line_ends_are_skipped(self, tmp_path: Path) -> None:
        (tmp_path / "0.jsonl").write_bytes(b'\xef\xbb\xbf{"n": 0}\r\n\r\n{"n": 1}\r\n \n{"n": 2}')
        (tmp_path / "1.jsonl").write_bytes(b"")
        (tmp_path / "2.jsonl").write_bytes(b'\n{"n": 3}\n')
        shards = Shards(tmp_path)
        assert [shards[n]["n"] for n in range(len(shards))] == [0, 1, 2, 3]

    def test_a_line_that_is_not_json_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "0.jsonl").write_text('{"n": 0}\n{"n"\n{"n": 2}\n')
        with pytest.raises(
            DataError, match=r"Line 2 of `.*0\.jsonl` is not valid JSON \(Expecting .* at column 5\): fix it"
        ):
            Shards(tmp_path)[1]
        (tmp_path / "blank.jsonl").write_bytes(b'\n\n{"n": 0}\r\n\n\n' + b"[" * 100_000 + b'\n{"n": 2}\n')
        with pytest.raises(DataError, match=r"Line 6 of `.*blank\.jsonl` is not valid JSON \(maximum recursion"):
            Shards(tmp_path / "blank.jsonl", index=tmp_path / "blank")[1]
        (tmp_path / "1.jsonl").write_text('{"n": 0}\n{"n"')
        with pytest.raises(DataError, match=r"1\.jsonl` is damaged.*line 2 is not valid JSON"):
            Shards(tmp_path / "1.jsonl", index=tmp_path / "other")


class TestParquet:
    def test_nulls_nested_columns_empty_row_groups_and_empty_files_are_read_as_by_arrow(self, tmp_path: Path) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        table = pyarrow.table(
            {
                "number": [1, None, 3],
                "list": [[1, 2], None, []],
                "struct": [{"x": 1, "y": "a"}, None, {"x": None, "y": "b"}],
                "words": pyarrow.array(["u", None, "u"]).dictionary_encode(),
                "map": pyarrow.array([[("k", 1)], None, []], pyarrow.map_(pyarrow.string(), pyarrow.int64())),
                "bytes": [b"x", None, b""],
            }
        )
        parquet.write_table(table.slice(0, 0), tmp_path / "0.parquet")
        with parquet.ParquetWriter(tmp_path / "1.parquet", table.schema) as writer:
            for start, length in ((0, 0), (0, 2), (2, 0), (2, 1)):
                writer.write_table(table.slice(start, length))
        parquet.write_table(pyarrow.table({"other": ["x"]}), tmp_path / "2.parquet")
        shards = Shards(tmp_path)
        assert shards.__getitems__(range(4)) == [*table.to_pylist(), {"other": "x"}]
        assert sorted(shards.in_blocks(seed=1)(1).tolist()) == [0, 1, 2, 3]

    def test_two_columns_of_the_same_name_are_an_error(self, tmp_path: Path) -> None:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        columns = [pyarrow.array([1]), pyarrow.array([2])]
        parquet.write_table(pyarrow.Table.from_arrays(columns, names=["a", "a"]), tmp_path / "0.parquet")
        with pytest.raises(DataError, match=r"0\.parquet` is damaged.*two columns `a`"):
            Shards(tmp_path)

    def test_a_missing_package_is_named_and_the_shard_is_not_called_damaged(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("pyarrow")
        write(tmp_path / "0.parquet", range(3))

        def missing(module: str) -> None:
            raise ModuleNotFoundError(f"No module named {module!r}", name="pyarrow")

        monkeypatch.setattr("paccel.runtime.data.shards.store.import_module", missing)
        with pytest.raises(ConfigError, match=r"^`.*0\.parquet` needs pyarrow: `pip install pyarrow`$"):
            Shards(tmp_path)


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
    with pytest.raises(DataError, match="No shards found at `memory://nothing`"):
        Shards("memory://nothing")


class _Files(http.server.SimpleHTTPRequestHandler):
    """Serves the files of a folder, and answers range requests."""

    parts = True

    def do_GET(self) -> None:
        path, asked = Path(self.translate_path(self.path)), self.headers.get("Range")
        if not self.parts or asked is None or not path.is_file():
            super().do_GET()
            return
        data = path.read_bytes()
        first, last = asked.removeprefix("bytes=").split("-")
        part = data[int(first) : int(last or len(data)) + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


class _WholeFiles(_Files):
    parts = False


class TestServer:
    @pytest.fixture(params=[_Files, _WholeFiles])
    def server(self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        pytest.importorskip("fsspec")
        pytest.importorskip("aiohttp")
        monkeypatch.chdir(tmp_path)
        (tmp_path / "shards").mkdir()
        handler = functools.partial(request.param, directory=str(tmp_path / "shards"))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()
            thread.join()

    def test_shards_are_read_by_range_requests_and_a_server_without_them_is_named(
        self, server: str, tmp_path: Path
    ) -> None:
        for shard, numbers in enumerate((range(600), range(600, 900))):
            write(tmp_path / "shards" / f"{shard}.jsonl", numbers)
        if server_sends_parts(server):
            for paths in (f"{server}/", f"{server}/*.jsonl", [f"{server}/0.jsonl", f"{server}/1.jsonl"]):
                shards = Shards(paths)
                assert [number_of(shards[n]) for n in (0, 599, 600, 899)] == [0, 599, 600, 899]
            (tmp_path / "shards" / "1.jsonl").unlink()
            with pytest.raises(DataError, match=r"1\.jsonl`.* cannot be read \(FileNotFoundError"):
                shards[899]
        else:
            with pytest.raises(
                DataError, match=r"0\.jsonl` cannot be read in parts: its server ignores range requests"
            ):
                Shards(f"{server}/0.jsonl")
        with pytest.raises(DataError, match=r"No shards found at `.*/none\.tar`"):
            Shards(f"{server}/none.tar")


def server_sends_parts(server: str) -> bool:
    request = urllib.request.Request(f"{server}/0.jsonl", headers={"Range": "bytes=0-0"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.status == 206


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["memory://x/0.tar", "1.tar"], "Some shards have `://` in their names and others do not"),
        ("nothing://x/0.tar", "`nothing://x/0.tar` cannot be opened by fsspec: Protocol not known: nothing"),
    ],
)
def test_what_fsspec_cannot_open_is_an_error(paths: object, message: str) -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(ConfigError, match=message):
        Shards(paths)  # type: ignore[arg-type]
