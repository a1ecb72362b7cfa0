"""JSON as people write it, with comments and last commas, read into values that know where they stand in the text."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MAX_DEPTH = 200
"""Deeper text is not read: it is no file of settings."""

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)|(?P<comment>//[^\n]*|/\*.*?\*/)|(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<word>[-+.\w]+)|(?P<sign>[{}\[\]:,])""",
    re.DOTALL,
)


class Token(NamedTuple):
    kind: str
    start: int
    end: int
    text: str


@dataclass
class Value:
    """A value and where it stands in its text.

    Attributes:
        plain: The value as `json.loads` returns it.
        members: Those of an object, by key; None for anything else.
        rest: In an object, the white space and comments between its last member and the closing brace.
    """

    start: int
    end: int
    plain: Any
    members: "dict[str, Member] | None" = None
    rest: str = ""


@dataclass
class Member:
    """A member of an object and what surrounds it.

    Attributes:
        lead: The white space and comments above it.
        name: The key, the colon and the space between.
        value: Its value.
        tail: White space and comments between the value and the comma.
        comma: Whether a comma follows.
        after: A comment that follows on its last line.
    """

    lead: str
    name: str
    value: Value
    tail: str = ""
    comma: bool = False
    after: str = ""


@dataclass
class Text:
    """A JSON text that was read."""

    text: str
    value: Value = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = list(_tokens(self.text))
        self.place = 0
        self.value = self._value(0)
        self._space()
        if self.place < len(self.tokens):
            raise ValueError("text after the value")

    @property
    def comments(self) -> Counter[str]:
        return Counter(" ".join(token.text.split()) for token in self.tokens if token.kind == "comment")

    def _space(self) -> str:
        """Skip white space and comments, and return them."""
        first = self.place
        while self.place < len(self.tokens) and self.tokens[self.place].kind in {"space", "comment"}:
            self.place += 1
        return "".join(token.text for token in self.tokens[first : self.place])

    def _next(self, sign: str = "") -> Token:
        if self.place == len(self.tokens):
            raise ValueError("the text ends too early")
        token = self.tokens[self.place]
        if sign and token.text != sign:
            raise ValueError(f"{token.text} where {sign} belongs")
        self.place += 1
        return token

    def _at(self, sign: str) -> bool:
        return self.place < len(self.tokens) and self.tokens[self.place].text == sign

    def _value(self, depth: int) -> Value:
        if depth > MAX_DEPTH:
            raise ValueError("too deep")
        self._space()
        token = self._next()
        if token.text == "{":
            return self._object(token, depth)
        if token.text == "[":
            return self._array(token, depth)
        return Value(token.start, token.end, json.loads(token.text))

    def _array(self, opening: Token, depth: int) -> Value:
        items: list[Any] = []
        self._space()
        while not self._at("]"):
            items.append(self._value(depth + 1).plain)
            self._space()
            if not self._at("]"):
                self._next(",")
                self._space()
        return Value(opening.start, self._next("]").end, items)

    def _object(self, opening: Token, depth: int) -> Value:
        members: dict[str, Member] = {}
        lead = self._space()
        while not self._at("}"):
            name = self._next()
            key = json.loads(name.text)
            if not isinstance(key, str) or key in members:
                raise ValueError(f"{name.text} is no key, or stands twice in one object")
            self._space()
            self._next(":")
            self._space()
            value = self._value(depth + 1)
            member = Member(lead, self.text[name.start : value.start], value)
            members[key] = member
            space = self._space()
            if self._at(","):
                member.tail, member.comma = space, True
                self._next(",")
                space = self._space()
            elif not self._at("}"):
                self._next(",")
            member.after, lead = _split_after(space)
        return Value(
            opening.start, self._next("}").end, {key: item.value.plain for key, item in members.items()}, members, lead
        )


def _tokens(text: str) -> Iterator[Token]:
    place = 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None or found.lastgroup is None:
            raise ValueError(f"`{text[place]}` is no JSON")
        yield Token(found.lastgroup, place, found.end(), found[0])
        place = found.end()


def _split_after(space: str) -> tuple[str, str]:
    """The comment that ends a member's line, and the rest."""
    line, newline, rest = space.partition("\n")
    return (line, newline + rest) if newline and line.strip() and "/*" not in line else ("", space)


def read(text: str) -> Text | None:
    """Read JSON with comments and last commas; None for anything else, and where a key stands twice in one object."""
    try:
        return Text(text)
    except ValueError:
        return None
