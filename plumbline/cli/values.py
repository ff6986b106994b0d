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

from plumbline.columns import arrow_type, value_type
from plumbline.types.v1 import column_pb2 as pb

#: How the names of files of JSON lines end.
JSON_LINES = (".jsonl", ".ndjson")


def read_rows(pairs: Sequence[str], rows_file: str | None) -> list[dict[str, Any]]:
    """Rows from "name=value" pairs (one row) or a JSON file of objects ("-" reads stdin)."""
    if rows_file is not None:
        if pairs:
            raise typer.BadParameter("give name=value pairs or --rows, not both")
        text = sys.stdin.read() if rows_file == "-" else Path(rows_file).read_text()
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
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
                except json.JSONDecodeError as error:
                    raise typer.BadParameter(f"{path}, line {number} is not JSON: {error}") from None
                if not isinstance(found, dict):
                    raise typer.BadParameter(f"{path}, line {number} is not an object")
                yield found


def columns_of(rows: Sequence[Mapping[str, Any]], fields: Iterable[pb.Field]) -> dict[str, pa.Array]:
    """The columns that the fields name, typed as they say. A name missing from every row is left out."""
    result = {}
    for field in fields:
        if any(field.name in row for row in rows):
            result[field.name] = pa.array(
                [_value(row.get(field.name), field) for row in rows], arrow_type(field.type)
            )
    return result


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


def _value(value: Any, field: pb.Field) -> Any:
    if value is None or (value == "" and field.type != pb.VALUE_TYPE_STRING):
        return None
    if field.type > pb.VALUE_TYPE_TIMESTAMP:
        return _list(value, field)
    try:
        if field.type == pb.VALUE_TYPE_STRING:
            return str(value)
        if field.type == pb.VALUE_TYPE_TIMESTAMP:
            moment = datetime.fromisoformat(str(value))
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if field.type == pb.VALUE_TYPE_BOOL:
            return {"true": True, "1": True, "false": False, "0": False}[str(value).lower()]
        if field.type in (pb.VALUE_TYPE_INT64, pb.VALUE_TYPE_INT32):
            return int(value)
        if field.type in (pb.VALUE_TYPE_DOUBLE, pb.VALUE_TYPE_FLOAT):
            return float(value)
    except (ValueError, KeyError):
        kind = pb.ValueType.Name(field.type).removeprefix("VALUE_TYPE_").lower()
        raise typer.BadParameter(f"{field.name}={value!r} is not a {kind}") from None
    return value


def _list(value: Any, field: pb.Field) -> list[Any]:
    """A list, or the JSON text of one."""
    try:
        items = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        items = None
    if not isinstance(items, list):
        raise typer.BadParameter(f"{field.name}={value!r} is not a list")
    element = pb.Field(name=field.name, type=value_type(arrow_type(field.type).value_type))
    return [_value(item, element) for item in items]
