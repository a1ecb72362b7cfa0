"""Shards in buckets and on web servers."""

import functools
import http.server
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.loading import number_of
from support.shards import KINDS, write

from paccel.runtime.errors import ConfigError, DataError
from paccel.runtime.shards import Shards


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
