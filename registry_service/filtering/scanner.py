"""Filters and orders character by character, and the errors about them."""

from __future__ import annotations

import re
from typing import NoReturn

from plumbline.errors import FieldViolation
from plumbline.registry.errors import InvalidFilter
from registry_service.filtering.values import Literal

MAX_LENGTH = 4_096
_SHOWN = 200

_BLANK = re.compile(r"\s*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A key or a value without quotes ends where the grammar could go on.
_KEY = re.compile(r"[^\s\"'`()<>=!:,.*\\]+")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt][0-9:.]+(?:[Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_WORD = re.compile(r"[^\s\"'`()<>=!:,\\]+")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_ITSELF = "\"'`\\*"


class Scanner:
    """Where a text has been read to. Every method raises InvalidFilter.

    field: of the request, "filter" or "order_by".
    """

    def __init__(self, field: str, text: str) -> None:
        self.field, self.text, self.position = field, text, 0
        if len(text) > MAX_LENGTH:
            self.fail(f"has {len(text)} characters; at most {MAX_LENGTH} are taken", MAX_LENGTH)
        for position, character in enumerate(text):
            if character == "\x00" or "\ud800" <= character <= "\udfff":
                self.fail(f"has the character {character!r}, which no value can have", position)

    def fail(self, problem: str, position: int | None = None) -> NoReturn:
        """position: counted from 0; the message counts from 1."""
        place = (self.position if position is None else position) + 1
        message = f"{self.field}, position {place}: {problem}"
        shown = self.text if len(self.text) <= _SHOWN else f"{self.text[:_SHOWN]}…"
        raise InvalidFilter(
            message,
            metadata={"filter": shown, "position": str(place)},
            violations=[FieldViolation(self.field, message)],
        )

    def expected(self, what: str) -> NoReturn:
        self.fail(f"expected {what}, found {self.found()}")

    def found(self) -> str:
        """What stands here, for messages."""
        rest = self.text[self.position :].split()
        if not rest:
            return "the end"
        return repr(rest[0] if len(rest[0]) <= 40 else f"{rest[0][:40]}…")

    def blank(self) -> None:
        """Passes blanks."""
        match = _BLANK.match(self.text, self.position)
        if match:
            self.position = match.end()

    def ended(self) -> bool:
        return self.position == len(self.text)

    def peek(self, *words: str) -> str:
        """The first of these that stands here, "" for none. A word of letters must end here, too."""
        for word in words:
            if self.text.startswith(word, self.position):
                after = self.text[self.position + len(word) : self.position + len(word) + 1]
                if not (word.isalpha() and (after.isalnum() or (after in ("_", ".") and after))):
                    return word
        return ""

    def take(self, *words: str) -> str:
        """As `peek`, and passes it."""
        word = self.peek(*words)
        self.position += len(word)
        return word

    def name(self) -> str:
        """A field's name, "" if none stands here."""
        return self._match(_NAME)

    def key(self) -> str:
        """A part of a path behind a dot: a word, or text in quotes or backquotes."""
        if self.peek('"', "'", "`"):
            return self._quoted(stars=False).text
        return self._match(_KEY) or self.expected(
            'a key; keys with odd characters go in quotes, as tags."a b"'
        )

    def literal(self) -> Literal:
        """A value: a word, a number, a time, or text in quotes; with a star at its ends for any text."""
        if self.peek('"', "'"):
            return self._quoted(stars=True)
        start = self.position
        word = self._match(_TIME) or self._match(_WORD)
        if not word:
            self.expected('a value; text with odd characters goes in quotes, as "a b"')
        return self._starred(word, frozenset(), start)

    def _match(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.position)
        if match is None:
            return ""
        self.position = match.end()
        return match.group()

    def _quoted(self, *, stars: bool) -> Literal:
        start = self.position
        quote = self.text[start]
        characters: list[str] = []
        escaped: set[int] = set()
        position = start + 1
        while True:
            character = self.text[position : position + 1]
            if not character:
                self.fail(f"the text that begins here has no closing {quote}", start)
            if character == quote:
                break
            if character == "\\":
                position += 1
                character = self.text[position : position + 1]
                if character not in _ESCAPES and (not character or character not in _ITSELF):
                    self.fail(
                        f"unknown escape \\{character}; \\\", \\', \\\\, \\*, \\n, \\t and \\r are known",
                        position,
                    )
                escaped.add(len(characters))
                character = _ESCAPES.get(character, character)
            characters.append(character)
            position += 1
        self.position = position + 1
        if not stars:
            return Literal("".join(characters), False, False, start)
        return self._starred("".join(characters), frozenset(escaped), start)

    def _starred(self, text: str, escaped: frozenset[int], start: int) -> Literal:
        stars = [index for index, character in enumerate(text) if character == "*" and index not in escaped]
        last = len(text) - 1
        if any(index not in (0, last) for index in stars):
            self.fail(
                "a '*' stands for any text only at either end; \\* in quotes is the star itself",
                start,
            )
        before, after = 0 in stars and last > 0, last in stars
        return Literal(text[before : len(text) - after], before, after, start)
