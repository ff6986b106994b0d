"""The language of filters: AIP-160's, https://google.aip.dev/160.

    filter     = [expression]
    expression = sequence {"AND" sequence}
    sequence   = factor {factor}                          side by side means AND
    factor     = term {"OR" term}                         OR binds tighter than AND
    term       = ["NOT" | "-"] (comparison | "(" expression ")")
    comparison = field {"." key} ("=" | "!=" | "<" | "<=" | ">" | ">=" | ":") value

Other than AIP-160 has it: a value alone is refused, for it does not say what it is compared with; so are
functions. Of a text, ":" means that it contains the value; of a list, that an item is it; of a map, that it
has the key; of all, with the value "*", that there is a value.
"""

from __future__ import annotations

from registry_service.filtering.ast import (
    And,
    Comparison,
    Expression,
    Not,
    Operator,
    Or,
    Order,
    Pattern,
    Scalar,
)
from registry_service.filtering.fields import Field, Resource, Shape, Type
from registry_service.filtering.scanner import Scanner
from registry_service.filtering.values import Literal, convert

MAX_COMPARISONS = 64
MAX_DEPTH = 16

_HAS = ":"
# Longest first: "<=" begins with "<".
_OPERATORS = ("<=", ">=", "!=", "=", "<", ">", _HAS)
_ORDERED = (Type.INTEGER, Type.NUMBER, Type.TIME)


def parse(text: str, resource: Resource) -> Expression | None:
    """The tree of a filter, None of a blank one. Raises InvalidFilter, which says where and what is wrong and
    what may stand there."""
    scanner = Scanner("filter", text)
    scanner.blank()
    if scanner.ended():
        return None
    parser = _Parser(scanner, resource)
    expression = parser.expression(0)
    if not scanner.ended():
        scanner.expected("AND, OR or another comparison")
    return expression


def parse_order(text: str, resource: Resource) -> Order | None:
    """The order of "field", "field asc" or "field desc"; None of a blank one. Raises InvalidFilter."""
    scanner = Scanner("order_by", text)
    scanner.blank()
    if scanner.ended():
        return None
    field, key = _path(scanner, resource)
    if not field.sortable:
        scanner.fail(f"{resource.name} cannot be ordered by {field.name}; but by {resource.sortable}", 0)
    if field.shape is Shape.MAP and key is None:
        scanner.expected(f"a dot and a name, as {field.shown}")
    scanner.blank()
    descending = scanner.take("asc", "desc") == "desc"
    scanner.blank()
    if not scanner.ended():
        scanner.expected("asc, desc or the end")
    return Order(field.name, descending, key)


class _Parser:
    """Every method begins at a character that is not blank, and passes the blanks behind what it read."""

    def __init__(self, scanner: Scanner, resource: Resource) -> None:
        self._scanner, self._resource = scanner, resource
        self._comparisons = 0

    def expression(self, depth: int) -> Expression:
        parts = [self._sequence(depth)]
        while self._take("AND"):
            parts.append(self._sequence(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _sequence(self, depth: int) -> Expression:
        parts = [self._factor(depth)]
        while not self._scanner.ended() and not self._scanner.peek(")", "AND", "OR"):
            parts.append(self._factor(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _factor(self, depth: int) -> Expression:
        parts = [self._term(depth)]
        while self._take("OR"):
            parts.append(self._term(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _term(self, depth: int) -> Expression:
        if depth > MAX_DEPTH:
            self._scanner.fail(f"parentheses and NOT are nested deeper than {MAX_DEPTH}")
        if self._take("NOT", "-"):
            return Not(self._term(depth + 1))
        if self._take("("):
            expression = self.expression(depth + 1)
            if not self._take(")"):
                self._scanner.expected("')', AND, OR or another comparison")
            return expression
        return self._comparison()

    def _comparison(self) -> Expression:
        self._comparisons += 1
        if self._comparisons > MAX_COMPARISONS:
            self._scanner.fail(f"has more than {MAX_COMPARISONS} comparisons")
        start = self._scanner.position
        field, key = _path(self._scanner, self._resource)
        self._scanner.blank()
        symbol = self._take(*_OPERATORS)
        if not symbol:
            self._scanner.expected(f"one of =, !=, <, <=, >, >=, : behind {field.name}")
        literal = self._scanner.literal()
        if self._scanner.peek("("):
            self._scanner.fail("functions are not known here")
        self._scanner.blank()
        if symbol == _HAS:
            return self._has(field, key, literal)
        return self._compare(field, key, Operator(symbol), literal, start)

    def _compare(
        self, field: Field, key: str | None, operator: Operator, literal: Literal, start: int
    ) -> Comparison:
        if field.shape is Shape.LIST and operator is not Operator.EQUAL:
            self._scanner.fail(
                f"{field.name} are many: use {field.name}:VALUE, or NOT {field.name}:VALUE, not {operator}",
                start,
            )
        if field.shape is Shape.MAP and key is None:
            self._scanner.fail(f"{field.name} are many: name one, as {field.shown}", start)
        if operator not in (Operator.EQUAL, Operator.NOT_EQUAL) and field.type not in _ORDERED:
            self._scanner.fail(f"{field.shown} takes =, != and :, not {operator}", start)
        return Comparison(field.name, operator, self._value(field, literal), key)

    def _has(self, field: Field, key: str | None, literal: Literal) -> Comparison:
        if literal.anything:
            return Comparison(field.name, Operator.PRESENT, None, key)
        if field.shape is Shape.MAP and key is None:
            if literal.any_before or literal.any_after:
                self._scanner.fail("a key is named whole, without a '*'", literal.position)
            return Comparison(field.name, Operator.PRESENT, None, literal.text)
        value = self._value(field, literal)
        if field.type is Type.TEXT and field.shape is Shape.ONE and isinstance(value, str):
            value = Pattern(value, any_before=True, any_after=True)
        return Comparison(field.name, Operator.EQUAL, value, key)

    def _value(self, field: Field, literal: Literal) -> Scalar | Pattern:
        try:
            return convert(field, literal)
        except ValueError as error:
            self._scanner.fail(
                f"{field.shown} is compared with {error}, not {literal.shown}", literal.position
            )

    def _take(self, *words: str) -> str:
        word = self._scanner.take(*words)
        if word:
            self._scanner.blank()
        return word


def _path(scanner: Scanner, resource: Resource) -> tuple[Field, str | None]:
    """A field and, of a map, the key behind it."""
    start = scanner.position
    name = scanner.name()
    if not name:
        scanner.expected(f"a field of {resource.name} ({resource.filterable})")
    parts = []
    while scanner.take("."):
        parts.append(scanner.key())
    field = resource.fields.get(".".join([name, *parts])) or resource.fields.get(name)
    if field is None:
        hint = "; AND, OR and NOT are written in capitals" if name in ("and", "or", "not") else ""
        scanner.fail(f"{resource.name} have no field {name!r}, but {resource.filterable}{hint}", start)
    if not parts or "." in field.name:
        return field, None
    if field.shape is not Shape.MAP:
        scanner.fail(f"{field.name} has no parts; leave out .{parts[0]}", start)
    return field, ".".join(parts)
