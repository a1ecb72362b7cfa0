"""The address of a template: what `--template` takes, taken apart, and shown without its secrets.

A password or token in an address is used for one run. It is never recorded or printed.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote, unquote_plus

from ..errors import TemplateError
from ..files.names import is_text

Kind = Literal["folder", "zip", "git", "nothing"]

_SHORT = {"gh": "https://github.com/{}.git", "gl": "https://gitlab.com/{}.git", "bb": "https://bitbucket.org/{}.git"}

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SCP = re.compile(r"[^/\\@:\s]+@[^/\\@:\s]+:(?!//)|[^/\\@:\s]{2,}:(?!//)[^@#]*\.git(?=[@#]|$)")
"""ssh's short form, `git@host:path` or `host:path.git`. A single letter before the colon is a drive of Windows."""

_SECRET_NAME = re.compile(r"(?i)token|secret|pass|pwd|^sig$|signature|credential|auth|key|jwt|session|policy|cookie")
_OPEN_NAME = re.compile(
    r"(?i)ref|ref_?(name|type)|rev|revision|sha|commit|branch|tag|at|v|version|path|file|filename|prefix"
)
_LONG = 16
"""A value of a query that is longer counts as a secret, unless its name says that it is not."""

_LEAST_SECRET = 4
"""A shorter secret is not searched for in other texts: it would be found in ordinary words."""


class Address(NamedTuple):
    """Where a template is.

    Attributes:
        kind: A "folder", a "zip" file or a "git" repository; "nothing" where there is none of these.
        place: Its absolute path, or its URL, secrets included.
        version: A branch, a tag or a commit of a git repository; empty: its default branch.
        inside: The folder in it that holds the template; empty: the only one that can be a template.
        shown: The whole address as it is recorded and printed.
        sure: Whether what follows the `@` can only be a version.
    """

    kind: Kind
    place: str
    version: str
    inside: str
    shown: str
    sure: bool = True

    @property
    def name(self) -> str:
        """The last part of its place, without `.git` or `.zip`."""
        path = unquote(re.split(r"[?#]", self.place)[0]) if _URL.match(self.place) else self.place
        last = re.split(r"[/\\:]", path.rstrip("/\\"))[-1]
        return re.sub(r"(?i)\.(git|zip)$", "", last)

    @property
    def has_secrets(self) -> bool:
        """Whether it holds a password, a token, or what may be one."""
        return bool(_URL.match(self.place)) and _open_url(self.place) != self.place

    def hide(self, text: str) -> str:
        """Return a text, such as an error of git, without the secrets of this address."""
        shown = without_secrets(text)
        for secret in _secrets(self.place):
            shown = shown.replace(secret, "***")
        return shown


def parse_address(source: str, beside: Path | None = None) -> Address:
    """Take an address apart.

    Args:
        source: A folder, a ZIP file or its URL, or a git repository as `URL` or `URL@VERSION`; `#FOLDER` after any of them
            chooses one of several templates. `gh:`, `gl:` and `bb:` are short for GitHub, GitLab and Bitbucket; `git+`
            says that a URL or folder is a git repository.
        beside: The folder that a relative path starts from; None: the working directory.

    Raises:
        TemplateError: It has control characters or is not valid Unicode, or its password must be written otherwise.
    """
    if not is_text(source):
        raise TemplateError(
            f"The template's address has control characters or is not valid Unicode: {without_secrets(source)!a}"
        )
    text = source.removeprefix("git+")
    is_git = text != source
    short, colon, rest = text.partition(":")
    if colon and short in _SHORT and not rest.startswith("//"):
        name, end = re.fullmatch(r"([^@#]*)(.*)", rest).groups()  # type: ignore[union-attr]  # it matches every text
        text = _SHORT[short].format(name.strip("/").removesuffix(".git")) + end
    if text.lower().startswith("file://"):
        return _file_url(text, is_git)
    _refuse_web_page(text)
    if _URL.match(text):
        _, user, host = _split_user(text)
        if not user and _has_odd_port(host) and "@" in host:
            raise TemplateError(
                f"The password in `{without_secrets(text)}` has a `/`, `?` or `#`: write `%2F`, `%3F` or `%23` in its place"
            )
        place, _, inside = text.partition("#")
        shown = ("git+" if is_git else "") + without_secrets(text)
        if place.lower().startswith(("https://", "http://")) and _is_zip(place) and not is_git:
            return Address("zip", place, "", inside, shown)
        return _versioned(place, inside, shown)
    if _SCP.match(text):
        place, _, inside = text.partition("#")
        return _versioned(place, inside, without_secrets(source))
    found = _on_disk(text, beside, is_git)
    if found is None and is_git:
        return Address("git", text, "", "", without_secrets(source))  # git says what is wrong with it
    return found or Address("nothing", text, "", "", without_secrets(source))


