"""Moments on the wire: zone-aware datetimes ↔ google.protobuf.Timestamp."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf import timestamp_pb2


def timestamp(moment: datetime | None) -> timestamp_pb2.Timestamp | None:
    """The wire form of a zone-aware moment; None stays None. Raises ValueError for a naive one."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; times are UTC and zone-aware")
    result = timestamp_pb2.Timestamp()
    result.FromDatetime(moment)
    return result


def moment(stamp: timestamp_pb2.Timestamp) -> datetime:
    """The UTC datetime of a wire timestamp; what is below a microsecond is cut off."""
    return stamp.ToDatetime(tzinfo=UTC)
