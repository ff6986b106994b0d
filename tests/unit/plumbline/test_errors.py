"""Errors keep class, reason, metadata and violations over the wire."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

import plumbline.features.errors
import plumbline.registry.errors
import plumbline.serving.errors
from plumbline import errors, wire
from plumbline.errors import ErrorClasses, FieldViolation, PlumblineError
from plumbline.features.v1 import errors_pb2 as features_pb
from plumbline.registry.v1 import errors_pb2 as registry_pb
from plumbline.serving.v1 import errors_pb2 as serving_pb

SERVICES = [
    (plumbline.features.errors.CLASSES, features_pb.ErrorReason),
    (plumbline.registry.errors.CLASSES, registry_pb.ErrorReason),
    (plumbline.serving.errors.CLASSES, serving_pb.ErrorReason),
]


class ReceivedError(grpc.RpcError):
    """A status as a client sees it."""

    def __init__(self, code: grpc.StatusCode, details: str, trailers: Any = ()) -> None:
        super().__init__()
        self._code, self._details, self._trailers = code, details, trailers

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._trailers


def over_the_wire(error: PlumblineError, classes: ErrorClasses) -> PlumblineError:
    received = ReceivedError(wire.status_code(error), error.message, wire.trailers(error))
    return wire.from_rpc_error(received, classes)


@pytest.mark.parametrize(("classes", "enum"), SERVICES, ids=["features", "registry", "serving"])
def test_every_reason_of_the_contract_has_a_class_and_no_class_lacks_a_reason(
    classes: ErrorClasses, enum: Any
) -> None:
    reasons = {name.removeprefix("ERROR_REASON_") for name in enum.keys()} - {"UNSPECIFIED"}  # noqa: SIM118
    # MALFORMED_COLUMN is shared; the registry takes no columns.
    assert classes.reasons() - {"MALFORMED_COLUMN"} == reasons - {"MALFORMED_COLUMN"}


@pytest.mark.parametrize(("classes", "enum"), SERVICES, ids=["features", "registry", "serving"])
def test_every_error_comes_back_as_itself(classes: ErrorClasses, enum: Any) -> None:
    for reason in classes.reasons():
        cls = classes.get(reason)
        assert cls is not None
        sent = cls(
            "what was wrong", metadata={"model": "m"}, violations=[FieldViolation("model.name", "too long")]
        )
        received = over_the_wire(sent, classes)
        assert type(received) is cls
        assert received.message == "what was wrong"
        assert received.metadata == {"model": "m"}
        assert received.violations == (FieldViolation("model.name", "too long"),)


def test_a_reason_from_a_newer_server_keeps_its_code_and_name() -> None:
    sent = errors.NotFound("no such thing", reason="THING_NOT_FOUND")
    received = over_the_wire(sent, errors.NO_CLASSES)
    assert type(received) is errors.NotFound
    assert received.reason == "THING_NOT_FOUND"


def test_an_unreachable_server_is_named() -> None:
    received = wire.from_rpc_error(
        ReceivedError(grpc.StatusCode.UNAVAILABLE, "connection refused"), errors.NO_CLASSES, target="host:1"
    )
    assert type(received) is errors.Unavailable
    assert str(received) == "cannot reach the server at host:1: connection refused"


@pytest.mark.parametrize(
    ("details", "said"),
    [
        (
            "SERVER: Received message larger than max (72036 vs. 65536)",
            "the request has 72036 bytes; the limit of the server at host:1 is 65536 a message: ask for less "
            "in one call, or raise its setting PLUMBLINE_…_MAX_MESSAGE_BYTES",
        ),
        ("SERVER: Sent message larger than max (9 vs. 5)", "the reply has 9 bytes; the limit of the server"),
        (
            "CLIENT: Sent message larger than max (9 vs. 5)",
            "the request has 9 bytes; the limit of this",
        ),
        (
            "Stream removed (CLIENT: Received message larger than max (9 vs. 5))",
            "the reply has 9 bytes; the limit of this client is 5 a message: ask for less in one call, or "
            "raise its max_message_bytes",
        ),
    ],
)
def test_a_message_beyond_a_limit_is_told_whose_limit_it_is(details: str, said: str) -> None:
    received = wire.from_rpc_error(
        ReceivedError(grpc.StatusCode.RESOURCE_EXHAUSTED, details), errors.NO_CLASSES, target="host:1"
    )
    assert type(received) is errors.ResourceExhausted
    assert received.message.startswith(said)


def test_two_classes_may_not_share_a_reason() -> None:
    class First(errors.NotFound):
        reason = "SAME"

    class Second(errors.NotFound):
        reason = "SAME"

    with pytest.raises(ValueError, match="Second: reason 'SAME'"):
        ErrorClasses(First, Second)
