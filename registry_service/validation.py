"""Rules for what a request may hold, whatever the state of the registry.

Each check notes what is wrong with one field; `Violations.check` raises them all at once, so a caller
sees every fault of a request in one answer.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from plumbline.errors import FieldViolation
from plumbline.registry.errors import InvalidField

MAX_TAGS = 100
MAX_KEY = 250
#: As MLflow's clients may send.
MAX_VALUE = 100_000
MAX_TEXT = 5_000
MAX_SHORT_TEXT = 256
#: Configurations, recipes, definitions.
MAX_DOCUMENT = 1024 * 1024
#: Of runs and deployments.
MAX_LEASE = timedelta(days=30)
MAX_PATH = 512
MAX_REQUEST_ID = 64
MAX_PARAMETERS = 2_000
MAX_METRICS = 2_000
MAX_LINKS = 1_000
MAX_FIELDS = 10_000
MAX_CATEGORY_TEXT = 4_000_000
DEFAULT_DEPTH = 10
MAX_DEPTH = 50
MAX_INT64 = 2**63 - 1

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PREFIXED_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")


class Violations:
    """The faults found in one request."""

    def __init__(self) -> None:
        self._found: list[FieldViolation] = []

    def add(self, field: str, problem: str) -> None:
        """Notes one fault. problem completes "{field} …"."""
        self._found.append(FieldViolation(field, f"{field} {problem}"))

    def check(self) -> None:
        """Raises InvalidField with every fault noted, if there is one."""
        if self._found:
            raise InvalidField(
                "; ".join(violation.description for violation in self._found[:5]),
                metadata={"field": self._found[0].field},
                violations=self._found[:100],
            )

    def text(self, field: str, value: str, limit: int = MAX_TEXT, *, required: bool = False) -> None:
        """At most `limit` characters, none of them NUL (PostgreSQL cannot store it)."""
        if required and not value.strip():
            self.add(field, "is required")
        if len(value) > limit:
            self.add(field, f"has {len(value)} characters; at most {limit} are kept")
        if "\x00" in value:
            self.add(field, "holds a NUL character")

    def texts(
        self,
        field: str,
        values: Mapping[str, str],
        *,
        entries: int = MAX_TAGS,
        limit: int = MAX_VALUE,
    ) -> None:
        """A map of texts by key, as tags and parameters."""
        if len(values) > entries:
            self.add(field, f"has {len(values)} entries; at most {entries} are kept")
            return
        for key, value in values.items():
            self.text(f"{field}[{_shown(key)}]", value, limit)
            self._key(field, key)

    def numbers(self, field: str, values: Mapping[str, float], *, entries: int = MAX_METRICS) -> None:
        """A map of finite numbers by key, as metrics."""
        if len(values) > entries:
            self.add(field, f"has {len(values)} entries; at most {entries} are kept")
            return
        for key, value in values.items():
            self._key(field, key)
            if not math.isfinite(value):
                self.add(f"{field}[{_shown(key)}]", f"is {value}; only finite numbers are kept")

    def count(self, field: str, values: Sequence[object], limit: int) -> None:
        """At most `limit` entries."""
        if len(values) > limit:
            self.add(field, f"has {len(values)} entries; at most {limit} are kept")

    def unique(self, field: str, values: Sequence[object]) -> None:
        """No entry twice."""
        counts = Counter(values)
        if len(counts) < len(values):
            self.add(field, f"names {_shown(str(counts.most_common(1)[0][0]))!r} more than once")

    def range(self, field: str, value: int, least: int, most: int) -> None:
        """least ≤ value ≤ most."""
        if not least <= value <= most:
            self.add(field, f"is {value}; it must be between {least} and {most}")

    def sha256(self, field: str, value: str, *, prefixed: bool = False, required: bool = True) -> None:
        """64 lower-case hex digits, after "sha256:" where prefixed."""
        if not value and not required:
            return
        if not (_PREFIXED_SHA256 if prefixed else _SHA256).fullmatch(value):
            form = "'sha256:' and 64 lower-case hex digits" if prefixed else "64 lower-case hex digits"
            self.add(field, f"is {_shown(value)!r}; expected {form}")

    def path(self, field: str, value: str) -> None:
        """A relative "/"-separated path that means the same file on every system, decoded or not."""
        problem = path_problem(value)
        if problem:
            self.add(field, f"{_shown(value)!r} {problem}")

    def lease(self, field: str, lease: timedelta | None) -> None:
        """Longer than nothing, at most MAX_LEASE."""
        if lease is not None and not timedelta(0) < lease <= MAX_LEASE:
            self.add(field, f"is {lease.total_seconds():g} s; it must be above 0 and at most 30 days")

    def ordered(self, field: str, earlier: datetime | None, later: datetime | None) -> None:
        """Not before the other moment, where both are set."""
        if earlier is not None and later is not None and later < earlier:
            self.add(field, f"{later.isoformat()} is before {earlier.isoformat()}")

    def _key(self, field: str, key: str) -> None:
        if not key or len(key) > MAX_KEY:
            self.add(field, f"has the key {_shown(key)!r}; a key has 1 to {MAX_KEY} characters")
        if "\x00" in key:
            self.add(field, "has a key with a NUL character")


def path_problem(path: str) -> str | None:
    """What is wrong with the path of a file, or None. The rules close the ways out of a folder:
    parents, absolute and drive paths, backslashes, encoded separators, control characters."""
    if not path:
        return "is empty"
    if len(path) > MAX_PATH:
        return f"has {len(path)} characters; at most {MAX_PATH} are allowed"
    if path.startswith("/"):
        return "is absolute; it must be relative"
    if "\\" in path or ":" in path:
        return "holds a backslash or a colon; separate parts by '/'"
    if "%" in path:
        return "holds '%'; encoded characters are not allowed"
    if not path.isprintable():
        return "holds a character that cannot be printed"
    parts = path.split("/")
    if "" in parts:
        return "has an empty part"
    if any(part in (".", "..") or part != part.strip() for part in parts):
        return "has a part that is '.', '..' or begins or ends with a blank"
    return None


def _shown(value: str) -> str:
    return value if len(value) <= 100 else f"{value[:100]}…"
