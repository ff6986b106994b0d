"""`plumbline features push`: rows of a file into the stores."""

from __future__ import annotations

import csv
import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.dataset as ds
import typer

from plumbline.cli.asking import feature_client
from plumbline.cli.output import FAILED, Json, console, errors_for_people, print_json, print_table
from plumbline.cli.values import JSON_LINES, columns_of, json_lines, read_rows
from plumbline.features.client import FeatureClient
from plumbline.features.errors import ViewNotFound
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from plumbline.types.v1.column_pb2 import VALUE_TYPE_TIMESTAMP, Field


class Destination(StrEnum):
    """Where rows go, as it is typed."""

    BOTH = "both"
    ONLINE = "online"
    OFFLINE = "offline"


_DESTINATIONS = {
    Destination.BOTH: pb.PUSH_DESTINATION_ONLINE_AND_OFFLINE,
    Destination.ONLINE: pb.PUSH_DESTINATION_ONLINE,
    Destination.OFFLINE: pb.PUSH_DESTINATION_OFFLINE,
}


@dataclass
class _Done:
    """What became of the rows. refused: those listed, with their place in the file."""

    request_id: str
    rows_written: int
    rows_refused: int
    refused: list[tuple[int, str, str]]
    views: list[str]


class _Parts:
    """Parts of a file, the first two of which are read before any is sent. sent: whether one was."""

    def __init__(self, parts: Iterator[Mapping[str, Any]]) -> None:
        self.first = itertools.islice(parts, 2)
        self._rest = parts
        self.sent = False

    def all(self, first: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """`first` and the rest, as a stream takes them."""
        for part in itertools.chain(first, self._rest):
            yield part
            self.sent = True  # the next one is asked for only then


def push(
    target: Annotated[str, typer.Argument(help="A push source or a feature view.")],
    rows: Annotated[
        str, typer.Option(help="JSON, JSON lines (.jsonl), CSV (.csv) or Parquet; - reads JSON from stdin.")
    ],
    destination: Annotated[Destination, typer.Option(help="Where the rows go.")] = Destination.BOTH,
    best_effort: Annotated[
        bool, typer.Option("--best-effort", help="Write good rows beside bad ones; else all or none.")
    ] = False,
    request_id: Annotated[
        str, typer.Option(help="Makes a retry harmless: the same rows under the same id.")
    ] = "",
    part_rows: Annotated[
        int,
        typer.Option(help="More rows than this are sent in parts, each all or none by itself.", min=1),
    ] = 5_000,
    json: Json = False,
) -> None:
    """Write the rows of a file to the online store, the offline files, or both.

    Exit code 1 when a row was refused.
    """
    whole = request_id or uuid.uuid4().hex
    with errors_for_people(), feature_client() as client:
        parts = _Parts(_parts(client, target, rows, part_rows))
        try:
            done = _push(client, target, parts, _DESTINATIONS[destination], best_effort, whole, part_rows)
        except (OSError, TypeError, ValueError) as error:
            written = "parts before it may be written" if parts.sent else "nothing was written"
            raise typer.BadParameter(f"--rows {rows}: {error}; {written}") from None
    _show(done, json)
    raise typer.Exit(FAILED if done.rows_refused else 0)


def _push(
    client: FeatureClient,
    target: str,
    parts: _Parts,
    destination: pb.PushDestination.ValueType,
    best_effort: bool,
    request_id: str,
    part_rows: int,
) -> _Done:
    mode = pb.PUSH_MODE_BEST_EFFORT if best_effort else pb.PUSH_MODE_ALL_OR_NOTHING
    options: dict[str, Any] = {"destination": destination, "mode": mode, "request_id": request_id}
    first = list(parts.first)
    if len(first) < 2:
        one = client.push(target, first[0] if first else {}, **options)
        refused = [(item.row, item.column, item.reason) for item in one.refused]
        return _Done(request_id, one.rows_written, len(refused), refused, list(one.views))
    many = client.push_many(target, parts.all(first), **options)
    listed = [(item.message * part_rows + item.row, item.column, item.reason) for item in many.refused]
    return _Done(request_id, many.rows_written, many.rows_refused, listed, list(many.views))


def _parts(client: FeatureClient, target: str, path: str, size: int) -> Iterator[dict[str, Any]]:
    """The columns of a file, `size` rows at a time."""
    if path == "-" or path.endswith((*JSON_LINES, ".json", ".csv")):
        fields = _fields(client, target)
        try:
            text = path.endswith(".csv")
            for number, rows in enumerate(_in_parts(_objects(path), size)):
                yield _columns(rows, fields, text, number * size)
        except typer.BadParameter as error:
            raise ValueError(error.message) from None  # what a stream of pushes hands on
        return
    rest: pa.Table | None = None
    for batch in ds.dataset(path, format="parquet").to_batches(batch_size=size):
        table = pa.Table.from_batches([batch])
        rest = table if rest is None else pa.concat_tables([rest, table])
        while rest.num_rows >= size:
            yield _by_name(rest.slice(0, size))
            rest = rest.slice(size)
    if rest is not None and rest.num_rows:
        yield _by_name(rest)


def _objects(path: str) -> Iterator[dict[str, Any]]:
    if path.endswith(JSON_LINES):
        yield from json_lines(path)
    elif path.endswith(".csv"):
        with Path(path).open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), 2):
                if None in row:
                    raise typer.BadParameter(f"{path}, line {number} has more values than there are columns")
                yield row
    else:
        yield from read_rows([], path)


def _in_parts(rows: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    remaining = iter(rows)
    while part := list(itertools.islice(remaining, size)):
        yield part


def _fields(client: FeatureClient, target: str) -> list[Field]:
    """Join keys and features of the views that a target writes to."""
    try:
        views = [client.get_feature_view(target)]
    except ViewNotFound:
        views = [view for view in client.list_feature_views() if target in view.push_sources]
    fields = {item.name: item for view in views for item in (*view.join_keys, *view.features)}
    if not fields:
        raise typer.BadParameter(f"{target!r} is neither a push source nor a feature view")
    return list(fields.values())


def _columns(
    rows: Sequence[Mapping[str, Any]], fields: Sequence[Field], text: bool, start: int
) -> dict[str, Any]:
    """Typed as the view says; what is neither key nor feature of it can only be one of its time columns."""
    known = {item.name for item in fields}
    others = dict.fromkeys(name for row in rows for name in row if name not in known)
    times = [Field(name=name, type=VALUE_TYPE_TIMESTAMP) for name in others]
    return dict(columns_of(rows, [*fields, *times], text=text, start=start))


def _by_name(table: pa.Table) -> dict[str, Any]:
    return dict(zip(table.column_names, table.columns, strict=True))


def _show(done: _Done, json: bool) -> None:
    if json:
        refused = [{"row": row, "column": column, "reason": reason} for row, column, reason in done.refused]
        print_json(
            {
                "request_id": done.request_id,
                "rows_written": done.rows_written,
                "rows_refused": done.rows_refused,
                "refused": refused,
                "views": done.views,
            }
        )
        return
    console.print(
        f"{done.rows_written:,} rows written to {', '.join(done.views)}, {done.rows_refused:,} refused"
        f"  (request id {done.request_id})"
    )
    if done.refused:
        print_table(("ROW", "COLUMN", "REASON"), done.refused)
