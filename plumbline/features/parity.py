"""Whether what online answers is what the point-in-time join says: two tables compared, value by value.

A value is what is not null; a cell that is not PRESENT is null. Two values are equal when they are the same
in the type of the join: float32 as float32, moments in microseconds. NaN equals NaN, lists are equal when
their elements are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Mask = npt.NDArray[np.bool_]

#: The ways to differ: both have a value and they are not equal; only the join has one; only online has one.
MISMATCH, MISSING, EXTRA = "mismatch", "missing", "extra"


class NotComparable(ValueError):
    """The values of a feature on the two sides have types that cannot be compared."""


@dataclass(frozen=True)
class Example:
    """One difference: where it is, and what the two sides say. entity: by column."""

    kind: str
    entity: dict[str, Any]
    online: Any
    offline: Any


@dataclass
class FeatureParity:
    """The counts of one feature. neither: of the equal rows, those where neither side has a value."""

    compared: int = 0
    neither: int = 0
    mismatch: int = 0
    missing: int = 0
    extra: int = 0
    examples: list[Example] = field(default_factory=list)

    @property
    def equal(self) -> int:
        """Rows that do not differ."""
        return self.compared - self.mismatch - self.missing - self.extra


class Parity:
    """Adds up comparisons. tolerance: see `same_values`; most_examples: kept of each feature and kind."""

    def __init__(self, *, tolerance: float = 0.0, most_examples: int = 3) -> None:
        self._tolerance, self._most = tolerance, most_examples
        self.features: dict[str, FeatureParity] = {}
        self.rows = 0

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return all(found.equal == found.compared for found in self.features.values())

    def differing_rows(self, online: pa.Table, offline: pa.Table) -> Mask:
        """Which rows differ in any column of `online`, without counting them. Raises NotComparable."""
        differing = np.zeros(online.num_rows, bool)
        for name in online.column_names:
            left, right = _aligned(name, _whole(online[name]), _whole(offline[name]))
            for mask in _differences(left, right, self._tolerance).values():
                differing |= mask
        return differing

    def add(self, entities: pa.Table, online: pa.Table, offline: pa.Table) -> None:
        """Compares the columns of `online` with those of the same names in `offline`, row by row.

        entities: what tells a reader which row it is. Raises NotComparable.
        """
        self.rows += online.num_rows
        for name in online.column_names:
            left, right = _aligned(name, _whole(online[name]), _whole(offline[name]))
            found = self.features.setdefault(name, FeatureParity())
            found.compared += len(left)
            found.neither += int((~_valid(left) & ~_valid(right)).sum())
            for kind, mask in _differences(left, right, self._tolerance).items():
                setattr(found, kind, getattr(found, kind) + int(mask.sum()))
                kept = sum(example.kind == kind for example in found.examples)
                for row in np.flatnonzero(mask)[: self._most - kept].tolist():
                    entity = {column: entities[column][row].as_py() for column in entities.column_names}
                    found.examples.append(Example(kind, entity, left[row].as_py(), right[row].as_py()))


def same_values(left: pa.Array, right: pa.Array, tolerance: float = 0.0) -> Mask:
    """Which rows hold the same, in two arrays of one type and length; null is the same as null.

    tolerance: floating-point numbers may differ by this much, relative to the greater of the two and 1.
    """
    valid, other = _valid(left), _valid(right)
    kind = left.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        same = _same_lists(left, right, tolerance)
    elif pa.types.is_floating(kind):
        same = _same_floats(_numbers(left), _numbers(right), tolerance)
    elif pa.types.is_nested(kind):
        pairs = zip(left.to_pylist(), right.to_pylist(), strict=True)
        same = np.fromiter((one == two for one, two in pairs), bool, len(left))
    elif pa.types.is_null(kind):
        same = np.ones(len(left), bool)
    else:
        same = pc.equal(left, right).fill_null(False).to_numpy(zero_copy_only=False)
    return np.where(valid & other, same, valid == other)


def _differences(left: pa.Array, right: pa.Array, tolerance: float) -> dict[str, Mask]:
    valid, other = _valid(left), _valid(right)
    return {
        MISMATCH: valid & other & ~same_values(left, right, tolerance),
        MISSING: ~valid & other,
        EXTRA: valid & ~other,
    }


def _aligned(name: str, online: pa.Array, offline: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Both in the type of the join; where the values of a log do not fit that, both in the log's."""
    if online.type == offline.type:
        return online, offline
    attempts: Sequence[Callable[[], tuple[pa.Array, pa.Array]]] = (
        lambda: (_cast(online, offline.type), offline),
        lambda: (online, _cast(offline, online.type)),
    )
    for attempt in attempts:
        try:
            return attempt()
        except pa.ArrowException:
            continue
    raise NotComparable(f"{name} is {online.type} on the one side and {offline.type} in the join")


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_timestamp(kind) and pa.types.is_timestamp(values.type):
        # What is below the unit cannot be in the other; naive is UTC.
        if kind.tz and not values.type.tz:
            return values.cast(pa.timestamp(kind.unit), safe=False).cast(kind)
        return values.cast(kind, safe=False)
    if pa.types.is_timestamp(kind) and pa.types.is_string(values.type):
        try:
            return values.cast(kind)
        except pa.ArrowInvalid:  # texts without a zone
            return _cast(values.cast(pa.timestamp(kind.unit)), kind)
    # A float64 that was logged from a float32 becomes that again; an integer that does not fit is an error.
    return values.cast(kind, safe=not (pa.types.is_floating(kind) and pa.types.is_floating(values.type)))


def _same_floats(
    left: npt.NDArray[np.floating[Any]], right: npt.NDArray[np.floating[Any]], tolerance: float
) -> Mask:
    same: Mask = (left == right) | (np.isnan(left) & np.isnan(right))
    if tolerance:
        one, two = left.astype(np.float64), right.astype(np.float64)
        finite = np.isfinite(one) & np.isfinite(two)
        one, two = np.where(finite, one, 0.0), np.where(finite, two, 0.0)
        scale = np.maximum(1.0, np.maximum(np.abs(one), np.abs(two)))
        same |= finite & (np.abs(one - two) <= tolerance * scale)
    return same


def _same_lists(left: pa.Array, right: pa.Array, tolerance: float) -> Mask:
    lengths = [
        pc.list_value_length(side).fill_null(-1).to_numpy(zero_copy_only=False) for side in (left, right)
    ]
    same: Mask = lengths[0] == lengths[1]
    kept = same & (lengths[0] > 0)
    rows = np.flatnonzero(kept)
    elements = [side.filter(pa.array(kept)).flatten() for side in (left, right)]
    alike = same_values(elements[0], elements[1], tolerance)
    different = np.repeat(rows, lengths[0][rows])[~alike]
    same[different] = False
    return same


def _numbers(values: pa.Array) -> npt.NDArray[np.floating[Any]]:
    found: npt.NDArray[np.floating[Any]] = values.fill_null(0.0).to_numpy(zero_copy_only=False)
    return found


def _valid(values: pa.Array) -> Mask:
    found: Mask = values.is_valid().to_numpy(zero_copy_only=False)
    return found


def _whole(values: pa.ChunkedArray | pa.Array) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
