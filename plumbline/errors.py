"""The errors of the suite, the same classes on both sides of the wire.

    PlumblineError
    ├── InvalidArgument      the request is wrong, whatever the state of the system
    ├── NotFound             a named thing does not exist
    ├── AlreadyExists        a thing to be created exists, and differs
    ├── FailedPrecondition   the request is right, the state is not; do not retry as it is
    ├── Aborted              somebody else was faster; read again, then retry
    ├── OutOfRange           past the end of something
    ├── ResourceExhausted    a limit, a quota or a full disk
    ├── PermissionDenied     known caller, not allowed
    ├── Unauthenticated      unknown caller
    ├── Unavailable          try again, with backoff
    ├── DataLoss             stored or sent bytes are not what they were
    ├── DeadlineExceeded     the caller's deadline passed
    ├── Cancelled            the caller gave up
    ├── Unimplemented        the server does not know the method
    └── Internal             a fault of the server; the details are in its log

The children mirror the canonical gRPC codes; `plumbline.wire` holds the one mapping. Each service's
own errors (`plumbline.registry.errors.ModelNotFound`) are children of these and carry a `reason` from
the service's ErrorReason enum. A service raises them, its client catches them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FieldViolation:
    """One field of a request that is at fault: its path, as in `entities[0].name`, and why."""

    field: str
    description: str


class PlumblineError(Exception):
    """Base of all errors of the suite.

    message: for people: what was wrong, with which value, and what to do.
    metadata: for programs: the keys the contract documents for the reason.
    violations: the request fields at fault, if any are.
    reason: overrides the class's own; used when a client meets a reason it has no class for.
    """

    #: From the service's ErrorReason enum, without prefix; "" when the error has none.
    reason: str = ""

    def __init__(
        self,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.metadata: dict[str, str] = dict(metadata or {})
        self.violations: tuple[FieldViolation, ...] = tuple(violations)
        if reason is not None:
            self.reason = reason

    def __str__(self) -> str:
        return self.message


class InvalidArgument(PlumblineError):
    """The request is wrong, whatever the state of the system."""


class NotFound(PlumblineError):
    """A named thing does not exist."""


class AlreadyExists(PlumblineError):
    """A thing to be created exists, and differs."""


class FailedPrecondition(PlumblineError):
    """The request is right but the state of the system is not."""


class Aborted(PlumblineError):
    """Somebody else changed the thing first: read it again, then retry."""


class OutOfRange(PlumblineError):
    """Past the end of something."""


class ResourceExhausted(PlumblineError):
    """A limit, a quota or a full disk."""


class PermissionDenied(PlumblineError):
    """The caller is known and not allowed."""


class Unauthenticated(PlumblineError):
    """The caller is not known."""


class Unavailable(PlumblineError):
    """Try again, with backoff."""


class DataLoss(PlumblineError):
    """Stored or sent bytes are not what they were."""


class DeadlineExceeded(PlumblineError):
    """The caller's deadline passed."""


class Cancelled(PlumblineError):
    """The caller gave up."""


class Unimplemented(PlumblineError):
    """The server does not know the method."""


class Internal(PlumblineError):
    """A fault of the server; the details are in its log."""


class MalformedColumn(InvalidArgument):
    """A `plumbline.types.v1.Column` that contradicts itself or its neighbours. metadata: column."""

    reason = "MALFORMED_COLUMN"


class ErrorClasses:
    """The errors of one service, by reason: what its client turns a status into."""

    def __init__(self, *classes: type[PlumblineError]) -> None:
        self._by_reason: dict[str, type[PlumblineError]] = {}
        shared: tuple[type[PlumblineError], ...] = (MalformedColumn,)
        for cls in classes + shared:
            if not cls.reason or cls.reason in self._by_reason:
                raise ValueError(f"{cls.__name__}: reason {cls.reason!r} is empty or taken")
            self._by_reason[cls.reason] = cls

    def get(self, reason: str) -> type[PlumblineError] | None:
        """The class of a reason, or None for a reason from a newer server."""
        return self._by_reason.get(reason)

    def reasons(self) -> frozenset[str]:
        """Every reason that has a class."""
        return frozenset(self._by_reason)


#: For a service without errors of its own.
NO_CLASSES = ErrorClasses()
