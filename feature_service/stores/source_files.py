"""What tells one state of a source's files from another, and which files are new."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from datetime import datetime, timedelta

from feature_service.stores.remote import is_remote

#: File systems and the clocks of other machines are no more exact than this.
_SLACK = timedelta(seconds=60)


def any_remote(files: Sequence[str]) -> bool:
    """Whether a file lies on another machine, of which nothing is known but its address."""
    return any(map(is_remote, files))


def fingerprint(files: Sequence[str]) -> str:
    """32 hex digits that change when a file comes, goes or changes; "" when that cannot be told."""
    if any_remote(files):
        return ""
    seen = []
    for file in files:
        try:
            found = os.stat(file)
        except FileNotFoundError:
            return ""
        seen.append((file, found.st_size, found.st_mtime_ns, found.st_ino))
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:32]


def changed_since(files: Sequence[str], moment: datetime) -> tuple[str, ...]:
    """The local files that came or changed after a moment, and some of shortly before.

    By the time of the last change of the file's entry, which a copy that keeps the time of the original,
    or a move to this place, sets too.
    """
    limit = int((moment - _SLACK).timestamp() * 1_000_000_000)
    found = []
    for file in files:
        if is_remote(file):
            continue
        try:
            if os.stat(file).st_ctime_ns >= limit:
                found.append(file)
        except FileNotFoundError:
            continue
    return tuple(found)
