"""Downloads end, with one clear reason, whatever a server does."""

import base64
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from support.quick import quick_first

from paccel.errors import TemplateError
from paccel.fetch import download as module
from paccel.fetch.address import parse_address
from paccel.fetch.download import download

Answer = Callable[[socket.socket, str], None]
Serve = Callable[[Answer], str]
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Answer each request with a function of the connection and the request's head; return `host:port`."""
    listening: list[socket.socket] = []

    def serve(answer: Answer) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listening.append(listener)

        def work() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    head = b""
                    while b"\r\n\r\n" not in head:
                        head += connection.recv(4096)
                    with contextlib.suppress(OSError):  # the client has gone
                        answer(connection, head.decode())

        threading.Thread(target=work, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield serve
    for listener in listening:
        listener.close()


def always(content: bytes) -> Answer:
    return lambda connection, _: connection.sendall(content)


def get(host: str, path: str = "/a.zip", login: str = "") -> bytes:
    return download(parse_address(f"http://{login}{host}{path}"))


def test_a_body_is_downloaded_whole(serve: Serve) -> None:
    body = bytes(range(256)) * 1000
    assert get(serve(always(OK + b"Content-Length: 256000\r\n\r\n" + body))) == body
    assert get(serve(always(OK + b"\r\n" + body))) == body  # without its length


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "does not speak HTTP|closed connection"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "does not speak HTTP.*SSH-2"),
        (b"HTTP/1.1 banana\r\n\r\n", "does not speak HTTP"),
        (OK + b"X: " + b"x" * 70_000 + b"\r\n\r\n", "does not speak HTTP.*header line"),
        (OK + b"".join(b"X-%d: 1\r\n" % number for number in range(200)) + b"\r\n", "does not speak HTTP.*headers"),
        (OK + b"Content-Length: 100\r\n\r\nshort", "closed after 5 of 100 bytes"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\nshort", "closed before the end"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "closed before the end|HTTP"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "HTTP Error 404|Not Found"),
        (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n", "is not allowed"),
        (b"HTTP/1.1 302 Found\r\nLocation: ftp://127.0.0.1/x\r\n\r\n", "redirects from http to ftp"),
        (b"HTTP/1.1 302 Found\r\nLocation: /a.zip\r\n\r\n", "redirect"),
    ],
)
def test_an_answer_that_is_none_is_one_clear_error(serve: Serve, answer: bytes, reason: str) -> None:
    with pytest.raises(TemplateError, match=rf"a\.zip` could not be downloaded: .*({reason})") as caught:
        get(serve(always(answer)))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "address", ["http://[::1/a.zip", "http://host:port/a.zip", "http:///a.zip", "http://a b/a.zip"]
)
def test_a_url_that_is_none_is_one_clear_error(address: str) -> None:
    with pytest.raises(TemplateError, match=r"could not be downloaded: ."):
        download(parse_address(address))


@pytest.mark.parametrize("head", quick_first([b"", OK + b"\r\n"]))
def test_a_server_that_drips_is_not_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.5)

    def drip(connection: socket.socket, _: str) -> None:
        connection.sendall(head)
        for _ in range(100):
            connection.sendall(b"H")
            time.sleep(0.05)

    start = time.monotonic()
    with pytest.raises(TemplateError, match=r"took longer than 0\.5 s"):
        get(serve(drip))
    assert time.monotonic() - start < 3


def test_a_body_that_does_not_end_is_cut(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 2**20)

    def endless(connection: socket.socket, _: str) -> None:
        connection.sendall(OK + b"Content-Length: 99999999999\r\n\r\n")
        while True:
            connection.sendall(b"x" * 2**16)

    with pytest.raises(TemplateError, match=r"a\.zip` is larger than 1 MiB"):
        get(serve(endless))


def test_user_and_password_are_sent_to_their_host_alone_and_not_said(serve: Serve) -> None:
    heads: list[str] = []

    def other(connection: socket.socket, head: str) -> None:
        heads.append(head)
        connection.sendall(b"HTTP/1.1 403 no\r\n\r\n")

    elsewhere = serve(other)

    def first(connection: socket.socket, head: str) -> None:
        heads.append(head)
        target = f"http://{elsewhere}/c.zip" if "/b.zip" in head else "/b.zip"
        connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode())

    with pytest.raises(TemplateError, match="403") as caught:
        get(serve(first), "/a.zip?private_token=S3CRET-TOKEN", login="me:S3CRET%21@")
    assert "S3CRET" not in str(caught.value)
    login = "Authorization: Basic " + base64.b64encode(b"me:S3CRET!").decode()
    assert [login in head for head in heads] == [True, True, False]
    assert "private_token=S3CRET-TOKEN" in heads[0]
