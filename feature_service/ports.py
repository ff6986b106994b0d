"""What the use cases need from the outside. The docstrings are the contract of every adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_service.domain import FeatureView, Field

#: The event time (µs) of a row that is not stored.
NOT_STORED = int(np.iinfo(np.int64).min)

#: The created time (µs) of a row that does not say when it was created; it is less than all others.
NO_TIME = int(np.iinfo(np.int64).min)

Micros = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StoredRows:
    """What an online store holds for n keys of one view.

    event_micros: n event times, NOT_STORED where there is no row. values: one array of n values for each
    feature asked for, of the type the view declares; null where nothing is stored, and in any stored null.
    """

    event_micros: Micros
    values: tuple[pa.Array, ...]


@dataclass(frozen=True)
class NewRows:
    """Rows to write for one view, of distinct or repeated keys.

    keys: one array for each join key of the view, without nulls. values: one array for each feature of
    the view, in the view's order. created_micros: NO_TIME in rows that do not say; None when none does.
    """

    keys: tuple[pa.Array, ...]
    values: tuple[pa.Array, ...]
    event_micros: Micros
    created_micros: Micros | None


class OnlineStore(Protocol):
    """The latest row of each key of each view. Methods may be called from several threads at once.

    Both raise StoreUnavailable when the store cannot be reached, and SourceUnreadable when it has no place
    for the view yet.
    """

    def read(self, view: FeatureView, features: Sequence[Field], keys: Sequence[pa.Array]) -> StoredRows:
        """The rows of n keys; keys: one array of n values for each join key, of the declared types.

        A key with a null in it is never stored. Repeated keys are answered each.
        """

    def write(self, view: FeatureView, rows: NewRows) -> int:
        """Writes rows, except those older (by event time) than the row that is stored.

        Of rows of one key, the greatest by (event time, created time) is written; a row as old as the stored
        one replaces it. A reader never sees a part of a row. Returns the number of rows written. The
        comparison is safe among the threads of this process, and as fine as the store keeps event times; what
        more a store promises, it says.
        """


class RowRead(NamedTuple):
    """What to look up of one view.

    view: its prefix (`packed.keys.view_prefix`). keys: n entity keys in the bytes of Feast's serialization,
    version 3; views of one request often share one list. whole: the same keys with the prefix before each,
    for stores that want it.
    """

    view: bytes
    keys: Sequence[bytes]
    whole: Sequence[bytes] | None = None


#: One read of each view.
RowReads = Sequence[RowRead]


class RowStore(Protocol):
    """Packed rows by (view, entity key): what an embedded or a remote key-value store has to do for the
    packed online store. What a row says is `packed.layout`'s business; a store looks at the header only.

    All methods may be called from several threads at once. All raise StoreUnavailable when the store cannot
    be reached, and StorageFull when it has no room.
    """

    #: Where the store is, for people; without passwords.
    address: str
    #: Whether `get` is a matter of microseconds and may run on an event loop.
    local: bool

    @property
    def wants_whole(self) -> bool:
        """Whether RowRead.whole saves it work at present."""

    def get(self, reads: RowReads) -> list[list[bytes | None]]:
        """For each view the rows of its keys, in their order; None where nothing is stored."""

    async def get_async(self, reads: RowReads) -> list[list[bytes | None]]:
        """As `get`, for an event loop. A cancelled call leaves the store's connections fit for use."""

    def put(self, view: bytes, rows: Sequence[tuple[bytes, bytes]], ttl_micros: int | None) -> int:
        """Writes (entity key, row) pairs; returns how many were written.

        A row replaces the stored one only if its (event, created) time, as its header has it, is not
        less; among the rows of one key in one call likewise, in their order. The comparison and the write
        are one step for all writers, those of other processes and machines too. ttl_micros: of the view;
        the store may drop a row once it is older than that and the store's own retention.
        """

    def drop(self, view: bytes) -> None:
        """Removes all rows of a view."""

    def hold(self, ttls: Mapping[bytes, int | None]) -> None:
        """Views have these ttls (µs) from now on: their rows stay for as long as if they were written now.

        Quick where nothing changed since the last call of any process. Rows that another process writes
        meanwhile by an older ttl stay for as long as that says.
        """

    def sweep(self, view: bytes, before_micros: int) -> int:
        """Removes rows with event time < before_micros less the store's retention.

        In steps that keep no writer waiting for long. Returns the number removed; 0 for a store that expires
        rows by itself.
        """

    def note(self, name: str) -> bytes | None:
        """A note kept beside the rows: schemas of old rows, checkpoints of materializations."""

    def set_note(self, name: str, value: bytes | None) -> None:
        """Keeps a note durably; None removes it."""

    def close(self) -> None:
        """Gives back what is held. Calls after it are errors."""


