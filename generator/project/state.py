"""The state that a project carries: which template and answers made it, and the files as they were rendered.

`.paccel/manifest.json` says what was rendered and from what; `.paccel/baseline.zip` holds the render itself, so that an
upgrade has its merge base without a network, git's history or an older paccel. Both are written to the same bytes on
every machine. The baseline comes with a clone of somebody's repository, so reading it trusts nothing.
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
from ..catalog.questions import Answer
from ..errors import PreconditionError, StateError, TemplateError
from ..files import disk
from ..files.archive import MAX_BYTES, ArchiveError, read_zip
from ..files.tree import STATE_DIR, File, Tree, check_file_path

SCHEMA = 1
MANIFEST_PATH = f"{STATE_DIR}/manifest.json"
BASELINE_PATH = f"{STATE_DIR}/baseline.zip"

MAX_MANIFEST_BYTES = 8 * 2**20

T = TypeVar("T")

_REBUILD = "run `paccel doctor --rebuild-baseline`"
_ADOPT = "run `paccel adopt`"
_RESTORE_BASELINE = f"restore it from your backup or from git, or {_REBUILD}"


class Manifest(NamedTuple):
    """What was rendered, from what, and with which answers.

    Attributes:
        paccel: The version of paccel that rendered.
        template: The template that was rendered.
        answers: Question -> answer, `project_name` included.
        skipped: Paths which upgrades leave alone, sorted.
        files: Path -> (SHA-256, executable) of every file in the baseline.
        unformatted: Path -> SHA-256 before black formatted the file, where that is known. An upgrade formats only files
            for which it differs; projects of paccel 0.1.0 do not have it.
    """

    paccel: str
    template: TemplateRef
    answers: Mapping[str, Answer]
    skipped: tuple[str, ...]
    files: Mapping[str, tuple[str, bool]]
    unformatted: Mapping[str, str] = {}

    def to_json(self) -> str:
        """Return the text of `manifest.json`: sorted keys, final newline."""
        data = {
            "schema": SCHEMA,
            "paccel": self.paccel,
            "template": {
                "source": self.template.source,
                "name": self.template.name,
                "version": self.template.digest,
                "release": self.template.release,
            },
            "answers": dict(self.answers),
            "skipped": sorted(self.skipped),
            "files": {
                path: {"sha256": sha, "executable": executable}
                | ({"unformatted": self.unformatted[path]} if path in self.unformatted else {})
                for path, (sha, executable) in self.files.items()
            },
        }
        return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read the text of a `manifest.json`.

        Raises:
            StateError: It is not what paccel writes.
            PreconditionError: It is of another schema.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            if "<<<<<<<" in text:
                raise StateError(
                    f"`{MANIFEST_PATH}` holds git conflict markers",
                    f"take one side with `git checkout --ours {STATE_DIR}` or `--theirs`, then {_REBUILD}",
                ) from error
            raise _manifest_damaged(f"it is not JSON ({error})") from error
        if not isinstance(data, dict):
            raise _manifest_damaged("it is not an object")
        if data.get("schema") != SCHEMA:
            raise PreconditionError(
                f"`{MANIFEST_PATH}` has schema `{data.get('schema')}`, but paccel {__version__} reads schema `{SCHEMA}`:"
                " upgrade paccel with `pip install -U paccel`"
            )
        template = _take(data, "template", dict)
        files = _take(data, "files", dict)
        answers = _take(data, "answers", dict)
        skipped = _take(data, "skipped", list)
        wrong = [name for name, answer in answers.items() if not isinstance(answer, (str, bool))]
        if wrong:
            raise _manifest_damaged(f"the answer `{wrong[0]}` is neither text nor true or false")
        return cls(
            paccel=_take(data, "paccel", str),
            template=TemplateRef(*(_take(template, key, str) for key in ("source", "name", "version", "release"))),
            answers=answers,
            skipped=tuple(_checked(path) for path in skipped),
            files={_checked(path): _file_entry(path, entry) for path, entry in files.items()},
            unformatted={
                path: _sha256(path, entry["unformatted"]) for path, entry in files.items() if "unformatted" in entry
            },
        )

    @classmethod
    def of(
        cls,
        template: TemplateRef,
        answers: Mapping[str, Answer],
        tree: Tree,
        skipped: tuple[str, ...] = (),
        unformatted: Mapping[str, str] = {},
    ) -> "Manifest":
        """Describe `tree`, rendered from `template` by this paccel."""
        files = {path: (file.sha256, file.executable) for path, file in sorted(tree.items())}
        return cls(__version__, template, dict(answers), tuple(sorted(skipped)), files, dict(unformatted))


def state_bytes(manifest: Manifest, tree: Tree) -> dict[str, bytes]:
    """Return path -> content of the state's files, in the order in which they are to be written (manifest last).

    Raises:
        TemplateError: A path in `tree` leads outside the project or into paccel's own folder.
    """
    assert manifest.files == {path: (file.sha256, file.executable) for path, file in tree.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path, file in sorted(tree.items()):
            info = zipfile.ZipInfo(check_file_path(path), date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3  # Unix, wherever it is written: the mode is read from the Unix half
            info.external_attr = (stat.S_IFREG | (0o755 if file.executable else 0o644)) << 16
            archive.writestr(info, file.content)
    return {BASELINE_PATH: buffer.getvalue(), MANIFEST_PATH: manifest.to_json().encode()}


def write_state(root: Path, manifest: Manifest, tree: Tree) -> None:
    """Write baseline and manifest below `root`, the manifest last: if only one is new, the hashes show it.

    Raises:
        TemplateError: A path in `tree` leads outside the project or into paccel's own folder.
        OSError: The files cannot be written.
    """
    contents = state_bytes(manifest, tree)
    (root / STATE_DIR).mkdir(parents=True, exist_ok=True)
    for path, content in contents.items():
        disk.write_whole(root / path, content)


def read_manifest(root: Path) -> Manifest:
    """Read `.paccel/manifest.json` below `root`, without the baseline.

    Raises:
        StateError: It is missing, unreadable or damaged.
        PreconditionError: A newer paccel wrote it.
    """
    return Manifest.from_json(_read_text(root))


def read_state(root: Path) -> tuple[Manifest, dict[str, File]]:
    """Read manifest and baseline below `root`, every file verified by its hash.

    Raises:
        StateError: One is missing, unreadable or damaged, or they do not belong together.
        PreconditionError: A newer paccel wrote them.
    """
    manifest = read_manifest(root)
    path = root / BASELINE_PATH
    if path.is_symlink() or not path.is_file():
        raise StateError(f"`{BASELINE_PATH}` is missing", _RESTORE_BASELINE)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _baseline_damaged(f"it is larger than {MAX_BYTES // 2**20} MiB")
        tree = read_zip(path.read_bytes(), BASELINE_PATH)
    except ArchiveError as error:
        raise _baseline_damaged(f"it {error.reason}") from error
    except OSError as error:
        raise StateError(f"`{path}` cannot be read: {error.strerror}", "make it readable and try again") from error
    # The manifest's paths were checked when it was read, so what has the same paths is as safe.
    for name in sorted(tree.keys() ^ manifest.files.keys()):
        where = "manifest" if name in manifest.files else "baseline"
        raise _baseline_damaged(f"only the {where} has `{name}`")
    for name, file in tree.items():
        if (file.sha256, file.executable) != manifest.files[name]:
            raise _baseline_damaged(f"`{name}` is not what the manifest recorded")
    return manifest, tree


def _read_text(root: Path) -> str:
    path = root / MANIFEST_PATH
    if (root / STATE_DIR).is_symlink() or path.is_symlink() or not path.is_file():
        raise StateError(
            f"`{root}` is not a paccel project: `{MANIFEST_PATH}` is missing",
            f"go to the project's folder, or {_ADOPT} if its `{STATE_DIR}` was lost",
        )
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise _manifest_damaged(f"it is larger than {MAX_MANIFEST_BYTES // 2**20} MiB")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _manifest_damaged("it is not UTF-8") from error
    except OSError as error:
        raise StateError(f"`{path}` cannot be read: {error.strerror}", "make it readable and try again") from error


def _take(data: dict[str, Any], key: str, kind: type[T]) -> T:
    value = data.get(key)
    if not isinstance(value, kind):
        raise _manifest_damaged(f"`{key}` is missing or of another type")
    return value


def _checked(path: object) -> str:
    if not isinstance(path, str):
        raise _manifest_damaged(f"`{path}` is not a path")
    try:
        return check_file_path(path)
    except TemplateError as error:
        raise _manifest_damaged(str(error)) from error


def _file_entry(path: str, entry: object) -> tuple[str, bool]:
    if not isinstance(entry, dict):
        raise _manifest_damaged(f"the entry of `{path}` is not an object")
    return _sha256(path, entry.get("sha256")), _take(entry, "executable", bool)


def _sha256(path: str, value: object) -> str:
    if not isinstance(value, str) or len(value) != sha256().digest_size * 2:
        raise _manifest_damaged(f"`{path}` has no SHA-256")
    return value


def _manifest_damaged(reason: str) -> StateError:
    return StateError(
        f"`{MANIFEST_PATH}` is damaged: {reason}", f"restore it from your backup or from git, or {_ADOPT}"
    )


def _baseline_damaged(reason: str) -> StateError:
    return StateError(f"`{BASELINE_PATH}` is damaged: {reason}", _RESTORE_BASELINE)