def address_from(source: str, root: Path) -> str:
    """Return what a project in `root` records of an address, as `Address.shown` has it.

    A template beside the project, in it or in the same git repository is recorded relative to the project: both are cloned
    or moved together. Everything else is recorded as it is.
    """
    address = parse_address(source)
    if not os.path.isabs(address.place):
        return source
    project = Path(os.path.realpath(root))
    place = Path(os.path.realpath(os.path.dirname(address.place)), os.path.basename(address.place))
    repository = _repository_of(project)
    together = repository is not None and repository == _repository_of(place)
    if not (together or place.parent == project.parent or place.is_relative_to(project)):
        return source
    relative = os.path.relpath(place, project).replace(os.sep, "/")
    is_git, absolute, end = source.startswith("git+"), address.place, source.removeprefix("git+")
    end = end.removeprefix(absolute)
    return ("git+" if is_git else "") + (relative if relative.startswith("../") else f"./{relative}") + end


def without_secrets(text: str) -> str:
    """Return a text without the passwords and tokens of the addresses in it.

    Removed are the user of a http address, who may be a token; the password of any other; and each part of a query whose
    name speaks of a secret, or whose value is as long as one. The user of `git@host:path` and `ssh://git@host` stays.
    """
    if _URL.match(text.removeprefix("git+")):
        return _open_url(text)
    text = re.sub(rf"{_URL.pattern}[^\s'\"`<>]+", lambda found: _open_url(found[0]), text)
    return re.sub(r"(?<![\w/@:.-])([\w.-]+):[^\s/@:'\"`]+@(?=[\w.-]+:)", r"\1@", text)


def _open_url(url: str) -> str:
    scheme, user, rest = _split_user(url)
    if not user and _has_odd_port(rest) and "@" in rest:  # a password with a slash in it
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


_WEB_PAGE = re.compile(
    r"""(?P<repository>https?://[^/]+/(?:[^/]+/[^/]+|.+?/-))  # GitLab parts its pages from a project in groups by `-`
    /(?P<kind>tree|blob|src/branch)/(?P<version>[^/?#]+)(?:/(?P<inside>[^?#]+?))?/?(?:[?#].*)?""",
    re.VERBOSE,
)


def _refuse_web_page(text: str) -> None:
    """Say how to write the address of a folder that was copied from a browser, on GitHub, GitLab or Codeberg."""
    page = _WEB_PAGE.fullmatch(text)
    if page is None or re.search(r"\.git(?=[/@#?]|$)", text):
        return
    place, inside = page["repository"].removesuffix("/-"), page["inside"] or ""
    if page["kind"] == "blob":  # a file: its folder is meant
        inside = inside.rpartition("/")[0]
    address = f"{place}@{page['version']}" + f"#{inside}" * bool(inside)
    raise TemplateError(
        f"`{without_secrets(text)}` is a web page about a repository: write `{without_secrets(address)}`, which is"
        " `REPOSITORY@VERSION#FOLDER`"
    )


def _split_user(url: str) -> tuple[str, str, str]:
    """Cut a URL in `scheme://`, the user and password before the `@`, and the rest, which begins with the host."""
    scheme, _, rest = url.partition("://")
    end = re.search(r"[/?#]|$", rest)
    assert end is not None
    user, _, host = rest[: end.start()].rpartition("@")
    return f"{scheme}://", user, host + rest[end.start() :]


def _has_odd_port(rest: str) -> bool:
    """Whether what looks like the port of a host is no number: then it is the beginning of a password."""
    port = re.match(r"[^/?#:@\[\]]*:([^/?#]*)", rest)
    return port is not None and not port[1].isdigit() and port[1] != ""


