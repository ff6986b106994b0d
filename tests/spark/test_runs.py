"""Joins beside one another, and joins that are given up."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import grpc
import pyarrow as pa
import pytest

from plumbline.features.client import selection
from plumbline.features.errors import InvalidField
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from tests.spark.conftest import OnSpark, parts
from tests.spark.repo import START
from tests.support import wait_until


def at(second: int, key: str, count: int = 1) -> pa.Table:
    times = pa.array([START + timedelta(seconds=second)] * count, pa.timestamp("us", "UTC"))
    return pa.table({"key": [key] * count, "event_timestamp": times})


def test_two_joins_at_once_do_not_meet(on_spark: OnSpark) -> None:
    """Feast's join names its tables alike in every join, and takes whichever session was used last."""
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(on_spark.join, ["legs:value"], at(9, "x1").append_column("number", pa.array([23])))
        other = pool.submit(on_spark.join, ["of_ms:value"], at(6, "z"))
        assert one.result()[0]["value"].to_pylist() == [3]
        assert other.result()[0]["value"].to_pylist() == [50]


def test_a_join_that_is_given_up_ends_and_leaves_nothing(on_spark: OnSpark) -> None:
    """A billion feature rows would take long; meanwhile nobody else writes to the same place."""
    target = on_spark.results / uuid.uuid4().hex
    header = pb.HistoricalFeaturesHeader(selection=selection(["crowd:value"]), result_uri=str(target))
    call = on_spark.stub.GetHistoricalFeatures(parts(header, at(5, "z")), timeout=150)
    for reply in call:
        if reply.progress.phase == "joining":
            break
    with pytest.raises(InvalidField, match="is being written by another join"):
        on_spark.join(["of_ms:value"], at(5, "z"), result_uri=str(target))
    call.cancel()
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    assert caught.value.code() is grpc.StatusCode.CANCELLED

    def free() -> bool:
        try:
            found, _ = on_spark.join(["of_ms:value"], at(5, "z"), result_uri=str(target))
        except InvalidField:
            return False
        return found["value"].to_pylist() == [50]

    # Its place is free again, and so are the executors.
    wait_until(free, timeout=60, what="the place of a cancelled join is free")
