"""What transfers need of the place where uploads lie until they are whole. The docstrings are the
contract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from registry_service.artifacts import Upload


class Staged(Protocol):
    """What one call has of an upload. `close` and `discard` may be called at any time, from any thread; one
    of them must be."""

    path: Path

    def reread(self) -> bool:
        """Takes some of the bytes an earlier call left into the digest; False when that is done. To be called
        until then before the first write of a resumed upload."""

    def write(self, chunks: Sequence[bytes | memoryview]) -> None:
        """Adds bytes. Raises UploadSizeMismatch as soon as they are more than announced,
        UploadOffsetMismatch when another call went on with the upload."""

    def wants_sync(self) -> bool:
        """Whether there is much that a power cut would take."""

    def sync(self) -> None:
        """Makes durable what was written; others may write meanwhile."""

    def finish(self) -> None:
        """Makes everything durable. Raises UploadSizeMismatch while bytes are missing, UploadDigestMismatch
        when they are not the bytes announced."""

    def close(self) -> None:
        """Leaves what is here to a call that goes on with it."""

    def discard(self) -> None:
        """Removes what is here."""


class Staging(Protocol):
    """Bytes that are not yet a blob, kept for a week after their stream broke or their process ended."""

    def prepare(self) -> None:
        """Makes ready what the others need. Raises OSError when the place cannot be used."""

    def received(self, upload: Upload) -> int:
        """How many bytes of it are here to go on from. Those of a call that runs are its own, unless
        nothing has come for some seconds."""

    def begin(self, upload: Upload) -> Staged:
        """Begins anew, beside others who do the same."""

    def resume(self, upload: Upload, offset: int) -> Staged:
        """Goes on behind the bytes an earlier call left; if that still runs, it is the end of it. Raises
        UploadOffsetMismatch unless just so many are here."""

    def expire(self, *, dry_run: bool = False) -> int:
        """Removes what nobody went on with for a week; how many uploads."""