class OnDemandViews(Protocol):
    """Runs the transformations of on-demand views."""

    def compute(self, view: FeatureView, inputs: pa.Table) -> Mapping[str, pa.Array]:
        """The view's features, as declared, for each row of its inputs (see retrieval.on_demand_inputs).

        Raises OnDemandFailed when the transformation fails or gives something else than declared.
        """


class MaterializationLog(Protocol):
    """Remembers which ranges of event times of a view were brought online."""

    def last_end(self, view: FeatureView) -> datetime | None:
        """Where the last materialization ended; None when there was none. Ends in the future do not count."""

    def record(self, view: FeatureView, start: datetime, end: datetime) -> None:
        """Adds a range."""


class Notes(Protocol):
    """What is kept beside the rows of an online store; a RowStore is one."""

    def note(self, name: str) -> bytes | None:
        """See RowStore."""

    def set_note(self, name: str, value: bytes | None) -> None:
        """See RowStore."""


@dataclass(frozen=True)
class RowRange:
    """Which rows of a view go online: those known at `end`, of each key the newest.

    A row is known from its event or created time on, whichever is later. after: only rows with event time
    > after. known_after: only rows that became known after that, and all rows, as far as they are within
    the view's ttl at end, of files that came or changed since: so late rows are among them, whether they
    say when they were created or not.
    """

    end: datetime
    after: datetime | None = None
    known_after: datetime | None = None


class RowScan(Protocol):
    """The rows of a range, in one state of their source."""

    #: Stands for that state: equal when the same files have not changed; "" when that cannot be told.
    source: str

    def total(self) -> int:
        """The number of rows. Raises as `rows`."""

    def rows(self, skip: int = 0) -> Iterator[NewRows]:
        """The newest row of each key, in an order that only the state of the source decides, without the
        first `skip`.

        In batches. Raises SourceUnreadable, ResourceExhausted, Cancelled.
        """

    def give(self, rows: NewRows, write: Callable[[NewRows], int]) -> int:
        """Has a batch written, so that it does not replace what was pushed since the scan began with the same
        times. Returns how many rows were written. Raises as `rows`, and what `write` raises."""

    def finish(self, write: Callable[[NewRows], int]) -> None:
        """All batches were given: has written, of what was pushed meanwhile, what one of them may have
        replaced. Raises as `give`."""


class NewestRows(Protocol):
    """Reads the offline rows that belong in the online store."""

    def scan(self, view: FeatureView, wanted: RowRange) -> AbstractContextManager[RowScan]:
        """Looks at the source. Raises SourceUnreadable."""

    def interrupt(self) -> None:
        """Ends a running scan with Cancelled."""


class EntityKeys(Protocol):
    """Knows the keys that occur in the offline rows."""

    def sample(self, views: Sequence[FeatureView], end: datetime, count: int, seed: int) -> pa.Table:
        """At most `count` of the distinct keys of views with the same join keys, one column each, named by
        the first.

        Of rows known at end. The same seed over the same rows draws the same keys. Raises SourceUnreadable,
        ResourceExhausted.
        """