def _is_secret(part: str) -> bool:
    name, equals, value = part.partition("=")
    if not equals:
        return len(name) > _LONG
    name = unquote_plus(name)
    if _SECRET_NAME.search(name):
        return True
    return len(value) > _LONG and not _OPEN_NAME.fullmatch(name)


def _secrets(url: str) -> list[str]:
    """The secrets of a URL as they are written and as they are meant, the longest first."""
    scheme, user, rest = _split_user(url) if _URL.match(url) else ("", "", "")
    name, _, password = user.partition(":")
    found = [password] if password not in {"", "x", "x-oauth-basic"} else [password, name]
    if scheme.lower().startswith("ssh"):
        found = [password]
    query = rest.partition("?")[2]
    found += [part.partition("=")[2] for part in re.split(r"[&;#]", query) if _is_secret(part)]
    meant = {secret for text in found for secret in (text, unquote(text)) if len(secret) >= _LEAST_SECRET}
    return sorted(meant, key=len, reverse=True)


def _is_zip(url: str) -> bool:
    path, _, query = url.partition("?")
    if path.lower().endswith(".zip") or "/zipball/" in path or "://codeload.github.com/" in path:
        return True
    values = [unquote_plus(part.partition("=")[2]).lower() for part in query.split("&")]
    return any(value == "zip" or value.endswith(".zip") for value in values)


def _versioned(place: str, inside: str, shown: str) -> Address:
    """Cut `@VERSION` off a URL; the `@` of `git@host:` and of `https://user@host/` comes before the path, and starts none."""
    start = len(_split_user(place)[0]) if _URL.match(place) else 0
    path_at = place.find("/", start) if start else place.find(":")
    sure = re.fullmatch(r"(.*\.git/?)@(.+)", place)
    head, version = (sure[1], sure[2]) if sure else place.rpartition("@")[::2]
    if path_at < 0 or len(head) <= path_at or not version:
        return Address("git", place, "", inside, shown)
    return Address("git", head, version, inside, shown, sure=sure is not None)


def _file_url(text: str, is_git: bool) -> Address:
    """An address that begins with `file://`: what is on the disk decides where a version begins and what it names."""
    from urllib.request import url2pathname  # loads http, which takes longer than reading a template

    url, _, inside = text.partition("#")
    shown = ("git+" if is_git else "") + text
    for head, version in _cuts(url):
        path = re.sub(r"^(localhost)?(?=/)", "", head[len("file://") :])
        found = url2pathname(path)
        if os.path.isfile(found) and not version and not is_git:
            return Address("zip", os.path.abspath(found), "", inside, shown)
        if os.path.isdir(found):
            if is_git or version or is_repository(Path(found)):
                return Address("git", head, version, inside, shown)
            return Address("folder", os.path.abspath(found), "", inside, shown)
    return _versioned(url, inside, shown)


def _on_disk(text: str, beside: Path | None, is_git: bool) -> Address | None:
    place, _, inside = text.partition("#")
    for head, version, folder in [(text, "", ""), *((head, version, inside) for head, version in _cuts(place))]:
        path = os.path.abspath(os.path.join(beside or "", os.path.expanduser(head)))
        if not head or not os.path.exists(path):
            continue
        shown = ("git+" if is_git else "") + path + f"@{version}" * bool(version) + f"#{folder}" * bool(folder)
        if os.path.isfile(path) and not version and not is_git:
            return Address("zip", path, "", folder, shown)
        if os.path.isdir(path):
            if is_git or _is_bare(Path(path)) or (version and is_repository(Path(path))):
                return Address("git", path, version, folder, shown)
            if not version:
                return Address("folder", path, "", folder, shown)
    return None


def _cuts(text: str) -> Iterator[tuple[str, str]]:
    """Yield each way to cut `@VERSION` off, beginning with none."""
    yield text, ""
    for found in reversed([*re.finditer("@", text)]):
        if found.end() < len(text):
            yield text[: found.start()], text[found.end() :]


def is_repository(folder: Path) -> bool:
    """Whether a folder is the top of a git repository."""
    return (folder / ".git").exists() or _is_bare(folder)


def _is_bare(folder: Path) -> bool:
    return (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir()


def _repository_of(place: Path) -> Path | None:
    return next((folder for folder in [place, *place.parents] if (folder / ".git").exists()), None)
