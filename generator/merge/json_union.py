"""JSON files merged key by key in the user's own text, in any layout, with comments and last commas.

What only the template changed is written into the user's text, in the user's layout; every other character stays.
"""

import json
from dataclasses import dataclass
from typing import Any

from .json_text import Member, Text, Value, read
from .keyed import MISSING, merge_keyed
from .pieces import Sides


def union_json(sides: Sides) -> list[str] | None:
    """Merge whole JSON files key by key; None where both sides changed one value, or a comment would be lost."""
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
    """Equality that tells `true` from `1`, which Python's does not."""
    return json.dumps(one) == json.dumps(other)


@dataclass
class _Writer:
    """Writes what the template changed into our text."""

    ours: Text
    theirs: Text

    def document(self, base: Text) -> str | None:
        value, text = self.ours.value, self.ours.text
        written = self._object(base.value, value, self.theirs.value)
        return None if written is None else text[: value.start] + written + text[value.end :]

    def _object(self, base: Value, ours: Value, theirs: Value) -> str | None:
        """The text of our object with what theirs changed in it; None where that has a comment and no place for it."""
        was, mine, new = base.members or {}, ours.members or {}, theirs.members or {}
        units: list[Member] = []
        bodies: list[str] = []
        for key, member in mine.items():
            body = self._member(was.get(key), member, new.get(key), ours)
            if body is None:
                return None
            if body:
                units.append(member)
                bodies.append(body)
        added = [key for key in new if key not in mine and key not in was]
        if not added and len(units) == len(mine):
            text = "".join(
                unit.lead + body + unit.tail + "," * unit.comma + unit.after
                for unit, body in zip(units, bodies, strict=True)
            )
            return "{" + text + ours.rest + "}"
        lead, rest = self._layout(ours, theirs)
        last = next(reversed(mine.values()), None)
        last_comma = last is not None and last.comma
        leads = [unit.lead for unit in units]
        if leads and mine and "\n" not in leads[0]:
            leads[0] = next(iter(mine.values())).lead
        for key in added:
            member = new[key]
            value = self._value_text(member.value, ours, lead)
            comments = [line.strip() for line in member.lead.split("\n") if line.strip()]
            if value is None or ((comments or member.after.strip()) and "\n" not in lead):
                return None
            units.append(Member("", "", member.value, after=member.after))
            leads.append("" if not leads and "\n" not in lead else lead.join(["", *comments, ""]))
            bodies.append(json.dumps(key, ensure_ascii=False) + self._colon() + value)
        text = ""
        for place, (before, body, unit) in enumerate(zip(leads, bodies, units, strict=True)):
            comma = "," * (place < len(units) - 1 or last_comma)
            text += before + body + (unit.tail + comma if unit.comma else comma + unit.tail) + unit.after
        return "{" + text + rest + "}"

    def _member(self, was: Member | None, mine: Member, new: Member | None, inside: Value) -> str | None:
        """Our member's text, with theirs written into it; empty where it goes; None as `_object`."""
        value = self.ours.text[mine.value.start : mine.value.end]
        kept = mine.name + value
        before = MISSING if was is None else was.value.plain
        after = MISSING if new is None else new.value.plain
        if before is not MISSING and after is not MISSING and _same(before, after):
            return kept
        if new is None or was is None:
            return kept if was is None else ""
        if all(member.value.members is not None for member in (was, mine, new)):
            inner = self._object(was.value, mine.value, new.value)
            return None if inner is None else mine.name + inner
        if _same(mine.value.plain, after):
            return kept
        text = self._value_text(new.value, inside, _plain_lead(mine.lead))
        return None if text is None else mine.name + text

    def _layout(self, ours: Value, theirs: Value) -> tuple[str, str]:
        """What comes before a new member of our object, and what after the last."""
        members = list((ours.members or {}).values())
        if members:
            lead = _plain_lead(members[-1].lead) if len(members) > 1 or "\n" in members[0].lead else self._colon()[1:]
            return lead, ours.rest
        if "\n" not in self.theirs.text[theirs.start : theirs.end]:
            return "", ours.rest
        indent = _indent_at(self.ours.text, ours.start)
        return f"\n{indent}{self._step()}", f"\n{indent}"

    def _step(self) -> str:
        """One level of indentation, as our file has it, else theirs."""
        return _step_of(self.ours) or _step_of(self.theirs) or "  "

    def _colon(self) -> str:
        found = next((token for token in self.ours.tokens if token.text == ":"), None)
        return ": " if found is None or self.ours.text[found.end : found.end + 1].isspace() else ":"

    def _value_text(self, value: Value, inside: Value, lead: str) -> str | None:
        """The text of their value for a place in ours: on one line, or indented as its lines are there."""
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


def _step_of(text: Text) -> str:
    first = next(iter((text.value.members or {}).values()), None)
    return "" if first is None or "\n" not in first.lead else _plain_lead(first.lead)[1:]
