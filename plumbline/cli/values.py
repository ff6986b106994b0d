"""Values typed on a command line, read as the type a schema declares."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import typer

from plumbline import cells
from plumbline.columns import arrow_type
from plumbline.types.v1 import column_pb2 as pb

#: How the names of files of JSON lines end.
JSON_LINES = (".jsonl", ".ndjson")


def read_rows(pairs: Sequence[str], rows_file: str | None) -> list[dict[str, Any]]:
    """Rows from "name=value" pairs (one row) or a JSON file of objects ("-" reads stdin)."""
    if rows_file is not None:
        if pairs:
            raise typer.BadParameter("give name=value pairs or --rows, not both")
        try:
            text = sys.stdin.read() if rows_file == "-" else Path(rows_file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"{rows_file} cannot be read: {error}") from None
        try:
            rows = json.loads(text)
        except ValueError as error:
            raise typer.BadParameter(f"{rows_file} is not JSON: {error}") from None
        rows = [rows] if isinstance(rows, dict) else rows
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise typer.BadParameter(f"{rows_file} must hold an object or a list of objects")
        return rows
    row = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{pair!r} is not of the form name=value")
        row[name] = value
    if not row:
        raise typer.BadParameter("give name=value pairs, or --rows FILE.json")
    return [row]


def json_lines(path: str) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines, read as they are used."""
    with Path(path).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    found = json.loads(line)
                except ValueError as error:
                    raise typer.BadParameter(f"{path}, line {number} is not JSON: {error}") from None
                if not isinstance(found, dict):
                    raise typer.BadParameter(f"{path}, line {number} is not an object")
                yield found


def columns_of(
    rows: Sequence[Mapping[str, Any]], fields: Iterable[pb.Field], *, text: bool, start: int = 0
) -> dict[str, pa.Array]:
    """The columns that the fields name, typed as they say. A name missing from every row is left out.

    text: the cells were typed or come from CSV, so they are parsed, and an empty one of another type than
    string is null; else they are JSON. start: the number of the first row, for messages.
    """
    return {
        field.name: _column(rows, field, text, start)
        for field in fields
        if any(field.name in row for row in rows)
    }


def _column(rows: Sequence[Mapping[str, Any]], field: pb.Field, text: bool, start: int) -> pa.Array:
    read = cells.reader(field.type, text=text)
    values: list[Any] = []
    for number, row in enumerate(rows, start):
        cell = row.get(field.name)
        if cell is None or (text and cell == "" and field.type != pb.VALUE_TYPE_STRING):
            values.append(None)
            continue
        try:
            values.append(read(cell))
        except cells.NotThat:
            shown, wanted = cells.shown(cell, text=text), cells.wanted(field.type)
            raise typer.BadParameter(f"{field.name}={shown} is not {wanted} (row {number})") from None
    kind = arrow_type(field.type)
    if field.type == pb.VALUE_TYPE_TIMESTAMP:
        return pa.array(values, pa.int64()).cast(kind)
    if field.type == pb.VALUE_TYPE_TIMESTAMP_LIST:
        return pa.array(values, pa.list_(pa.int64())).cast(kind)
    return pa.array(values, kind)


def refuse_unknown(rows: Sequence[Mapping[str, Any]], known: Iterable[str]) -> None:
    """A misspelt name is an error, not a missing value."""
    names = set(known)
    for row in rows:
        for name in row:
            if name not in names:
                raise typer.BadParameter(f"{name!r} is not asked for; known are: {', '.join(sorted(names))}")


def moment(text: str, name: str) -> datetime:
    """A time as people write it, UTC unless it says otherwise; `name` is what the message calls it."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{name}={text!r} is not a time, as 2013-12-30 or 2013-12-30T17:00:00Z"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def span(text: str, name: str) -> timedelta:
    """A length of time as people write it: 90s, 15m, 24h, 7d; `name` is what the message calls it."""
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    try:
        return timedelta(**{units[text[-1:]]: float(text[:-1])})
    except (KeyError, ValueError, OverflowError):
        raise typer.BadParameter(f"{name}={text!r} is not a length of time, as 90s, 15m, 24h or 7d") from None
