"""JSON with comments and trailing commas, read into values that know their place in the text."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

MAX_DEPTH = 200
"""A text with deeper nesting is not read."""

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
    """A value and its place in the text.

    Attributes:
        start, end: Its first character, and the one after its last.
        plain: The value as `json.loads` returns it.
        members: The members of an object by key; None for anything else.
        rest: In an object, the white space and comments between the last member and the closing brace.
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
        name: The key, the colon and the white space around it.
        value: Its value.
        tail: The white space and comments between the value and the comma.
        comma: Whether a comma follows.
        after: The comment at the end of its last line.
    """

    lead: str
    name: str
    value: Value
    tail: str = ""
    comma: bool = False
    after: str = ""


class JsonText(NamedTuple):
    """A JSON text, its tokens and its value."""

    text: str
    tokens: Sequence[Token]
    value: Value

    @property
    def comments(self) -> Counter[str]:
        return Counter(" ".join(token.text.split()) for token in self.tokens if token.kind == "comment")


class _Reader:
    """A recursive descent parser; raises ValueError for what it cannot read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(_tokens(text))
        self.place = 0

    def document(self) -> JsonText:
        value = self._value(0)
        self._space()
        if self.place < len(self.tokens):
            raise ValueError("text after the value")
        return JsonText(self.text, self.tokens, value)

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
            raise ValueError(f"`{token.text}` instead of `{sign}`")
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
                raise ValueError(f"`{name.text}` is not a key, or a duplicate")
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
            raise ValueError(f"`{text[place]}` is not JSON")
        yield Token(found.lastgroup, place, found.end(), found[0])
        place = found.end()


def _split_after(space: str) -> tuple[str, str]:
    """The comment at the end of a member's line, and the rest."""
    line, newline, rest = space.partition("\n")
    return (line, newline + rest) if newline and line.strip() and "/*" not in line else ("", space)


def read(text: str) -> JsonText | None:
    """Read JSON with comments and trailing commas; None for anything else, also for duplicate keys."""
    try:
        return _Reader(text).document()
    except ValueError:
        return None
