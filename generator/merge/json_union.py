"""JSON files merged key by key, in any layout, with comments and trailing commas.

The template's changes are written into the user's text, in its layout; all other text stays as it is.
"""

import json
from dataclasses import dataclass, replace
from typing import Any

from .json_text import JsonText, Member, Value, read
from .keyed import MISSING, merge_keyed
from .pieces import Sides


def union_json(sides: Sides) -> list[str] | None:
    """Merge whole JSON files key by key; None if both sides changed a value differently, or a comment would be lost."""
    base, ours, theirs = (read("\n".join(lines)) for lines in sides.texts)
    if base is None or ours is None or theirs is None:
        return None
    merged = _merge_objects(base.value.plain, ours.value.plain, theirs.value.plain)
    if merged is MISSING:
        return None
    text = _Writer(ours, theirs).document(base)
    result = None if text is None else read(text)
    if text is None or result is None or not _same(result.value.plain, merged):
        return None
    for comment in base.comments | ours.comments | theirs.comments:
        counts = [side.comments[comment] for side in (base, ours, theirs)]
        wanted = counts[2] if counts[1] == counts[0] else counts[1]
        if counts[2] not in (counts[0], wanted) or result.comments[comment] != wanted:
            return None
    return text.split("\n")


def _merge_objects(base: object, ours: object, theirs: object) -> Any:
    if not (isinstance(base, dict) and isinstance(ours, dict) and isinstance(theirs, dict)):
        return MISSING
    merged = merge_keyed(base, ours, theirs, same=_same, inside=_merge_objects)
    return MISSING if merged is None else merged


def _same(one: object, other: object) -> bool:
    """Equality that tells `true` from `1`, unlike Python's."""
    return json.dumps(one) == json.dumps(other)


@dataclass
class _Writer:
    """Writes the template's changes into our text; its methods return None if a comment finds no place there."""

    ours: JsonText
    theirs: JsonText

    def document(self, base: JsonText) -> str | None:
        value, text = self.ours.value, self.ours.text
        written = self._object(base.value, value, self.theirs.value)
        return None if written is None else text[: value.start] + written + text[value.end :]

    def _object(self, base: Value, ours: Value, theirs: Value) -> str | None:
        """The text of our object with theirs' changes."""
        was, mine, new = base.members or {}, ours.members or {}, theirs.members or {}
        members: list[Member] = []
        bodies: list[str] = []
        for key, member in mine.items():
            body = self._member(was.get(key), member, new.get(key))
            if body is None:
                return None
            if body:
                members.append(member)
                bodies.append(body)
        if members and "\n" not in members[0].lead:
            members[0] = replace(members[0], lead=next(iter(mine.values())).lead)
        added = [key for key in new if key not in mine and key not in was]
        lead, rest = self._layout(ours, theirs) if added else ("", ours.rest)
        for key in added:
            member = new[key]
            value = self._value_text(member.value, lead)
            comments = [line.strip() for line in member.lead.split("\n") if line.strip()]
            if value is None or ((comments or member.after.strip()) and "\n" not in lead):
                return None
            before = "" if not members and "\n" not in lead else lead.join(["", *comments, ""])
            members.append(Member(before, "", member.value, after=member.after))
            bodies.append(json.dumps(key, ensure_ascii=False) + self._colon() + value)
        last = next(reversed(mine.values()), None)
        text = ""
        for place, (member, body) in enumerate(zip(members, bodies, strict=True), 1):
            comma = "," * (place < len(members) or (last is not None and last.comma))
            text += member.lead + body + (member.tail + comma if member.comma else comma + member.tail) + member.after
        return "{" + text + rest + "}"

    def _member(self, was: Member | None, mine: Member, new: Member | None) -> str | None:
        """The text of our member with theirs' changes, from its key on; empty if theirs removed it."""
        kept = mine.name + self.ours.text[mine.value.start : mine.value.end]
        if was is None:
            return kept
        if new is None:
            return ""
        if _same(was.value.plain, new.value.plain):
            return kept
        if all(member.value.members is not None for member in (was, mine, new)):
            inner = self._object(was.value, mine.value, new.value)
            return None if inner is None else mine.name + inner
        if _same(mine.value.plain, new.value.plain):
            return kept
        text = self._value_text(new.value, _plain_lead(mine.lead))
        return None if text is None else mine.name + text

    def _layout(self, ours: Value, theirs: Value) -> tuple[str, str]:
        """The white space before a new member of our object, and after the last member."""
        members = list((ours.members or {}).values())
        if members:
            lead = _plain_lead(members[-1].lead) if len(members) > 1 or "\n" in members[0].lead else self._colon()[1:]
            return lead, ours.rest
        if "\n" not in self.theirs.text[theirs.start : theirs.end]:
            return "", ours.rest
        indent = _indent_at(self.ours.text, ours.start)
        return f"\n{indent}{self._step()}", f"\n{indent}"

    def _step(self) -> str:
        """One level of indentation in our file, else in theirs."""
        return _step_of(self.ours) or _step_of(self.theirs) or "  "

    def _colon(self) -> str:
        found = next((token for token in self.ours.tokens if token.text == ":"), None)
        return ": " if found is None or self.ours.text[found.end : found.end + 1].isspace() else ":"

    def _value_text(self, value: Value, lead: str) -> str | None:
        """The text of their value below `lead` in ours: on one line, or with our indentation."""
        text = self.theirs.text[value.start : value.end]
        if "\n" not in lead:
            if any(token.kind == "comment" and value.start <= token.start < value.end for token in self.theirs.tokens):
                return None
            spaced = ", " if ", " in self.ours.text else ","
            return json.dumps(value.plain, ensure_ascii=False, separators=(spaced, self._colon()))
        ours, theirs = lead.rpartition("\n")[2], _indent_at(self.theirs.text, value.start)
        step, their_step = self._step(), _step_of(self.theirs)
        lines = text.split("\n")
        for number, line in enumerate(lines[1:], 1):
            bare = line.lstrip()
            deeper = line[: len(line) - len(bare)].removeprefix(theirs)
            if their_step:
                deeper = step * deeper.count(their_step)
            lines[number] = ours + deeper + bare if bare else ""
        return "\n".join(lines)


def _plain_lead(lead: str) -> str:
    """The white space just before a member, without comments."""
    if "\n" in lead:
        last = lead.rpartition("\n")[2]
        return "\n" + last[: len(last) - len(last.lstrip())]
    return lead if not lead.strip() else " "


def _indent_at(text: str, place: int) -> str:
    line = text[text.rfind("\n", 0, place) + 1 : place]
    return line[: len(line) - len(line.lstrip())]


def _step_of(text: JsonText) -> str:
    first = next(iter((text.value.members or {}).values()), None)
    return "" if first is None or "\n" not in first.lead else _plain_lead(first.lead)[1:]
