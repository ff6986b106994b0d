"""Moments, types and other small values."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from plumbline.errors import FieldViolation
from plumbline.registry.errors import InvalidField
from plumbline.types.v1 import column_pb2 as types
from registry_service.domain import Field

_TYPE_PREFIX = "VALUE_TYPE_"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_timestamp(moment: datetime | None) -> Timestamp | None:
    """None stays unset."""
    if moment is None:
        return None
    # As FromDatetime, in a quarter of its time: lists have four moments an item.
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000)


def from_timestamp(field: str, value: Timestamp) -> datetime:
    """Zone-aware, cut to the microsecond. Raises InvalidField outside of the years 1 to 9999."""
    try:
        return value.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        message = f"{field} ({value.seconds} s, {value.nanos} ns) is no moment between the years 1 and 9999"
        raise InvalidField(
            message, metadata={"field": field}, violations=[FieldViolation(field, message)]
        ) from error


def to_duration(span: timedelta | None) -> Duration | None:
    """None stays unset."""
    if span is None:
        return None
    result = Duration()
    result.FromTimedelta(span)
    return result


def from_duration(field: str, value: Duration) -> timedelta:
    """Cut to the microsecond. Raises InvalidField beyond what Python can hold."""
    try:
        return value.ToTimedelta()
    except (ValueError, OverflowError) as error:
        message = f"{field} ({value.seconds} s, {value.nanos} ns) is too long a time"
        raise InvalidField(
            message, metadata={"field": field}, violations=[FieldViolation(field, message)]
        ) from error


def to_type(name: str) -> types.ValueType.ValueType:
    """The ValueType of a domain type name."""
    return types.ValueType.Value(f"{_TYPE_PREFIX}{name}")


def from_type(number: int) -> str:
    """A name as "DOUBLE"; "" for UNSPECIFIED and for numbers this version does not know."""
    value = types.ValueType.DESCRIPTOR.values_by_number.get(number)
    return value.name.removeprefix(_TYPE_PREFIX) if value is not None and number else ""


def to_field(field: Field) -> types.Field:
    return types.Field(name=field.name, type=to_type(field.type), description=field.description)


def from_fields(fields: Iterable[types.Field]) -> tuple[Field, ...]:
    return tuple(Field(field.name, from_type(field.type), field.description) for field in fields)
