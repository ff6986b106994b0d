"""Whatever bytes lie where a row should be, all reads answer, and never from a damaged header."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from feast import FeatureView as FeastView
from feast import Field as FeastField
from feast.infra.online_stores.helpers import get_online_store_from_config
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from feast.types import Array, Bool, Float64, Int32, String, UnixTimestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_service.domain import FeatureView, Field, Projection, ValueType, ViewKind
from feature_service.packed.guard import sort_key
from feature_service.packed.keys import EntityKeys, view_prefix
from feature_service.packed.layout import EARLIEST, EVENT_AT, HEADER, LATEST, RowLayout
from feature_service.packed.lmdb_rows import LmdbRows
from feature_service.ports import RowRead
from feature_service.stores.packed import PackedStore
from plumbline.types.v1.feature_column_pb2 import FEATURE_STATUS_NOT_FOUND as NOT_FOUND
from tests.unit.feature_service.test_hot import NOW_MICROS, World, ask

KINDS = {
    "number": (ValueType.DOUBLE, Float64, pa.array([1.5])),
    "flag": (ValueType.BOOL, Bool, pa.array([True])),
    "small": (ValueType.INT32, Int32, pa.array([7], pa.int32())),
    "at": (ValueType.TIMESTAMP, UnixTimestamp, pa.array([5_000_000], pa.timestamp("us", "UTC"))),
    "text": (ValueType.STRING, String, pa.array(["grün"])),
    "texts": (ValueType.STRING_LIST, Array(String), pa.array([["a", "", "ccc"]])),
    "flags": (ValueType.BOOL_LIST, Array(Bool), pa.array([[True, False]])),
}
FIXED = ["number", "flag", "small", "at"]
KEY = 7


class Reader:
    """One view without a ttl, with one row in LMDB, and the ways to read it."""

    def __init__(self, folder: Path, names: list[str], pool: ThreadPoolExecutor) -> None:
        fields = [Field(name, KINDS[name][0]) for name in names]
        self.view = FeatureView(
            "p", "v", ViewKind.BATCH, (Field("id", ValueType.INT64),), tuple(fields), None
        )
        self.layout = RowLayout(fields)
        (self.row,) = self.layout.pack([KINDS[name][2] for name in names], np.array([NOW_MICROS - 1]), None)
        self.names = names
        self.config = RepoConfig(
            project="p",
            provider="local",
            registry=str(folder / "registry.db"),
            online_store={
                "type": "feature_service.stores.lmdb.LmdbOnlineStore",
                "path": str(folder / "online"),
                "sync": False,
            },
            entity_key_serialization_version=3,
        )
        self.table = FeastView(
            name="v",
            schema=[FeastField(name=name, dtype=KINDS[name][1]) for name in names],
            source=None,
            ttl=timedelta(0),
        )
        found = get_online_store_from_config(self.config.online_store)
        assert isinstance(found, PackedStore)
        self.sdk = found
        self.rows = LmdbRows(folder / "online", sync=False)
        self.world = World([self.view], [Projection("v", "v", self.view.features)], pool)
        self.prefix = view_prefix("p", "v")
        (self.key,) = EntityKeys(self.view.join_keys).encode([[KEY]])

    def lay(self, row: bytes) -> None:
        """Where the row was."""
        self.rows.drop(self.prefix)
        self.rows.put(self.prefix, [(self.key, row)], None)
        ((found,),) = self.rows.get([RowRead(self.prefix, [self.key])])
        assert found == row
        self.world.rows.rows[self.prefix + self.key] = row

    def answers(self) -> list[Any]:
        """What the ways to read gave: event times, or None where they say that there is no row."""
        found: list[Any] = []
        for ids in ([KEY], [KEY] * 3):
            hot, arrow = self.world.both(ask(ids))
            assert hot.SerializeToString() == arrow.SerializeToString()  # NaN is not itself
            times = set(hot.view_event_times[0].event_micros)
            statuses = [set(column.statuses) for column in hot.features]
            gone = all(codes == {NOT_FOUND} for codes in statuses)
            found.append(None if gone else times)
        key = EntityKey(join_keys=["id"], entity_values=[Value(int64_val=KEY)])
        ((moment, values),) = self.sdk.online_read(self.config, self.table, [key])
        found.append(None if values is None else {moment})
        return found


@pytest.fixture(scope="module", params=["fixed", "variable"])
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    names = FIXED if request.param == "fixed" else list(KINDS)
    with ThreadPoolExecutor(1) as pool:
        found = Reader(tmp_path_factory.mktemp("damage"), names, pool)
        yield found
        found.rows.close()


def cut(row: bytes, data: st.DataObject) -> bytes:
    return row[: data.draw(st.integers(0, len(row) - 1))]


def foreign(row: bytes, data: st.DataObject) -> bytes:
    return data.draw(st.binary(max_size=300))


def damaged(row: bytes, data: st.DataObject) -> bytes:
    """Some bytes of it are others."""
    found = bytearray(row)
    for at in data.draw(st.lists(st.integers(0, len(row) - 1), min_size=1, max_size=6)):
        found[at] = data.draw(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF]))
    return bytes(found)


def another_time(row: bytes, data: st.DataObject) -> bytes:
    times = [-(2**63), -(2**63) + 1, -(2**62), EARLIEST - 1, EARLIEST, LATEST, LATEST + 1, 2**63 - 1]
    return row[:EVENT_AT] + struct.pack("<q", data.draw(st.sampled_from(times))) + row[EVENT_AT + 8 :]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([cut, foreign, damaged, another_time]), st.data())
def test_no_bytes_in_place_of_a_row_end_a_read(reader: Reader, how: Any, data: st.DataObject) -> None:
    row = how(reader.row, data)
    reader.lay(row)
    answers = reader.answers()
    (event,) = struct.unpack("<q", row[EVENT_AT : EVENT_AT + 8]) if len(row) >= HEADER else (None,)
    whole = row[:EVENT_AT] == reader.row[:EVENT_AT] and event is not None and EARLIEST <= event <= NOW_MICROS
    if not whole:
        # The SDK's now is the clock's.
        known = event is not None and NOW_MICROS < event <= LATEST
        assert answers[: 2 if known else 3] == [None] * (2 if known else 3)
    elif len(row) == len(reader.row) and row[HEADER:] == reader.row[HEADER:]:
        assert None not in answers
    # The next write puts it right.
    assert reader.rows.put(reader.prefix, [(reader.key, reader.row)], None) == (
        0 if event is not None and sort_key(row) > sort_key(reader.row) else 1
    )


def test_a_row_that_goes_on_after_its_end_is_the_same_to_all_reads(reader: Reader) -> None:
    """Without columns of varying width nothing may follow; else nothing of it belongs to a value."""
    reader.lay(reader.row + b"\x01" * 8)
    found = reader.answers()
    assert found == [None] * 3 if reader.layout.fixed else found[0] == found[1]


def test_a_time_that_is_none_is_told(reader: Reader, caplog: pytest.LogCaptureFixture) -> None:
    reader.world.hot._packed.schemas._told.clear()
    reader.lay(reader.row[:EVENT_AT] + struct.pack("<q", -(2**62)) + reader.row[EVENT_AT + 8 :])
    assert reader.answers() == [None] * 3
    assert "a row's event time is none" in caplog.text
