"""What an upgrade does to one file, and what it tells the user about it."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

from ..files.tree import STATE_DIR, File
from ..project.compare import compare

Status = Literal[
    "updated", "merged", "conflict", "kept", "moved", "deleted", "added", "restored", "resolved", "adapted"
]

INCOMING_DIR = f"{STATE_DIR}/incoming"
"""The folder for the template's version of a file, if it cannot be merged into the user's."""


class Summary(NamedTuple):
    """What to tell the user about one file; the part of a `FileChange` that a journal stores.

    Attributes:
        path: The path after the upgrade; of a deleted file, the path before.
        status: What happens, in one word; "resolved" after the user resolved a conflict.
        reason: Why, in one sentence.
        moved_from: The path before the upgrade, if the file moves.
        conflicts: The number of conflicts in it.
        incoming: The path of the template's version, if it is put aside.
        why: The template's changelog lines about it.
    """

    path: str
    status: Status
    reason: str
    moved_from: str | None = None
    conflicts: int = 0
    incoming: str | None = None
    why: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what `--json` prints; keys without a value are left out."""
        kept = ("path", "status", "reason", "why")
        data = {key: value for key, value in self._asdict().items() if value or key in kept}
        return data | {"why": list(self.why)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Summary":
        """Read what `to_json` returns.

        Raises:
            ValueError, KeyError, TypeError: It is not a summary.
        """
        if data["status"] not in get_args(Status):
            raise ValueError(f"`{data['status']}` is not a status")
        texts = {key: str(data[key]) for key in ("moved_from", "incoming") if data.get(key) is not None}
        why = tuple(str(line) for line in data["why"])
        return cls(
            str(data["path"]),
            data["status"],
            str(data["reason"]),
            **texts,
            conflicts=int(data.get("conflicts", 0)),
            why=why,
        )


class FileChange(NamedTuple):
    """What an upgrade does to one file.

    Attributes:
        path: The path after the upgrade; of a deleted file, the path before.
        status: What happens, in one word.
        reason: Why, in one sentence.
        before: The user's file, at `moved_from` if that is set; None if there is none.
        after: The file after the upgrade; None if there is none. Equal to `before` if nothing is written.
        moved_from: The path before the upgrade, if the file moves.
        conflicts: The number of conflicts in it; at least 1 if `status` is "conflict".
        incoming: The template's file, to be put below `.paccel/incoming/`, if `after` does not contain it.
        why: The template's changelog lines about it.
    """

    path: str
    status: Status
    reason: str
    before: File | None = None
    after: File | None = None
    moved_from: str | None = None
    conflicts: int = 0
    incoming: File | None = None
    why: tuple[str, ...] = ()

    @property
    def writes(self) -> bool:
        """Whether the user's file changes."""
        return self.before != self.after or self.moved_from is not None

    @property
    def summary(self) -> Summary:
        """What to tell the user about it."""
        incoming = f"{INCOMING_DIR}/{self.path}" if self.incoming is not None else None
        return Summary(self.path, self.status, self.reason, self.moved_from, self.conflicts, incoming, self.why)

    def diff(self) -> str:
        """The change of the user's file as a unified diff; empty if there is none."""
        before = {self.path: self.before} if self.before else {}
        after = {self.path: self.after} if self.after else {}
        return "".join(found.text for found in compare(before, after))
