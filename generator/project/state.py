"""The state in a project: the template and answers that it was generated from, and the files as they were rendered.

`.paccel/manifest.json` records the template and the answers. `.paccel/baseline.zip` holds the rendered files, the base of
the next merge, so that an upgrade needs no network, git history or older paccel. Neither depends on the machine, the time
or the umask. The baseline is compressed, so that a search and replace over all files does not change it; a `.gitignore`
and a `.gitattributes` beside it keep the project's git settings away from both. The state may come from an untrusted
repository, so everything that is read is checked.
"""

import io
import json
import stat
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from .. import __version__
from ..catalog.metadata import TemplateRef
from ..catalog.questions import Answer, is_answer
from ..errors import PreconditionError, StateError, TemplateError
from ..files import disk
from ..files.archive import ArchiveError, read_zip
from ..files.tree import MAX_BYTES, STATE_DIR, File, Tree, check_file_path
from ..sandbox.draws import is_record
from ..vendor.runtime import Vendored

SCHEMA = 1
MANIFEST_PATH = f"{STATE_DIR}/manifest.json"
BASELINE_PATH = f"{STATE_DIR}/baseline.zip"

GITIGNORE_PATH = f"{STATE_DIR}/.gitignore"
GITATTRIBUTES_PATH = f"{STATE_DIR}/.gitattributes"
STATE_PATHS = (GITIGNORE_PATH, GITATTRIBUTES_PATH, BASELINE_PATH, MANIFEST_PATH)
"""The files of the state, in the order in which they are written."""

MAX_MANIFEST_BYTES = 8 * 2**20

_GITIGNORE = b"""\
# Written by paccel. These four files belong in git, even if the project ignores files like them. The rest is of this
# machine: backups of your files, and what an upgrade put aside.
*
!.gitignore
!.gitattributes
!manifest.json
!baseline.zip
"""
_GITATTRIBUTES = b"""\
# Written by paccel. Git must not change its state: no Git LFS, no other line ends.
* -text -filter -ident !working-tree-encoding !diff !merge
baseline.zip -diff -merge
"""
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"

T = TypeVar("T")

_REBUILD = "run `paccel doctor --rebuild-baseline`"
_ADOPT = "run `paccel adopt`"
_RESTORE_BASELINE = f"restore it from your backup or from git, or {_REBUILD}"


