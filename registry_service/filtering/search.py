"""A page of a list, as asked for and as found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from registry_service.filtering.ast import Expression, Order, Scalar

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where an item stands in an ordered list: what it is ordered by (None where it has no value; nothing
    when ids alone order the list), then the registry's own id, in the direction of the first order."""

    values: tuple[Scalar | None, ...]
    id: int


@dataclass(frozen=True)
class Search:
    """where None: everything. orders: by the first, then the second …; () is the newest id first. after: the
    place of the last item of the page before."""

    where: Expression | None = None
    orders: tuple[Order, ...] = ()
    after: Place | None = None


@dataclass(frozen=True)
class Hit(Generic[T]):
    item: T
    place: Place
