"""MLflow's searches: filter, order and page tokens, as a search of this registry."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, TypeVar

from plumbline.errors import FieldViolation
from plumbline.registry.errors import InvalidFilter, InvalidPageToken
from registry_service import paging
from registry_service.filtering.ast import And, Comparison, Expression, Operator, Order
from registry_service.filtering.search import Hit, Place, Search
from registry_service.mlflow_api import filter_grammar
from registry_service.mlflow_api.arguments import Arguments
from registry_service.mlflow_api.filter_grammar import Grammar

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MOST_ORDERS = 8


@dataclass(frozen=True)
class Searchable:
    """One of MLflow's searches. keys: what can be ordered by → the field. default: the order without one.
    ties: what orders are completed by. page, most: results at once, by default and at most."""

    grammar: Grammar
    keys: Mapping[str, str]
    default: tuple[Order, ...]
    ties: tuple[Order, ...]
    page: int
    most: int


MODELS = Searchable(
    filter_grammar.MODELS,
    {"name": "name", "timestamp": "update_time", "last_updated_timestamp": "update_time"},
    default=(),
    ties=(Order("name"),),
    page=100,
    most=1_000,
)
VERSIONS = Searchable(
    filter_grammar.VERSIONS,
    {
        "name": "model",
        "version_number": "version",
        "creation_timestamp": "create_time",
        "last_updated_timestamp": "update_time",
    },
    default=(Order("update_time", descending=True),),
    ties=(Order("model"), Order("version", descending=True)),
    page=10_000,
    most=200_000,
)


class PagedSearch:
    """One call of a search."""

    def __init__(self, kind: Searchable, arguments: Arguments) -> None:
        """Raises InvalidField, InvalidFilter, InvalidPageToken."""
        text, order_by = arguments.text("filter"), arguments.texts("order_by")
        self._orders = _orders(kind, order_by)
        self._query = json.dumps([text, order_by]).encode()
        self.size = arguments.number("max_results", kind.page, kind.most)
        token = arguments.text("page_token")
        #: The same for the same page of the same search.
        self.key = (self._query, self.size, token)
        where = filter_grammar.parse(text, kind.grammar)
        #: The only model whose versions are asked for, if it is one; None for all.
        self.model: str | None = None
        if kind is VERSIONS:
            self.model, where = _pinned(where)
        if self.model is not None:
            self._orders = tuple(order for order in self._orders if order.field != "model")
        self.search = Search(where, self._orders, self._place(token) if token else None)

    @property
    def limit(self) -> int:
        """One more than the page has, to know whether others follow."""
        return self.size + 1

    def cut(self, hits: Sequence[Hit[T]]) -> tuple[list[T], str]:
        """The items of the page, and the token of the next, "" on the last."""
        items = [hit.item for hit in hits[: self.size]]
        if len(hits) <= self.size:
            return items, ""
        place = hits[self.size - 1].place
        return items, paging.encode_token(self._query, [*map(_plain, place.values), place.id])

    def _place(self, token: str) -> Place:
        times = [order.field.endswith("_time") for order in self._orders]
        kinds: list[type[str | int]] = [
            int if time or order.field == "version" else str
            for time, order in zip(times, self._orders, strict=True)
        ]
        try:
            key = paging.decode_token(self._query, token, [*kinds, int])
        except InvalidPageToken as error:
            raise InvalidPageToken(
                "Invalid page token, could not base64-decode it as one that this search returned; start "
                "again without one, and keep filter and order_by as they are from page to page",
                metadata=error.metadata,
                violations=error.violations,
            ) from error
        assert key is not None
        values = [
            _EPOCH + value * _MICROSECOND if time else value
            for time, value in zip(times, key[:-1], strict=True)
        ]
        return Place(tuple(values), key[-1])


def _pinned(where: Expression | None) -> tuple[str | None, Expression | None]:
    """The model that a filter of versions names, and what else it asks for."""
    parts = where.parts if isinstance(where, And) else () if where is None else (where,)
    for index, part in enumerate(parts):
        if isinstance(part, Comparison) and part.field == "model" and part.operator is Operator.EQUAL:
            rest = (*parts[:index], *parts[index + 1 :])
            return str(part.value), And(rest) if len(rest) > 1 else rest[0] if rest else None
    return None, where


def _orders(kind: Searchable, clauses: Sequence[str]) -> tuple[Order, ...]:
    if len(clauses) > _MOST_ORDERS:
        _fail(clauses, f"has {len(clauses)} clauses; at most {_MOST_ORDERS} are taken")
    orders = [_order(kind, clause) for clause in clauses] or list(kind.default)
    fields = [order.field for order in orders]
    if len(set(fields)) < len(fields):
        _fail(clauses, f"`order_by` contains duplicate fields: {list(clauses)}")
    return (*orders, *(tie for tie in kind.ties if tie.field not in fields))


def _order(kind: Searchable, clause: str) -> Order:
    words = clause.split()
    if not 1 <= len(words) <= 2:
        _fail([clause], f"Invalid order_by clause '{clause}'. Could not be parsed.")
    key = words[0].strip('`"').removeprefix("attribute.").strip('`"')
    if key not in kind.keys:
        what = "attribute key" if kind is VERSIONS else "order by key"
        _fail([clause], f"Invalid {what} '{key}' specified. Valid keys are '{set(kind.keys)}'")
    direction = words[1].lower() if len(words) == 2 else "asc"
    if direction not in ("asc", "desc"):
        _fail([clause], f"Invalid ordering key in order_by clause '{clause}'.")
    return Order(kind.keys[key], direction == "desc")


def _plain(value: Any) -> Any:
    return (value - _EPOCH) // _MICROSECOND if isinstance(value, datetime) else value


def _fail(clauses: Sequence[str], message: str) -> NoReturn:
    raise InvalidFilter(
        message,
        metadata={"filter": ", ".join(clauses)[:200]},
        violations=[FieldViolation("order_by", message)],
    )