class Manifest(NamedTuple):
    """The record of a render.

    Attributes:
        paccel: The version of paccel.
        template: The template.
        answers: Question -> answer, with `project_name`.
        skipped: Paths that upgrades do not touch, sorted.
        files: Path -> (SHA-256, executable) of every file in the baseline.
        unformatted: Path -> SHA-256 before black formatted the file, if known. An upgrade formats only files for which it
            differs. Empty in projects of paccel 0.1.0.
        drawn: The template's random values and its clock, see `Draws`.
        answers_sha256: SHA-256 of the answers at the time of the render. It differs from that of `answers` if someone
            edited them in the file, or merged them with git. Empty in projects of paccel 0.1.0.
        vendored: The project's own copy of the runtime, if `paccel eject` made one.
    """

    paccel: str
    template: TemplateRef
    answers: Mapping[str, Answer]
    skipped: tuple[str, ...]
    files: Mapping[str, tuple[str, bool]]
    unformatted: Mapping[str, str] = {}
    drawn: Mapping[str, Any] = {}
    answers_sha256: str = ""
    vendored: Vendored | None = None

    @property
    def answers_edited(self) -> bool:
        """Whether `answers` differ from those of the render."""
        return self.answers_sha256 not in {"", answers_hash(self.answers)}

    def to_json(self) -> str:
        """Return the text of `manifest.json`, with sorted keys."""
        template = {
            "source": self.template.source,
            "name": self.template.name,
            "version": self.template.digest,
            "release": self.template.release,
        }
        if self.template.commit:
            template["commit"] = self.template.commit
        files: dict[str, dict[str, Any]] = {}
        for path, (sha, executable) in self.files.items():
            files[path] = {"sha256": sha, "executable": executable}
            if path in self.unformatted:
                files[path]["unformatted"] = self.unformatted[path]
        data = {
            "schema": SCHEMA,
            "paccel": self.paccel,
            "template": template,
            "answers": dict(self.answers),
            "skipped": sorted(self.skipped),
            "files": files,
        }
        optional = {
            "answers_sha256": self.answers_sha256,
            "drawn": dict(self.drawn),
            "vendored": self.vendored._asdict() if self.vendored is not None else None,
        }
        data |= {key: value for key, value in optional.items() if value}
        return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read the text of a `manifest.json`.

        Raises:
            StateError: The text is not a manifest.
            PreconditionError: The manifest has another schema.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            if "<<<<<<<" in text:
                raise StateError(
                    f"`{MANIFEST_PATH}` holds git conflict markers",
                    f"take one side with `git checkout --ours {STATE_DIR}` or `--theirs`, then {_REBUILD}",
                ) from error
            raise _damaged(MANIFEST_PATH, f"it is not JSON ({error})") from error
        if not isinstance(data, dict):
            raise _damaged(MANIFEST_PATH, "it is not an object")
        if data.get("schema") != SCHEMA:
            raise PreconditionError(
                f"`{MANIFEST_PATH}` has schema `{data.get('schema')}`, but paccel {__version__} reads schema `{SCHEMA}`:"
                " upgrade paccel with `pip install -U paccel`"
            )
        template = _take(data, "template", dict)
        files = _take(data, "files", dict)
        answers = _take(data, "answers", dict)
        skipped = _take(data, "skipped", list)
        wrong = [name for name, answer in answers.items() if not is_answer(answer)]
        if wrong:
            raise _damaged(MANIFEST_PATH, f"the answer `{wrong[0]}` must be text, true, false or a list of texts")
        drawn = _take(data, "drawn", dict) if "drawn" in data else {}
        if not is_record(drawn):
            raise _damaged(MANIFEST_PATH, "`drawn` is not a record of random values")
        ref = TemplateRef(
            *(_take({"commit": "", **template}, key, str) for key in ("source", "name", "version", "release", "commit"))
        )
        if "\0" in ref.source:
            raise _damaged(MANIFEST_PATH, "the template's source has a NUL character")
        return cls(
            paccel=_take(data, "paccel", str),
            template=ref,
            answers=answers,
            skipped=tuple(_checked(path) for path in skipped),
            files={_checked(path): _file_entry(path, entry) for path, entry in files.items()},
            unformatted={
                path: _sha256(path, entry["unformatted"]) for path, entry in files.items() if "unformatted" in entry
            },
            drawn=drawn,
            answers_sha256=_sha256("answers", data["answers_sha256"]) if "answers_sha256" in data else "",
            vendored=_vendored(_take(data, "vendored", dict)) if "vendored" in data else None,
        )

    @classmethod
    def of(
        cls,
        template: TemplateRef,
        answers: Mapping[str, Answer],
        tree: Tree,
        skipped: tuple[str, ...] = (),
        unformatted: Mapping[str, str] = {},
        drawn: Mapping[str, Any] = {},
    ) -> "Manifest":
        """Return the manifest of `tree`, rendered from `template` by this paccel."""
        files = {path: (file.sha256, file.executable) for path, file in sorted(tree.items())}
        return cls(
            __version__,
            template,
            dict(answers),
            tuple(sorted(skipped)),
            files,
            dict(unformatted),
            dict(drawn),
            answers_hash(answers),
        )


def answers_hash(answers: Mapping[str, Answer]) -> str:
    """Return the SHA-256 of the answers; their order does not matter."""
    return sha256(json.dumps(dict(answers), sort_keys=True).encode()).hexdigest()


