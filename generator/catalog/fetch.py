"""Fetch a template that is not a local directory: unpack or download a ZIP file, or clone a git repository."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import TemplateError
from ..files.archive import MAX_BYTES, read_zip
from ..files.scratch import scratch_dir
from ..files.tree import write_tree
from .metadata import CONTEXT_FILE

GIT_TIMEOUT_SECONDS = 120

_GIT_PREFIXES = ("git+", "git@", "git://", "ssh://", "file://", "https://", "http://")


@contextmanager
def fetched(source: str, shown: str) -> Iterator[Path | None]:
    """Yield the folder of the template, which is removed afterwards; None if `source` is nothing to fetch.

    Args:
        source: A ZIP file or its URL, or a git URL: `URL`, `URL@REF` for a tag or a branch, and `#FOLDER` after either
            where a repository or an archive holds several templates.
        shown: What errors call it.

    Raises:
        TemplateError: It does not exist, or contains no template.
    """
    place, _, inside = source.partition("#")
    if Path(place).is_file():
        with _unpacked(Path(place).read_bytes(), shown, inside) as folder:
            yield folder
    elif place.startswith(("https://", "http://")) and place.endswith(".zip"):
        with _unpacked(_download(place), shown, inside) as folder:
            yield folder
    elif place.startswith(_GIT_PREFIXES) or place.endswith(".git"):
        with _cloned(place, shown, inside) as folder:
            yield folder
    else:
        yield None


@contextmanager
def _unpacked(content: bytes, shown: str, inside: str) -> Iterator[Path]:
    """Unpack a ZIP file and yield the template's folder in it."""
    files = read_zip(content, shown)
    with scratch_dir() as scratch:
        # The template's name, when the archive holds it without a folder.
        folder = scratch / Path(shown.partition("#")[0]).stem
        write_tree(folder, files)
        yield _template_folder(folder, shown, inside)


@contextmanager
def _cloned(source: str, shown: str, inside: str) -> Iterator[Path]:
    """Clone one commit of a git repository and yield the template's folder in it."""
    url, ref = _split_ref(source.removeprefix("git+"))
    # No prompts, no hooks, no line-ending conversion, and no transport that runs a program which the URL names.
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh"}
    with scratch_dir() as folder:
        # The clone's folder keeps the repository's name, which is the template's name.
        name = url.rstrip("/").removesuffix(".git").replace(":", "/").rsplit("/", 1)[-1] or "template"
        target = folder / name
        command = ["git", "-c", "core.hooksPath=", "-c", "core.autocrlf=false", "clone", "--quiet", "--depth", "1"]
        if ref:
            command.append(f"--branch={ref}")
        try:
            subprocess.run(
                [*command, "--", url, str(target)],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=True,
                timeout=GIT_TIMEOUT_SECONDS,
            )
        except FileNotFoundError as error:
            raise TemplateError(
                f"`{shown}` needs git, which is not installed: install it, or give a ZIP file"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise TemplateError(
                f"`{shown}` could not be cloned within {GIT_TIMEOUT_SECONDS} s: check the network, or clone it and give"
                " the directory"
            ) from error
        except subprocess.CalledProcessError as error:
            lines = error.stderr.decode(errors="replace").strip().splitlines() or ["git did not say why"]
            raise TemplateError(f"`{shown}` could not be cloned: {lines[-1]}") from error
        yield _template_folder(target, shown, inside)


def _split_ref(url: str) -> tuple[str, str]:
    """Cut `@REF` off; the `@` of `git@host:` and of `https://user@host/` comes before the path, and does not start one."""
    head, _, ref = url.rpartition("@")
    _, scheme, path = head.rpartition("://")
    return (head, ref) if head and ("/" if scheme else ":") in path else (url, "")


def _download(url: str) -> bytes:
    from urllib.error import URLError  # loads ssl, which takes longer than most commands
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=GIT_TIMEOUT_SECONDS) as response:
            content: bytes = response.read(MAX_BYTES + 1)
    except (URLError, OSError, ValueError) as error:
        raise TemplateError(f"`{url}` could not be downloaded: {getattr(error, 'reason', error)}") from error
    if len(content) > MAX_BYTES:
        raise TemplateError(f"`{url}` is larger than {MAX_BYTES // 2**20} MiB")
    return content


def _template_folder(folder: Path, shown: str, inside: str) -> Path:
    """Return the template's folder: the named one, or the only one that can be a template (a pack has layers too)."""
    top, folder = folder, folder / inside
    if not folder.is_dir() or not folder.resolve().is_relative_to(top.resolve()):
        raise TemplateError(f"`{shown}` has no folder `{inside}`")
    for candidates in ([folder], list(folder.iterdir()), list(folder.glob("[!.]*/*"))):
        found = [
            path for path in candidates if (path / CONTEXT_FILE).is_file() and not path.name.startswith(("_", "."))
        ]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(sorted(f"`{path.name}`" for path in found))
            raise TemplateError(f"`{shown}` has several templates ({names}): choose one, as in `…#{found[0].name}`")
    raise TemplateError(f"`{shown}` has no cookiecutter template: there is no `{CONTEXT_FILE}` in it")
