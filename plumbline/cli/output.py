"""What the commands print: tables and trees for people, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from plumbline.errors import PlumblineError, Unavailable

#: Exit codes: the request failed; a server could not be reached; wrong usage is typer's 2.
FAILED, UNREACHABLE = 1, 3

Json = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]

# What goes into a pipe or a file is not broken into lines: somebody will search it.
_WIDTH = None if sys.stdout.isatty() else 400
console = Console(highlight=False, width=_WIDTH)
_TEXTS = (
    *("DESCRIPTION", "REASON", "METRICS", "EXPECTED", "FOUND", "CATEGORIES", "VALUE", "SHA256", "DIGEST"),
    *("LEFT", "RIGHT", "BY WAY OF"),
)
_errors = Console(stderr=True, highlight=False, soft_wrap=True)


def address(program: str, default_port: int) -> str:
    """Where a server is: PLUMBLINE_{program}_ADDRESS, or on this machine PLUMBLINE_{program}_PORT, or the
    default port."""
    port = os.environ.get(f"PLUMBLINE_{program}_PORT", str(default_port))
    return os.environ.get(f"PLUMBLINE_{program}_ADDRESS", f"127.0.0.1:{port}")


def actor() -> str:
    """Who acts, for histories: PLUMBLINE_ACTOR, or the user's name."""
    return os.environ.get("PLUMBLINE_ACTOR") or os.environ.get("USER") or os.environ.get("LOGNAME") or "cli"


@contextmanager
def errors_for_people(failed: int = FAILED, unreachable: int = UNREACHABLE) -> Iterator[None]:
    """Prints a typed error in a line or two and exits with the code given."""
    try:
        yield
    except PlumblineError as error:
        _errors.print(f"[red]error[/red] {escape(error.message)}", markup=True)
        for violation in error.violations:
            _errors.print(f"  {violation.field}: {violation.description}", markup=False)
        if error.reason:
            _errors.print(f"  ({error.reason})", markup=False)
        raise SystemExit(unreachable if isinstance(error, Unavailable) else failed) from None


def print_json(value: Any) -> None:
    """One JSON document on stdout; messages with the field names of the contract."""
    json.dump(_plain(value), sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
    """A table; numbers are right-aligned."""
    rows = [[_cell(value) for value in row] for row in rows]
    table = Table(box=None, pad_edge=False, title=title or None, title_justify="left", header_style="bold")
    for index, name in enumerate(columns):
        numeric = bool(rows) and all(_is_number(row[index]) for row in rows)
        # Names stay whole, so that they can be copied; texts give way.
        whole = name not in _TEXTS
        table.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*row)
    console.print(table, markup=False)


def when(stamp: Timestamp) -> str:
    """A wire timestamp as "2026-01-31 12:00:00Z"; "" when unset."""
    if not stamp.seconds and not stamp.nanos:
        return ""
    return moment_text(stamp.ToDatetime(tzinfo=UTC))


def moment_text(moment: datetime) -> str:
    """A UTC moment to the second."""
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return MessageToDict(value, preserving_proto_field_name=True)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return moment_text(value)
    return str(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in ("", "–")
    return True
