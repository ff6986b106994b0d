"""Reads of prepared plans: from rows as a store keeps them to replies as they go over the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_service.domain import FeatureStatus, ReadPlan, ValueType
from feature_service.online.matrix import put
from feature_service.online.prepared import Answer, Block, FoundRows, PreparedPlan
from feature_service.online.reply import Cells, MatrixReply, OnlineReply, ReplyColumn
from feature_service.planning import matrix_names, output_names
from plumbline import columns
from plumbline.features.errors import AmbiguousFeatureName

Fills: TypeAlias = Mapping[int, pa.Scalar]


@dataclass(frozen=True)
class Moment:
    """now: µs. max_age: on top of each view's ttl."""

    now: int
    max_age: timedelta | None


class HotPlan:
    """A prepared plan and the frames of its replies. found: what the store told, None when it did not answer
    in time. fills: values for cells that are not PRESENT, by output (`retrieval.default_values`)."""

    def __init__(self, plan: ReadPlan) -> None:
        """Raises ValueError for a plan that packed rows alone do not answer."""
        self.prepared = PreparedPlan(plan)
        self.plan = plan
        self._views = [plan.reads[i].label for i in self.prepared.shown]
        self._online = {full: self._online_reply(full) for full in (False, True)}
        self._matrix = MatrixReply(matrix_names(plan), self._views, plan.digest)

    @classmethod
    def of(cls, plan: ReadPlan) -> HotPlan | None:
        """None for a plan that packed rows alone do not answer."""
        try:
            return cls(plan)
        except ValueError:
            return None

    def online(
        self, found: FoundRows | None, rows: int, at: Moment, *, full_names: bool, fills: Fills
    ) -> bytes:
        """GetOnlineFeaturesResponse. Raises AmbiguousFeatureName, OtherLayout, CorruptRow."""
        reply = self._reply(full_names)
        limits = self.prepared.limits(at.now, at.max_age)
        if found is None:
            return self._encode_online(self.prepared.unavailable(rows), at.now, reply, fills)
        if rows == 1:
            single = self.prepared.single(found, at.now, limits)
            if single is not None:
                return reply.present(1, *single, at.now)
        return self._encode_online(self.prepared.answer(found, rows, at.now, limits), at.now, reply, fills)

    def matrix(
        self, found: FoundRows | None, rows: int, at: Moment, *, dtype: npt.DTypeLike, fills: Fills
    ) -> bytes:
        """GetFeatureMatrixResponse, of numeric outputs. Raises OtherLayout, CorruptRow."""
        if found is None:
            answer = self.prepared.unavailable(rows)
        else:
            answer = self.prepared.answer(found, rows, at.now, self.prepared.limits(at.now, at.max_age))
        values = np.empty((rows, len(self.plan.outputs)), dtype)
        for block, array in zip(self.prepared.blocks, answer.blocks, strict=True):
            put(values, (slice(None), block.outputs), array.T)
        statuses = b""
        if answer.statuses is not None:
            turned = np.ascontiguousarray(answer.statuses.T)
            absent = turned != FeatureStatus.PRESENT
            values[absent] = np.nan
            for output, scalar in fills.items():
                put(values, (absent[:, output], output), np.asarray(_number(scalar)))
            statuses = turned.tobytes()
        return self._matrix.encode(rows, values.tobytes(), statuses, self._events(answer), at.now)

    def _reply(self, full_names: bool) -> OnlineReply:
        found = self._online[full_names]
        if found is None:
            output_names(self.plan, full=full_names)
            raise AssertionError("names that were ambiguous are so again")
        return found

    def _encode_online(self, answer: Answer, now: int, reply: OnlineReply, fills: Fills) -> bytes:
        rows = answer.rows
        values: list[bytes] = [b""] * len(self.plan.outputs)
        present: npt.NDArray[np.bool_] | None = _present(answer)
        for block, array in zip(self.prepared.blocks, answer.blocks, strict=True):
            if present is not None:
                array = np.where(present[block.outputs], array, _filling(block, fills))
            data, size = array.tobytes(), rows * array.itemsize
            for i, output in enumerate(block.outputs.tolist()):
                values[output] = data[i * size : (i + 1) * size]
        events = self._events(answer)
        if present is None and self.prepared.fixed:
            return reply.present(rows, values, events, now)
        return reply.general(rows, self._cells(answer, values, present, fills), events, now)

    def _events(self, answer: Answer) -> list[bytes]:
        return [answer.events[i].tobytes() for i in self.prepared.shown]

    def _cells(
        self, answer: Answer, values: Sequence[bytes], present: npt.NDArray[np.bool_] | None, fills: Fills
    ) -> list[Cells]:
        if present is None or answer.statuses is None:
            cells = [Cells(data) for data in values]
        else:
            rows, mask_size = answer.rows, -(-answer.rows // 8)
            masks = np.packbits(~present, axis=1, bitorder="little").tobytes()
            statuses, whole = answer.statuses.tobytes(), np.all(present, axis=1).tolist()
            cells = [
                Cells(data)
                if whole[i]
                else Cells(
                    data,
                    b"" if i in fills else masks[i * mask_size : (i + 1) * mask_size],
                    statuses[i * rows : (i + 1) * rows],
                )
                for i, data in enumerate(values)
            ]
        for i, array in answer.others.items():
            if present is not None and not np.all(present[i]):
                filling = fills.get(i, pa.scalar(None, array.type))
                array = pc.if_else(pa.array(present[i]), array, filling)
            cells[i] = Cells(_message(array), cells[i].null_mask, cells[i].statuses)
        return cells

    def _online_reply(self, full: bool) -> OnlineReply | None:
        try:
            names = output_names(self.plan, full=full)
        except AmbiguousFeatureName:
            return None
        shown = [
            ReplyColumn(name, item.label, item.feature.type, _width(item.feature.type))
            for name, item in zip(names, self.plan.outputs, strict=True)
        ]
        return OnlineReply(shown, self._views, self.plan.digest)


_WIDTHS = {
    ValueType.DOUBLE: 8,
    ValueType.INT64: 8,
    ValueType.TIMESTAMP: 8,
    ValueType.FLOAT: 4,
    ValueType.INT32: 4,
    ValueType.BOOL: 1,
}


def _present(answer: Answer) -> npt.NDArray[np.bool_] | None:
    """Which cells are PRESENT, (outputs, rows); None when all are."""
    if answer.statuses is None:
        return None
    found: npt.NDArray[np.bool_] = np.equal(answer.statuses, FeatureStatus.PRESENT)
    return found


def _width(kind: ValueType) -> int:
    return _WIDTHS.get(kind, 0)


def _number(scalar: pa.Scalar) -> Any:
    """A default as a number: a timestamp in µs."""
    return scalar.value if pa.types.is_timestamp(scalar.type) else scalar.as_py()


def _filling(block: Block, fills: Fills) -> npt.NDArray[Any]:
    """What stands in cells of a block that are not PRESENT, as a column; 0 without a default."""
    numbers = [_number(fills[i]) if i in fills else 0 for i in block.outputs.tolist()]
    return np.array(numbers, block.dtype)[:, None]


def _message(array: pa.Array) -> bytes:
    """The bytes of the message that holds an array's values in a Column."""
    column = columns.encode("", array)
    oneof = column.WhichOneof("values")
    assert oneof is not None
    data: bytes = getattr(column, oneof).SerializeToString()
    return data
