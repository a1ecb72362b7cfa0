"""The address of a template, as `--template` takes it: parsed, and made relative to a project."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote, unquote_plus

from ..errors import TemplateError
from ..files.names import is_text
from .credentials import URL, has_unescaped_password, secrets_in, without_secrets

Kind = Literal["folder", "zip", "git", "nothing"]

_SHORT = {"gh": "https://github.com/{}.git", "gl": "https://gitlab.com/{}.git", "bb": "https://bitbucket.org/{}.git"}

_SCP = re.compile(r"[^/\\@:\s]+@[^/\\@:\s]+:(?!//)|[^/\\@:\s]{2,}:(?!//)[^@#]*\.git(?=[@#]|$)")
"""The short form of an SSH address, `git@host:path` or `host:path.git`. One letter before the colon is a Windows drive."""


class Address(NamedTuple):
    """Where a template is.

    Attributes:
        kind: A "folder", a "zip" file or a "git" repository; "nothing" if the address leads to none of them.
        place: The absolute path or the URL, secrets included.
        version: A branch, tag or commit of a git repository; empty for the default branch.
        inside: The template's folder within the place; empty if the place has only one template.
        shown: The whole address without secrets, for the manifest and for messages.
        sure: Whether the text after `@` can only be a version.
    """

    kind: Kind
    place: str
    version: str
    inside: str
    shown: str
    sure: bool = True

    @property
    def name(self) -> str:
        """The last part of the place, without `.git` or `.zip`."""
        path = unquote(re.split(r"[?#]", self.place)[0]) if URL.match(self.place) else self.place
        last = re.split(r"[/\\:]", path.rstrip("/\\"))[-1]
        return re.sub(r"(?i)\.(git|zip)$", "", last)

    @property
    def has_secrets(self) -> bool:
        """Whether it holds a password or token, or something that may be one."""
        return bool(URL.match(self.place)) and without_secrets(self.place) != self.place

    def hide(self, text: str) -> str:
        """Return a text, such as an error of git, without the secrets of this address."""
        shown = without_secrets(text)
        for secret in secrets_in(self.place):
            shown = shown.replace(secret, "***")
        return shown


def parse_address(source: str, beside: Path | None = None) -> Address:
    """Parse an address.

    Args:
        source: A folder, a ZIP file or its URL, or a git repository as `URL` or `URL@VERSION`. `#FOLDER` at the end
            chooses one of several templates. `gh:`, `gl:` and `bb:` are short for GitHub, GitLab and Bitbucket. `git+`
            marks a URL or folder as a git repository.
        beside: The folder that a relative path starts from. None: the working directory.

    Raises:
        TemplateError: The address has control characters or invalid Unicode, its password must be escaped, or it is the
            URL of a web page.
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
    if URL.match(text):
        if has_unescaped_password(text):
            raise TemplateError(
                f"The password in `{without_secrets(text)}` has a `/`, `?` or `#`: write `%2F`, `%3F` or `%23` instead"
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
        return Address("git", text, "", "", without_secrets(source))  # git explains what is wrong with it
    return found or Address("nothing", text, "", "", without_secrets(source))


def address_from(source: str, root: Path) -> str:
    """Return an address as the project in `root` records it.

    The path of a template inside or beside the project, or in the same git repository, becomes relative, because both are
    cloned or moved together. Other addresses do not change.

    Args:
        source: From `Address.shown`.
        root: The project's folder.
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
    prefix = "git+" if source.startswith("git+") else ""
    end = source.removeprefix(prefix).removeprefix(address.place)
    return prefix + (relative if relative.startswith("../") else f"./{relative}") + end


_WEB_PAGE = re.compile(
    r"""(?P<repository>https?://[^/]+/(?:[^/]+/[^/]+|.+?/-))  # GitLab puts `-` between a project and its pages
    /(?P<kind>tree|blob|src/branch)/(?P<version>[^/?#]+)(?:/(?P<inside>[^?#]+?))?/?(?:[?#].*)?""",
    re.VERBOSE,
)


def _refuse_web_page(text: str) -> None:
    """Refuse the URL of a folder on GitHub, GitLab or Codeberg, copied from a browser, and say how to write it."""
    page = _WEB_PAGE.fullmatch(text)
    if page is None or re.search(r"\.git(?=[/@#?]|$)", text):
        return
    place, inside = page["repository"].removesuffix("/-"), page["inside"] or ""
    if page["kind"] == "blob":  # a file: use its folder
        inside = inside.rpartition("/")[0]
    address = f"{place}@{page['version']}" + f"#{inside}" * bool(inside)
    raise TemplateError(
        f"`{without_secrets(text)}` is a web page about a repository: write `{without_secrets(address)}`, which is"
        " `REPOSITORY@VERSION#FOLDER`"
    )


def _is_zip(url: str) -> bool:
    path, _, query = url.partition("?")
    if path.lower().endswith(".zip") or "/zipball/" in path or "://codeload.github.com/" in path:
        return True
    values = [unquote_plus(part.partition("=")[2]).lower() for part in query.split("&")]
    return any(value == "zip" or value.endswith(".zip") for value in values)


def _versioned(place: str, inside: str, shown: str) -> Address:
    """Split `@VERSION` off a URL. An `@` before the path, as in `git@host:` or `https://user@host/`, does not start one."""
    url = URL.match(place)
    path_at = place.find("/", url.end()) if url else place.find(":")
    sure = re.fullmatch(r"(.*\.git/?)@(.+)", place)
    head, version = (sure[1], sure[2]) if sure else place.rpartition("@")[::2]
    if path_at < 0 or len(head) <= path_at or not version:
        return Address("git", place, "", inside, shown)
    return Address("git", head, version, inside, shown, sure=sure is not None)


def _file_url(text: str, is_git: bool) -> Address:
    """Parse an address that begins with `file://`; the disk shows where the version begins and what the address names."""
    from urllib.request import url2pathname  # imports http, which takes longer than reading a template

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
    """Parse a path; None if nothing is there."""
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
    """Yield each way to split off `@VERSION`: first without a version, then from the last `@` to the first."""
    yield text, ""
    for found in reversed([*re.finditer("@", text)]):
        if found.end() < len(text):
            yield text[: found.start()], text[found.end() :]


def is_repository(folder: Path) -> bool:
    """Whether a folder is the top folder of a git repository."""
    return (folder / ".git").exists() or _is_bare(folder)


def _is_bare(folder: Path) -> bool:
    return (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir()


def _repository_of(place: Path) -> Path | None:
    return next((folder for folder in [place, *place.parents] if (folder / ".git").exists()), None)
