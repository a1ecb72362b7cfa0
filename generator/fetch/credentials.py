"""Passwords and tokens in addresses: they are used for one run, and removed from everything that is recorded or printed."""

import re
from urllib.parse import unquote, unquote_plus

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
"""The beginning of a URL."""

# Names of parameters in a query string: those of secrets, and those whose values are not secret even if they are long.
_SECRET_NAME = re.compile(r"(?i)token|secret|pass|pwd|^sig$|signature|credential|auth|key|jwt|session|policy|cookie")
_OPEN_NAME = re.compile(
    r"(?i)ref|ref_?(name|type)|rev|revision|sha|commit|branch|tag|at|v|version|path|file|filename|prefix"
)
_LONG = 16
"""A longer value in a query string counts as a secret, unless its name says otherwise."""

_LEAST_SECRET = 4
"""Shorter secrets are not replaced in other texts: they occur in ordinary words."""


def without_secrets(text: str) -> str:
    """Return a text without the passwords and tokens of the addresses in it.

    This removes the user of an HTTP address, which may be a token; the password of any other address; and each parameter
    of a query string that is named like a secret, or is as long as one. The user of `git@host:path` and `ssh://git@host`
    stays.
    """
    if URL.match(text.removeprefix("git+")):
        return _open_url(text)
    text = re.sub(rf"{URL.pattern}[^\s'\"`<>]+", lambda found: _open_url(found[0]), text)
    return re.sub(r"(?<![\w/@:.-])([\w.-]+):[^\s/@:'\"`]+@(?=[\w.-]+:)", r"\1@", text)


def secrets_in(url: str) -> list[str]:
    """Return the secrets of a URL, as written and decoded, the longest first."""
    scheme, user, rest = _split_user(url) if URL.match(url) else ("", "", "")
    name, _, password = user.partition(":")
    found = [password] if password not in {"", "x", "x-oauth-basic"} else [password, name]
    if scheme.lower().startswith("ssh"):
        found = [password]
    query = rest.partition("?")[2]
    found += [part.partition("=")[2] for part in re.split(r"[&;#]", query) if _is_secret(part)]
    spellings = {secret for text in found for secret in (text, unquote(text)) if len(secret) >= _LEAST_SECRET}
    return sorted(spellings, key=len, reverse=True)


def has_unescaped_password(url: str) -> bool:
    """Whether the password of a URL has an unescaped `/`, `?` or `#`: it then looks like a port that is not a number."""
    _, user, rest = _split_user(url)
    port = re.match(r"[^/?#:@\[\]]*:([^/?#]*)", rest)
    return not user and "@" in rest and port is not None and port[1] != "" and not port[1].isdigit()


def _open_url(url: str) -> str:
    scheme, user, rest = _split_user(url)
    if has_unescaped_password(url):
        user, _, rest = rest.rpartition("@")
    is_http = scheme.lower().removeprefix("git+").startswith(("http", "ftp"))
    name = "" if is_http else user.partition(":")[0]
    path, mark, query = rest.partition("?")
    parts = re.split(r"([&;#])", query)
    kept = [part for part in parts if not _is_secret(part)]
    opened = re.sub(r"^[&;]+|[&;]+(?=[&;#]|$)", "", "".join(kept))
    return (
        scheme + (f"{name}@" if name else "") + path + (mark if opened and not opened.startswith("#") else "") + opened
    )


def _split_user(url: str) -> tuple[str, str, str]:
    """Split a URL into `scheme://`, the user and password before the `@`, and the rest, which begins with the host."""
    scheme, _, rest = url.partition("://")
    end = re.search(r"[/?#]|$", rest)
    assert end is not None
    user, _, host = rest[: end.start()].rpartition("@")
    return f"{scheme}://", user, host + rest[end.start() :]


def _is_secret(part: str) -> bool:
    name, equals, value = part.partition("=")
    if not equals:
        return len(name) > _LONG
    name = unquote_plus(name)
    if _SECRET_NAME.search(name):
        return True
    return len(value) > _LONG and not _OPEN_NAME.fullmatch(name)
