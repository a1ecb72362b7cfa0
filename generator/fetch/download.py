"""Download a ZIP file within a limit on size and time, whatever the server does."""

import threading
from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ..errors import TemplateError
from ..files.tree import MAX_BYTES
from .address import Address

if TYPE_CHECKING:
    from urllib.request import Request

SECONDS = 120
_CHUNK = 2**16


def download(address: Address) -> bytes:
    """Return the content at an HTTP or HTTPS address.

    Raises:
        TemplateError: The download fails, is larger than `MAX_BYTES`, or takes longer than `SECONDS` in total.
    """
    content = bytearray()
    problems: list[str] = []
    stopped = threading.Event()

    def work() -> None:
        try:
            _read(address.place, content, stopped)
        except Exception as error:  # urllib, http, ssl and socket raise many kinds of errors
            problems.append(_reason(error))

    # In a thread, which can be abandoned: a server that sends a byte now and then never runs into a socket's timeout.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(SECONDS)
    stopped.set()
    if thread.is_alive():
        problems = [f"it took longer than {SECONDS} s; check the network, or download it and give the file"]
    if problems:
        raise TemplateError(f"`{address.shown}` could not be downloaded: {address.hide(problems[0])}")
    if len(content) > MAX_BYTES:
        raise TemplateError(f"`{address.shown}` is larger than {MAX_BYTES // 2**20} MiB")
    return bytes(content)


def _read(url: str, content: bytearray, stopped: threading.Event) -> None:
    from urllib.request import Request, build_opener  # imports ssl, which takes longer than most commands

    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    request = Request(parts._replace(netloc=host, fragment="").geturl(), headers={"User-Agent": "paccel"})
    name, _, password = user.partition(":")
    login = b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode() if at else ""
    _log_in(request, login)
    with build_opener(_redirects(login)).open(request, timeout=SECONDS) as response:
        length = response.headers.get("Content-Length", "")
        while not stopped.is_set() and len(content) <= MAX_BYTES:
            chunk = response.read1(_CHUNK)
            if not chunk:
                break
            content += chunk
    if length.isascii() and length.isdigit() and len(content) < min(int(length), MAX_BYTES + 1):
        raise OSError(f"the connection was closed after {len(content)} of {length} bytes")


def _log_in(request: "Request", login: str) -> None:
    if login:
        request.add_unredirected_header("Authorization", f"Basic {login}")


def _redirects(login: str) -> Any:
    """A handler that follows redirects to HTTP and HTTPS only, never from HTTPS to HTTP, and logs in on the same host only."""
    from urllib.error import URLError
    from urllib.request import HTTPRedirectHandler

    class Redirects(HTTPRedirectHandler):
        def redirect_request(self, request: "Request", *arguments: Any) -> "Request | None":
            target = urlsplit(arguments[-1])
            if target.scheme not in {"https", request.type}:
                raise URLError(f"the server redirects from {request.type} to {target.scheme}, which is not followed")
            following = super().redirect_request(request, *arguments)
            if following is not None and (following.type, following.host) == (request.type, request.host):
                _log_in(following, login)
            return following

    return Redirects


def _reason(error: Exception) -> str:
    """Describe an error in one line, with only printable characters of what the server sent."""
    from http.client import HTTPException, IncompleteRead, InvalidURL

    inner = getattr(error, "reason", None)
    if isinstance(inner, Exception):
        error = inner
    if isinstance(error, TimeoutError):
        return "the server does not answer"
    if isinstance(error, IncompleteRead):
        return "the connection was closed before the end"
    if isinstance(error, HTTPException) and not isinstance(error, InvalidURL):
        return f"the server does not speak HTTP: {str(error)[:200]!a}"
    text = str(error) or type(error).__name__
    return "".join(sign if sign.isprintable() else " " for sign in text)[:300]