def state_bytes(manifest: Manifest, tree: Tree) -> dict[str, bytes]:
    """Return path -> content of the state's files, in the order in which they must be written (manifest last).

    Raises:
        TemplateError: A path in `tree` leads outside the project or into `.paccel`.
    """
    assert manifest.files == {path: (file.sha256, file.executable) for path, file in tree.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, file in sorted(tree.items()):
            info = zipfile.ZipInfo(check_file_path(path), date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # Unix on every system, so that the mode is in the same place
            info.external_attr = (stat.S_IFREG | (0o755 if file.executable else 0o644)) << 16
            archive.writestr(info, file.content, zipfile.ZIP_DEFLATED)
    # A lone surrogate, from a file name that is not UTF-8, is written as an escape that JSON can read.
    text = manifest.to_json().encode("utf-8", "backslashreplace")
    return dict(zip(STATE_PATHS, (_GITIGNORE, _GITATTRIBUTES, buffer.getvalue(), text), strict=True))


def write_state(root: Path, manifest: Manifest, tree: Tree) -> None:
    """Write the state below `root`, the manifest last: if the process is killed in between, the hashes do not match.

    Raises:
        TemplateError: A path in `tree` leads outside the project or into `.paccel`.
        OSError: The files cannot be written.
    """
    contents = state_bytes(manifest, tree)
    (root / STATE_DIR).mkdir(parents=True, exist_ok=True)
    for path, content in contents.items():
        disk.write_whole(root / path, content)


def read_manifest(root: Path) -> Manifest:
    """Read `.paccel/manifest.json` below `root`, without the baseline.

    Raises:
        StateError: The file is missing, unreadable or damaged.
        PreconditionError: A newer paccel wrote it.
    """
    content = _read(root, MANIFEST_PATH, MAX_MANIFEST_BYTES)
    if content is None:
        raise StateError(
            f"`{root}` is not a paccel project: `{MANIFEST_PATH}` is missing",
            f"go to the project's folder, or {_ADOPT} if its `{STATE_DIR}` was lost",
        )
    try:
        return Manifest.from_json(content.decode("utf-8-sig"))  # some editors add a byte order mark
    except UnicodeDecodeError as error:
        raise _damaged(MANIFEST_PATH, "it is not UTF-8") from error


def read_state(root: Path) -> tuple[Manifest, dict[str, File]]:
    """Read manifest and baseline below `root`, and verify the hash of every file.

    Raises:
        StateError: A file is missing, unreadable or damaged, or they do not belong together.
        PreconditionError: A newer paccel wrote them.
    """
    manifest = read_manifest(root)
    content = _read(root, BASELINE_PATH, MAX_BYTES)
    if content is None:
        raise StateError(f"`{BASELINE_PATH}` is missing", _RESTORE_BASELINE)
    try:
        tree = read_zip(content, BASELINE_PATH)
    except ArchiveError as error:
        raise _damaged(BASELINE_PATH, f"it {error.reason}") from error
    # The manifest's paths were checked when it was read, so equal paths are safe.
    for name in sorted(tree.keys() ^ manifest.files.keys()):
        where = "manifest" if name in manifest.files else "baseline"
        raise _damaged(BASELINE_PATH, f"only the {where} has `{name}`")
    for name, file in tree.items():
        if (file.sha256, file.executable) != manifest.files[name]:
            raise _damaged(BASELINE_PATH, f"`{name}` is not what the manifest recorded")
    return manifest, tree


def _read(root: Path, name: str, limit: int) -> bytes | None:
    """Read one file of the state; None if it does not exist.

    Raises:
        StateError: It is not a regular file, is larger than `limit` bytes, a pointer of Git LFS, or unreadable.
    """
    path = root / name
    try:
        for part in (path.parent, path):
            if part.is_symlink():
                raise _damaged(name, "it is behind a symbolic link, which paccel does not follow")
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise _damaged(name, "it is not a regular file")
        if status.st_size > limit:
            raise _damaged(name, f"it is larger than {limit // 2**20} MiB")
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StateError(f"`{path}` cannot be read: {error.strerror}", "make it readable and try again") from error
    if content.startswith(_LFS_POINTER):
        alternative = f", or {_REBUILD}" if name == BASELINE_PATH else ""
        raise StateError(f"`{name}` is only a pointer of Git LFS", f"fetch the file with `git lfs pull`{alternative}")
    return content


def _take(data: dict[str, Any], key: str, kind: type[T]) -> T:
    value = data.get(key)
    if not isinstance(value, kind):
        raise _damaged(MANIFEST_PATH, f"`{key}` is missing or has the wrong type")
    return value


def _checked(path: object) -> str:
    if not isinstance(path, str):
        raise _damaged(MANIFEST_PATH, f"`{path}` is not a path")
    try:
        return check_file_path(path)
    except TemplateError as error:
        raise _damaged(MANIFEST_PATH, str(error)) from error


def _vendored(entry: dict[str, Any]) -> Vendored:
    path, version = _checked(_take(entry, "path", str)), _take(entry, "version", str)
    return Vendored(path, version, _sha256(path, entry.get("sha256")))


def _file_entry(path: str, entry: object) -> tuple[str, bool]:
    if not isinstance(entry, dict):
        raise _damaged(MANIFEST_PATH, f"the entry of `{path}` is not an object")
    return _sha256(path, entry.get("sha256")), _take(entry, "executable", bool)


def _sha256(path: str, value: object) -> str:
    if not isinstance(value, str) or len(value) != sha256().digest_size * 2:
        raise _damaged(MANIFEST_PATH, f"`{path}` has no SHA-256")
    return value


def _damaged(name: str, reason: str) -> StateError:
    remedy = _RESTORE_BASELINE if name == BASELINE_PATH else f"restore it from your backup or from git, or {_ADOPT}"
    return StateError(f"`{name}` is damaged: {reason}", remedy)
