"""Literals of filters, as values of the type of their field."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from registry_service.filtering.ast import Pattern, Scalar
from registry_service.filtering.fields import Field, Type

_INTEGER = re.compile(r"-?[0-9]+")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d{1,6})?(?:[Zz]|[+-]\d{2}:\d{2})", re.ASCII)
# What databases keep of whole numbers.
_MOST = 2**63 - 1


@dataclass(frozen=True)
class Literal:
    """text: without quotes, escapes and the stars at its ends."""

    text: str
    any_before: bool
    any_after: bool
    position: int

    @property
    def anything(self) -> bool:
        """A lone star."""
        return not self.text and (self.any_before or self.any_after)

    @property
    def shown(self) -> str:
        """For messages."""
        return repr(f"{'*' * self.any_before}{self.text}{'*' * self.any_after}")


def convert(field: Field, literal: Literal) -> Scalar | Pattern:
    """Raises ValueError, whose text says what is expected instead."""
    starred = literal.any_before or literal.any_after
    if field.type is Type.TEXT:
        text = literal.text
        if field.prefix and not literal.any_before:
            text = text.removeprefix(field.prefix)
        return Pattern(text, literal.any_before, literal.any_after) if starred else text
    if starred:
        raise ValueError(f"{field.type}, without a '*'")
    if field.type is Type.CHOICE:
        if literal.text not in field.choices:
            raise ValueError(f"one of {', '.join(field.choices)}")
        return literal.text
    if field.type is Type.INTEGER:
        return _integer(literal.text)
    if field.type is Type.NUMBER:
        return _number(literal.text)
    if field.type is Type.BOOLEAN:
        if literal.text not in ("true", "false"):
            raise ValueError(str(field.type))
        return literal.text == "true"
    return _moment(literal.text)


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text) or len(text) > 20 or abs(int(text)) > _MOST:
        raise ValueError(f"{Type.INTEGER} of at most 63 bits")
    return int(text)


def _number(text: str) -> float:
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(number):
        raise ValueError(f"{Type.NUMBER}, as 0.75 or 1e-3")
    return number


def _moment(text: str) -> datetime:
    try:
        if _DAY.fullmatch(text):
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        if _TIME.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{Type.TIME} that exists") from error
    raise ValueError(f"{Type.TIME}, with at most six digits after the second")
