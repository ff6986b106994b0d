"""Conditions on the present state that several use cases share."""

from __future__ import annotations

from datetime import datetime

from plumbline.registry.errors import EtagMismatch, ModelArchived, VersionNotReady
from registry_service.domain import Model, ModelVersion, VersionState, etag


def check_etag(name: str, revision: int, expected: str) -> None:
    """Nothing when `expected` is "" or the present tag. Raises EtagMismatch."""
    actual = etag(name, revision)
    if expected and expected != actual:
        raise mismatch(name, expected, actual)


def mismatch(name: str, expected: str, actual: str) -> EtagMismatch:
    """The error for a resource that is not in the state the caller expects."""
    return EtagMismatch(
        f"{name} has changed: expected {expected or 'none'}, found {actual or 'none'}; "
        "read it again, then decide again",
        metadata={"resource": name, "expected": expected, "actual": actual},
    )


def check_active(model: Model) -> None:
    """Raises ModelArchived."""
    check_not_archived(model.name, model.archive_time)


def check_not_archived(model: str, archive_time: datetime | None) -> None:
    """Raises ModelArchived."""
    if archive_time is not None:
        raise ModelArchived(
            f"model {model!r} was archived at {archive_time.isoformat()}; it takes no changes",
            metadata={"model": model},
        )


def check_ready(version: ModelVersion) -> None:
    """Raises VersionNotReady."""
    if version.state is not VersionState.READY:
        advice = "finalize it first" if version.state is VersionState.DRAFT else "choose another version"
        raise VersionNotReady(
            f"{version.ref} is {version.state}, not READY; {advice}",
            metadata={"version": str(version.ref), "state": version.state.value},
        )
