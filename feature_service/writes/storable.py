"""What no online store can hold, or can hold but nobody could read: it is told before anything is written.

Packed rows and Feast's own messages alike have no null inside a list, and no reader of ours, nor Python
itself, has a moment outside the years 1 to 9999.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_service.domain import FeatureView, ValueType
from feature_service.packed.layout import EARLIEST, LATEST
from feature_service.ports import NewRows
from plumbline.features.errors import SourceUnreadable

Positions = npt.NDArray[np.int64]

NULL_INSIDE = "is a list with a null inside; leave the null out, or make the whole list null"
OUTSIDE_YEARS = "lies outside the years 1 to 9999"


def faults(array: pa.Array, kind: ValueType) -> tuple[Positions, str]:
    """The positions, in order, of values that cannot be stored, and what is wrong with them.

    array: of `arrow_type(kind)`.
    """
    if not kind.is_list:
        times = kind is ValueType.TIMESTAMP
        return (_positions(_outside_years(array)) if times else np.empty(0, np.int64)), OUTSIDE_YEARS
    elements = pc.list_flatten(array)
    if elements.null_count:
        return _parents(array, elements.is_null()), NULL_INSIDE
    if kind.element is ValueType.TIMESTAMP:
        return _parents(array, _outside_years(elements)), f"has a time that {OUTSIDE_YEARS}"
    return np.empty(0, np.int64), ""


def refuse_unstorable(view: FeatureView, rows: NewRows) -> None:
    """Raises SourceUnreadable, which names view, feature and key, for rows of a source that cannot be
    stored."""
    events = np.flatnonzero((rows.event_micros < EARLIEST) | (rows.event_micros > LATEST))
    if len(events):
        raise _unstorable(view, rows, int(events[0]), "the event time", OUTSIDE_YEARS)
    for item, array in zip(view.features, rows.values, strict=True):
        found, what = faults(array, item.type)
        if len(found):
            raise _unstorable(view, rows, int(found[0]), item.name, what)


def _unstorable(view: FeatureView, rows: NewRows, row: int, name: str, what: str) -> SourceUnreadable:
    keys = zip(view.join_keys, rows.keys, strict=True)
    shown = ", ".join(f"{key.name} {values[row].as_py()!r}" for key, values in keys)
    place = f"in the row of {shown}" if shown else "in a row"
    location = view.source.location if view.source is not None else "the source"
    return SourceUnreadable(
        f"view {view.name}: {place} of {location}, {name} {what}. Nothing online can hold that: mend the row "
        "there, or push a newer one for its key, and materialize again",
        metadata={"view": view.name, "feature": name},
    )


def _outside_years(times: pa.Array) -> pa.Array:
    micros = times.cast(pa.int64())
    return pc.or_(pc.less(micros, EARLIEST), pc.greater(micros, LATEST))


def _parents(lists: pa.Array, wrong: pa.Array) -> Positions:
    """The lists that elements lie in."""
    return np.unique(pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)[_positions(wrong)])


def _positions(mask: pa.Array) -> Positions:
    return np.flatnonzero(mask.fill_null(False).to_numpy(zero_copy_only=False))
