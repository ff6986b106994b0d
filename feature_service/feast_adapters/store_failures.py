"""What an exception out of one of Feast's online stores means.

Feast has no errors of its own for a store that is away: each store lets those of its driver through, and some
say RuntimeError. So an exception counts as the store's when its class belongs to a driver: it is OSError's,
SQLite's, or of a package that is neither Python's own, nor Feast, nor what rows are made of.

What a mistake in code raises (TypeError, KeyError, …) does not count, nor does what PEP 249 sets aside for
wrong statements and data: "unavailable" invites to try again, which mends none of these, and their traceback
belongs in the log.
"""

from __future__ import annotations

import http.client
import re
import sqlite3
import sys

from plumbline.errors import PlumblineError
from plumbline.features.errors import SourceUnreadable, StoreUnavailable

#: Packages whose exceptions are no driver's.
_OURS = sys.stdlib_module_names | {"feast", "feature_service", "plumbline", "servicekit"}
_OURS |= {"numpy", "pandas", "pyarrow", "pydantic", "pydantic_core"}
_MISTAKES = (TypeError, AttributeError, LookupError, ArithmeticError, AssertionError, ImportError)
#: PEP 249's, in every driver's own module.
_STATEMENTS = {"ProgrammingError", "DataError", "IntegrityError", "NotSupportedError"}
#: PostgreSQL's code for a table that is not there.
_NO_TABLE = "42P01"
_USER_INFO = re.compile(r"://[^@/\s]*@")
_LONGEST = 300


def failure(address: str, view: str, error: Exception) -> PlumblineError | None:
    """The error to raise: StoreUnavailable, SourceUnreadable of a view without a table, or None for one that
    says nothing about the store. address: without passwords."""
    if _lacks_table(error):
        return SourceUnreadable(
            f"view {view} has no table in the online store {address}; apply the definitions",
            metadata={"view": view},
        )
    metadata = {"store": address}
    if isinstance(error, OSError) or type(error).__module__.startswith("redis."):
        return StoreUnavailable(
            f"the online store {address} cannot be reached: {_said(error)}", metadata=metadata
        )
    if _is_of_store(error):
        return StoreUnavailable(
            f"the online store {address} failed: {type(error).__name__}: {_said(error)}", metadata=metadata
        )
    return None


def _lacks_table(error: Exception) -> bool:
    if isinstance(error, sqlite3.OperationalError):
        return "no such table" in str(error)
    return getattr(error, "sqlstate", None) == _NO_TABLE


def _is_of_store(error: Exception) -> bool:
    kind = type(error)
    if kind is RuntimeError or isinstance(error, http.client.HTTPException):
        return True
    if isinstance(error, _MISTAKES) or _STATEMENTS & {base.__name__ for base in kind.__mro__}:
        return False
    if isinstance(error, sqlite3.Error):
        return True
    module = kind.__module__
    return module.partition(".")[0] not in _OURS and not module.startswith("google.protobuf")


def _said(error: Exception) -> str:
    """The error's own words, short, without user and password of a URL."""
    found = " ".join(_USER_INFO.sub("://", str(error)).split())
    return found if len(found) <= _LONGEST else f"{found[: _LONGEST - 3]}..."
