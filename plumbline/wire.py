"""Errors on the wire: the one mapping between `plumbline.errors` and gRPC statuses, both ways.

A status carries google.rpc.ErrorInfo{reason, domain "plumbline", metadata} and, where request fields
are at fault, google.rpc.BadRequest, in the trailer `grpc-status-details-bin` (google.rpc.Status).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from plumbline import errors
from plumbline.errors import ErrorClasses, FieldViolation, PlumblineError

DOMAIN = "plumbline"
DETAILS_TRAILER = "grpc-status-details-bin"

_CODE_BY_CLASS: dict[type[PlumblineError], grpc.StatusCode] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Aborted: grpc.StatusCode.ABORTED,
    errors.OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DataLoss: grpc.StatusCode.DATA_LOSS,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    errors.Internal: grpc.StatusCode.INTERNAL,
}
_CLASS_BY_CODE = {code: cls for cls, code in _CODE_BY_CLASS.items()}

# What a person reads when the transport itself failed and no server wrote a message.
_TRANSPORT_HINT = {
    grpc.StatusCode.UNAVAILABLE: "cannot reach the server",
    grpc.StatusCode.DEADLINE_EXCEEDED: "the server did not answer within the deadline",
}

# What gRPC itself says of a message beyond a limit, without a status of ours.
_TOO_LARGE = re.compile(r"(SERVER|CLIENT): (Sent|Received) message larger than max \((\d+) vs\. (\d+)\)")


def status_code(error: PlumblineError) -> grpc.StatusCode:
    """The canonical code of an error: that of its nearest ancestor in the tree."""
    for cls in type(error).__mro__:
        code = _CODE_BY_CLASS.get(cls)
        if code is not None:
            return code
    return grpc.StatusCode.UNKNOWN


def to_status(error: PlumblineError) -> status_pb2.Status:
    """The google.rpc.Status of an error, with its details."""
    status = status_pb2.Status(code=code_pb2.Code.Value(status_code(error).name), message=error.message)
    # AIP-193: every error has an ErrorInfo; one without a reason of its own gives its code.
    reason = error.reason or status_code(error).name
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=error.metadata)
    _pack(status.details.add(), info)
    if error.violations:
        bad_request = error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(
                    field=violation.field, description=violation.description
                )
                for violation in error.violations
            ]
        )
        _pack(status.details.add(), bad_request)
    return status


def trailers(error: PlumblineError) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata that carries the details of an error."""
    return ((DETAILS_TRAILER, to_status(error).SerializeToString()),)


def from_rpc_error(error: grpc.RpcError, classes: ErrorClasses, *, target: str = "") -> PlumblineError:
    """The typed error behind an RpcError.

    classes: the errors of the service called. A reason without a class there becomes the tree's class
    of the status code, with `reason` set. target: the address, named when it cannot be reached.
    """
    code: grpc.StatusCode = error.code() if hasattr(error, "code") else grpc.StatusCode.UNKNOWN
    message: str = (error.details() if hasattr(error, "details") else None) or code.name.lower()
    reason, metadata, violations = "", {}, []
    status = _status_of(error)
    if status is not None:
        message = status.message or message
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            bad_request = error_details_pb2.BadRequest()
            if detail.Unpack(info) and info.domain == DOMAIN:
                reason, metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(bad_request):
                violations = [
                    FieldViolation(item.field, item.description) for item in bad_request.field_violations
                ]
    elif too_large := _TOO_LARGE.search(message):
        message = _too_large(too_large, target)
    elif code in _TRANSPORT_HINT:
        message = f"{_TRANSPORT_HINT[code]}{f' at {target}' if target else ''}: {message}"
    base = _CLASS_BY_CODE.get(code, errors.Internal)
    cls = classes.get(reason) or base
    if not issubclass(cls, base):  # another code than this version of the contract gives the reason
        cls = base
    return cls(message, metadata=metadata, violations=violations, reason=reason)


@contextmanager
def translated(classes: ErrorClasses, target: str = "") -> Iterator[None]:
    """Turns an RpcError raised inside into the service's typed error."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error, classes, target=target) from error


def _too_large(found: re.Match[str], target: str) -> str:
    """What a person reads of it: what is too large, whose limit it is, and what to do."""
    side, verb, size, limit = found.groups()
    of_server = side == "SERVER"
    what = "request" if of_server == (verb == "Received") else "reply"
    whose = f"the server{f' at {target}' if target else ''}" if of_server else "this client"
    setting = "its setting PLUMBLINE_…_MAX_MESSAGE_BYTES" if of_server else "its max_message_bytes"
    return (
        f"the {what} has {size} bytes; the limit of {whose} is {limit} a message: ask for less in one call, "
        f"or raise {setting}"
    )


def _pack(holder: any_pb2.Any, message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> None:
    holder.Pack(message)


def _status_of(error: grpc.RpcError) -> status_pb2.Status | None:
    if not hasattr(error, "trailing_metadata"):
        return None
    # The stubs give the entries a class of their own; they are pairs.
    trailing = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    for key, value in trailing:
        if key == DETAILS_TRAILER and isinstance(value, bytes):
            return status_pb2.Status.FromString(value)
    return None
