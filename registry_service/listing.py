"""Lists as the service gives them: a filter, an order and a page of a request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from google.protobuf.message import Message

from registry_service import paging
from registry_service.calls import Page
from registry_service.filtering.ast import Order, Scalar
from registry_service.filtering.fields import Resource, Type
from registry_service.filtering.grammar import parse, parse_order
from registry_service.filtering.search import Hit, Place, Search

T = TypeVar("T")
MessageT = TypeVar("MessageT", bound=Message)

# Before a value in a token; a place without one has the empty text.
_VALUE = "="


class Listing:
    """What a request of a list asks for. Raises InvalidFilter, InvalidPageToken and InvalidField."""

    def __init__(self, request: Message, resource: Resource, default: Order | None = None) -> None:
        """request: with filter, page_size, page_token, and order_by where the list can be ordered. default:
        the order if none is asked for, other than the resource's own."""
        where = parse(request.filter, resource)  # type: ignore[attr-defined]
        order = parse_order(getattr(request, "order_by", ""), resource) or default or resource.default
        self._type = None if order is None else resource.fields[order.field].type
        types = (int,) if order is None else (str, int)
        token: str = request.page_token  # type: ignore[attr-defined]
        self._page = Page(request, request.page_size, token, types)  # type: ignore[attr-defined]
        self.search = Search(where, () if order is None else (order,), self._place(token))

    @property
    def limit(self) -> int:
        """How many items to read."""
        return self._page.limit

    def cut(self, hits: Sequence[Hit[T]], encode: Callable[[T], MessageT]) -> tuple[list[MessageT], str]:
        """The messages of the page and the next token, "" on the last page."""
        return self._page.cut(hits, lambda hit: encode(hit.item), lambda hit: _key(hit.place))

    def _place(self, token: str) -> Place | None:
        key = self._page.after
        if key is None:
            return None
        if self._type is None:
            return Place((), key[0])
        try:
            return Place((_value(self._type, key[0]),), key[1])
        except ValueError as error:
            raise paging.invalid_token(token) from error


def _key(place: Place) -> tuple[paging.KeyPart, ...]:
    return (*(_text(value) for value in place.values), place.id)


def _text(value: Scalar | None) -> str:
    if value is None:
        return ""
    return f"{_VALUE}{value.isoformat() if isinstance(value, datetime) else value}"


def _value(kind: Type, text: str) -> Scalar | None:
    if not text:
        return None
    body = text.removeprefix(_VALUE)
    if kind is Type.INTEGER:
        return paging.whole(int(body))
    if kind is Type.NUMBER:
        return float(body)
    if kind is Type.TIME:
        moment = datetime.fromisoformat(body)
        if moment.tzinfo is None:
            raise ValueError(f"{body} has no time zone")
        return moment
    return body
