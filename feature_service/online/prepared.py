"""Prepared plans: everything about a selection that does not change from one read to the next.

A plan that only reads packed rows is answered from their bytes. The rows of all views whose rows are equally
long are one matrix: a column of the reply is a column of it, whatever the number of views.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_service.domain import FeatureStatus, ReadPlan, ValueType, ViewRead
from feature_service.packed.keys import EntityKeys, KeyColumn, view_prefix
from feature_service.packed.layout import EARLIEST, EVENT_AT, HEADER, LATEST, RowLayout
from feature_service.ports import NOT_STORED, RowRead

#: Rows as a RowStore gives them: for each ViewRead, one a key.
FoundRows = Sequence[Sequence[bytes | None]]
Ints = npt.NDArray[np.intp]

_MICROSECOND = timedelta(microseconds=1)
_event = struct.Struct("<q").unpack_from


class OtherLayout(Exception):
    """A row was written under another schema than the plan's, or is corrupt: it is not for this fast path."""


@dataclass(frozen=True)
class Answer:
    """What packed rows answered.

    blocks: for each of the plan's blocks its columns as an array (columns, rows). others: by output, columns
    of varying width. statuses: (outputs, rows), or None when all are PRESENT. events: (reads, rows).
    Where a status is not PRESENT, the values are whatever the row holds.
    """

    rows: int
    blocks: tuple[npt.NDArray[Any], ...]
    others: Mapping[int, pa.Array]
    statuses: npt.NDArray[np.uint8] | None
    events: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """Outputs of one dtype that lie in rows of one width.

    columns[i] of view views[i] (of the group) is outputs[i]. run: the columns from–to, where it is the same
    whole stretch in each view of the group.
    """

    group: int
    dtype: np.dtype[Any]
    views: Ints
    columns: Ints
    outputs: Ints
    run: tuple[int, int] | None

    def take(self, matrix: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """The block's columns out of rows (views, rows, width)."""
        turned = matrix.view(self.dtype).transpose(0, 2, 1)
        if self.run is None:
            return turned[self.views, self.columns]
        return turned[:, self.run[0] : self.run[1]].reshape(len(self.outputs), matrix.shape[1])


class _Group:
    """The reads whose rows are equally wide."""

    def __init__(self, reads: Sequence[int], layouts: Sequence[RowLayout]) -> None:
        self.reads = tuple(reads)
        self._layouts = [layouts[i] for i in reads]
        self.width = self._layouts[0].width
        self._blanks = [layout.blank for layout in self._layouts]
        self._heads = np.frombuffer(b"".join(layout.head for layout in self._layouts), "<u8").reshape(
            -1, 1, 2
        )
        self.mask_words = max(-(-len(layout.fields) // 64) for layout in self._layouts)

    def matrix(self, found: FoundRows, rows: int) -> npt.NDArray[np.uint8]:
        """(views, rows, width). Raises OtherLayout."""
        parts: list[Any] = []  # bytes, and None where a row of fixed width is missing
        for i, layout in zip(self.reads, self._layouts, strict=True):
            view = found[i]
            if not layout.fixed:
                blank, width = layout.blank, self.width
                parts += [blank if row is None else row[:width] for row in view]
            else:
                parts += view
        try:
            joined = b"".join(parts)
        except TypeError:  # a None among them, which is quicker seen here than looked for
            blanks = [blank for blank in self._blanks for _ in range(rows)]
            joined = b"".join(blank if row is None else row for row, blank in zip(parts, blanks, strict=True))
        if len(joined) != len(parts) * self.width:
            raise OtherLayout
        matrix = np.frombuffer(joined, np.uint8).reshape(len(self.reads), rows, self.width)
        if not (matrix.view("<u8")[:, :, :2] == self._heads).all():
            raise OtherLayout
        return matrix


class PreparedPlan:
    """A ReadPlan over packed rows. Immutable; one serves all calls until the definitions change."""

    def __init__(self, plan: ReadPlan) -> None:
        """Raises ValueError for a plan that packed rows alone do not answer, or with keys none can have."""
        if plan.on_demand or plan.request_data or not plan.reads:
            raise ValueError("computes something, or reads nothing")
        if any(read.view.earlier for read in plan.reads):
            raise ValueError("packed stores keep no rows of earlier versions")
        self.plan = plan
        self.layouts = [RowLayout(read.view.features) for read in plan.reads]
        prefixes = [view_prefix(read.view.project, read.view.name) for read in plan.reads]
        makers, key_of_read = _entity_keys(plan.reads)
        #: For each read its prefix, and which way to make keys it takes.
        self._prefixes = list(zip(prefixes, key_of_read, strict=True))
        #: The ways to make keys, each with the reads that take it and their prefixes as an array.
        self._keys = []
        for i, maker in enumerate(makers):
            reads = [read for read, key in enumerate(key_of_read) if key == i]
            joined = b"".join(prefixes[read] for read in reads)
            self._keys.append((maker, reads, np.frombuffer(joined, np.uint8).reshape(-1, 8)))
        #: Join-key columns of a request, and how each is declared.
        self.join_keys = {key.name: key.type for key in plan.join_keys}
        if any(self.join_keys[key.column] is not key.join_key.type for r in plan.reads for key in r.keys):
            raise ValueError("one column is taken for keys of two types")
        self._ttls = [_micros(read.view.ttl) for read in plan.reads]
        self._cells = [
            self.layouts[item.index].cells[_position(plan.reads[item.index], item.feature.name)]
            for item in plan.outputs
        ]
        self._read_of = np.array([item.index for item in plan.outputs], np.intp)
        widths: dict[int, list[int]] = {}
        for i, layout in enumerate(self.layouts):
            widths.setdefault(layout.width, []).append(i)
        self._groups = [_Group(reads, self.layouts) for reads in widths.values()]
        self.blocks = self._make_blocks()
        self._others = [i for i, cell in enumerate(self._cells) if cell.dtype is None]
        self._single = [
            (item.index, cell.offset, cell.offset + cell.dtype.itemsize)
            for item, cell in zip(plan.outputs, self._cells, strict=True)
            if cell.dtype is not None
        ]
        #: Where the bools are: a byte that is neither 0 nor 1 would not be read as one.
        self._bools = [
            (item.index, cell.offset)
            for item, cell in zip(plan.outputs, self._cells, strict=True)
            if item.feature.type is ValueType.BOOL
        ]
        # For each output: where its bit of the null mask is.
        where = {read: (g, v) for g, group in enumerate(self._groups) for v, read in enumerate(group.reads)}
        self._bits = [
            (*where[item.index], HEADER + (cell.bit >> 3), 1 << (cell.bit & 7))
            for item, cell in zip(plan.outputs, self._cells, strict=True)
        ]
        self._checks = [
            (layout.head, bytes(8 * -(-len(layout.fields) // 64)), layout.width, layout.fixed)
            for layout in self.layouts
        ]
        #: Whether all outputs are of fixed width.
        self.fixed = not self._others
        #: The reads whose event times are told.
        self.shown = [i for i, read in enumerate(plan.reads) if self._is_shown(read.label)]

    def lookups(self, columns: Mapping[str, KeyColumn], *, whole: bool) -> list[RowRead]:
        """What to ask the store for. columns: the join-key columns, of the declared types. whole: with the
        whole keys too, where they are made at once."""
        keys = []
        behind: dict[int, list[bytes]] = {}
        for (maker, names), reads, prefixes in self._keys:
            values = [columns[name] for name in names]
            made = maker.encode_whole(values, prefixes) if whole else None
            if made is None:
                keys.append(maker.encode(values))
            else:
                keys.append(made[0])
                behind.update(zip(reads, made[1], strict=True))
        if not behind:
            return [RowRead(prefix, keys[i]) for prefix, i in self._prefixes]
        return [RowRead(prefix, keys[i], behind.get(read)) for read, (prefix, i) in enumerate(self._prefixes)]

    def limits(self, now: int, max_age: timedelta | None) -> list[int]:
        """For each read the oldest event time (µs) that is served."""
        age = _micros(max_age)
        return [_oldest(now, ttl, age) for ttl in self._ttls]

    def single(
        self, found: FoundRows, now: int, limits: Sequence[int]
    ) -> tuple[list[bytes], list[bytes]] | None:
        """One entity's values by output and event times by shown read, when all are PRESENT; else None.

        Numpy costs more than it saves on one row.
        """
        if not self.fixed:
            return None
        rows: list[bytes] = []
        for (row,), (head, no_nulls, width, whole), oldest in zip(found, self._checks, limits, strict=True):
            if row is None or not row.startswith(head) or not row.startswith(no_nulls, HEADER):
                return None
            if len(row) < width or (whole and len(row) != width):
                return None
            (event,) = _event(row, EVENT_AT)
            if event > now or event < oldest:
                return None
            rows.append(row)
        if any(rows[i][at] > 1 for i, at in self._bools):
            return None
        return (
            [rows[i][start:end] for i, start, end in self._single],
            [rows[i][EVENT_AT : EVENT_AT + 8] for i in self.shown],
        )

    def answer(self, found: FoundRows, rows: int, now: int, limits: Sequence[int]) -> Answer:
        """Decodes what a store found. Raises OtherLayout, CorruptRow."""
        found = [list(view) * rows if len(view) != rows else view for view in found]  # one row for everybody
        matrices = [group.matrix(found, rows) for group in self._groups]
        events = np.empty((len(found), rows), np.int64)
        nulls = False
        for group, matrix in zip(self._groups, matrices, strict=True):
            words = matrix.view("<i8")
            events[list(group.reads)] = words[:, :, EVENT_AT // 8]
            nulls = nulls or bool(words[:, :, HEADER // 8 : HEADER // 8 + group.mask_words].any())
        bounds = np.array(limits, np.int64)[:, None]
        fresh = (events >= bounds) & (events <= now)
        statuses = None
        if nulls or not fresh.all():
            statuses = self._statuses(matrices, events, bounds, now)
        blocks = tuple(block.take(matrices[block.group]) for block in self.blocks)
        if self._bools and any((array > 1).any() for array in blocks if array.dtype == np.uint8):
            raise OtherLayout
        return Answer(rows, blocks, self._variable(found), statuses, events)

    def unavailable(self, rows: int) -> Answer:
        """What is known of rows that the store did not tell."""
        found: list[list[bytes | None]] = [[None] * rows for _ in self.layouts]
        answer = self.answer(found, rows, 0, [NOT_STORED + 1] * len(found))
        statuses = np.full((len(self._cells), rows), FeatureStatus.UNAVAILABLE, np.uint8)
        return Answer(rows, answer.blocks, answer.others, statuses, answer.events)

    def _statuses(
        self,
        matrices: Sequence[npt.NDArray[np.uint8]],
        events: npt.NDArray[np.int64],
        bounds: npt.NDArray[np.int64],
        now: int,
    ) -> npt.NDArray[np.uint8] | None:
        """Statuses by output; the event times of rows that are not known yet are taken out."""
        missing = (events == NOT_STORED) | (events > now)
        if ((events < EARLIEST) & ~missing | (events > LATEST)).any():
            raise OtherLayout
        rows = np.where(events < bounds, FeatureStatus.OUTSIDE_MAX_AGE, FeatureStatus.PRESENT)
        rows[missing] = FeatureStatus.NOT_FOUND
        events[missing] = NOT_STORED
        found = rows.astype(np.uint8)[self._read_of]
        for i, (group, view, byte, bit) in enumerate(self._bits):
            null = (matrices[group][view, :, byte] & bit) != 0
            found[i][null & (found[i] == FeatureStatus.PRESENT)] = FeatureStatus.NULL_VALUE
        return None if (found == FeatureStatus.PRESENT).all() else found

    def _variable(self, found: FoundRows) -> dict[int, pa.Array]:
        decoded = {}
        for i in self._others:
            read = int(self._read_of[i])
            if read not in decoded:
                blank = self.layouts[read].blank
                decoded[read] = self.layouts[read].decode(
                    [blank if row is None else row for row in found[read]]
                )
        return {i: decoded[int(self._read_of[i])].column(self._cells[i].bit) for i in self._others}

    def _make_blocks(self) -> tuple[Block, ...]:
        blocks = []
        for number, group in enumerate(self._groups):
            by_dtype: dict[np.dtype[Any], list[int]] = {}
            for i, cell in enumerate(self._cells):
                if cell.dtype is not None and self._read_of[i] in group.reads:
                    by_dtype.setdefault(cell.dtype, []).append(i)
            for dtype, outputs in by_dtype.items():
                views = [group.reads.index(int(self._read_of[i])) for i in outputs]
                columns = [self._cells[i].offset // dtype.itemsize for i in outputs]
                pairs = list(zip(views, columns, strict=True))
                start, count = columns[0], len(outputs) // len(group.reads)
                stretch = [(v, start + c) for v in range(len(group.reads)) for c in range(count)]
                run = (start, start + count) if pairs == stretch else None
                blocks.append(
                    Block(number, dtype, np.array(views), np.array(columns), np.array(outputs), run)
                )
        return tuple(blocks)

    def _is_shown(self, label: str) -> bool:
        return any(item.label == label for item in self.plan.outputs)


def _entity_keys(
    reads: Sequence[ViewRead],
) -> tuple[list[tuple[EntityKeys, tuple[str, ...]]], list[int]]:
    """The distinct ways of reads to make keys of request columns, and which of them each read takes."""
    ways: dict[tuple[tuple[str, Any], ...], int] = {}
    makers, index = [], []
    for read in reads:
        way = tuple((key.column, key.join_key) for key in read.keys)
        if way not in ways:
            ways[way] = len(ways)
            makers.append((EntityKeys([key for _, key in way]), tuple(column for column, _ in way)))
        index.append(ways[way])
    return makers, index


def _position(read: ViewRead, feature: str) -> int:
    return next(i for i, item in enumerate(read.view.features) if item.name == feature)


def _micros(span: timedelta | None) -> int | None:
    return None if span is None else span // _MICROSECOND


def _oldest(now: int, ttl: int | None, age: int | None) -> int:
    """What lies before EARLIEST, NOT_STORED among it, is never served."""
    limit = ttl if age is None else age if ttl is None else min(ttl, age)
    return EARLIEST if limit is None else max(now - limit, EARLIEST)
