"""Errors as MLflow's clients read them: a code, a message, an HTTP status."""

from __future__ import annotations

import json
from dataclasses import dataclass

from plumbline import errors, wire
from plumbline.errors import NotFound, PlumblineError
from plumbline.registry.errors import (
    AliasNotFound,
    ModelArchived,
    ModelExists,
    ModelNotFound,
    VersionNotFound,
)

_MISSING = "RESOURCE_DOES_NOT_EXIST"
_INVALID = "INVALID_PARAMETER_VALUE"


class NoSuchEndpoint(NotFound):
    """Nothing is served at this path, or not by this method."""


class NameTaken(errors.AlreadyExists):
    """A model or a prompt has the name."""


class BodyTooLarge(errors.InvalidArgument):
    """The body is larger than a message may be."""


@dataclass(frozen=True)
class Refusal:
    """canonical: the code's gRPC name, for logs and metrics."""

    canonical: str
    code: str
    status: int
    message: str

    def body(self) -> bytes:
        return json.dumps({"error_code": self.code, "message": self.message}).encode()


#: By class; the nearest ancestor counts. What the state of the registry refuses is INVALID_PARAMETER_VALUE:
#: of an INVALID_STATE MLflow makes a status 500, at which its clients try again for minutes.
_CODES: dict[type[PlumblineError], tuple[str, int]] = {
    NoSuchEndpoint: ("ENDPOINT_NOT_FOUND", 404),
    BodyTooLarge: ("BAD_REQUEST", 413),
    AliasNotFound: (_INVALID, 400),
    ModelArchived: (_MISSING, 404),
    errors.InvalidArgument: (_INVALID, 400),
    errors.NotFound: (_MISSING, 404),
    errors.AlreadyExists: ("RESOURCE_ALREADY_EXISTS", 400),
    errors.FailedPrecondition: (_INVALID, 400),
    errors.OutOfRange: (_INVALID, 400),
    errors.Aborted: ("RESOURCE_CONFLICT", 409),
    errors.ResourceExhausted: ("RESOURCE_EXHAUSTED", 429),
    errors.PermissionDenied: ("PERMISSION_DENIED", 403),
    errors.Unauthenticated: ("UNAUTHENTICATED", 401),
    errors.Unavailable: ("TEMPORARILY_UNAVAILABLE", 503),
    errors.DeadlineExceeded: ("DEADLINE_EXCEEDED", 504),
    errors.Unimplemented: ("NOT_IMPLEMENTED", 501),
    errors.DataLoss: ("DATA_LOSS", 500),
}


def refusal(error: PlumblineError) -> Refusal:
    """What the caller is told."""
    code, status = next(
        (_CODES[cls] for cls in type(error).__mro__ if cls in _CODES), ("INTERNAL_ERROR", 500)
    )
    return Refusal(wire.status_code(error).name, code, status, _message(error))


def _message(error: PlumblineError) -> str:
    """In MLflow's words where programs look for them."""
    facts = error.metadata
    if isinstance(error, ModelNotFound | ModelArchived):
        return f"Registered Model with name={facts.get('model')} not found"
    if isinstance(error, VersionNotFound):
        return f"Model Version (name={facts.get('model')}, version={facts.get('version')}) not found"
    if isinstance(error, AliasNotFound):
        return f"Registered model alias {facts.get('alias')} not found."
    if isinstance(error, ModelExists):
        return f"Registered Model (name={facts.get('model')}) already exists."
    return error.message
