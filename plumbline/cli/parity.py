"""`plumbline features check-parity`: is what is served what would be trained on?"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import typer

from plumbline.cli.asking import Selection, chosen, feature_client
from plumbline.cli.output import Json, console, errors_for_people, moment_text, print_json, print_table
from plumbline.cli.values import JSON_LINES, columns_of, json_lines, read_rows, refuse_unknown
from plumbline.columns import arrow_type
from plumbline.features.client import FeatureClient, Features
from plumbline.features.parity import FeatureParity, NotComparable, Parity
from plumbline.features.parity_check import Asked, LogPart, asked_with, check_log, check_online
from plumbline.types.v1 import column_pb2 as pb

#: Exit codes: something differs; nothing could be compared.
DIFFERENT, NOT_COMPARED = 1, 2
_COUNTS = ("compared", "equal", "neither", "mismatch", "missing", "extra")
_PART_ROWS = 100_000
_FIRST_MOMENT = datetime(2020, 1, 1, tzinfo=UTC)


def check_parity(
    selection: Selection,
    log: Annotated[
        str | None,
        typer.Option(
            help="Compare what this file says was returned instead: Parquet, or JSON lines (.jsonl)."
        ),
    ] = None,
    time: Annotated[str, typer.Option(help="Column of --log with the time of each read.")] = "read_time",
    count: Annotated[int, typer.Option(help="Entities to draw.", min=1, max=10_000)] = 1_000,
    seed: Annotated[int, typer.Option(help="Draws the same entities again.", min=0)] = 0,
    request: Annotated[
        list[str] | None,
        typer.Option(help="Request data of all entities, name=value; drawn from --seed where not given."),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(help="Floating-point numbers may differ by this, relative where above 1.", min=0),
    ] = 0.0,
    examples: Annotated[int, typer.Option(help="Differences shown of each feature and kind.", min=0)] = 3,
    full_names: Annotated[bool, typer.Option("--full-names", help="Features as view__feature.")] = False,
    json: Json = False,
) -> None:
    """Compare online values with the point-in-time join at the same moment, feature by feature.

    Exit code 0: all equal; 1: some differ; 2: could not compare.
    """
    features = chosen(selection)
    parity = Parity(tolerance=tolerance, most_examples=examples)
    moment, absent = None, list[str]()
    with errors_for_people(NOT_COMPARED, NOT_COMPARED), feature_client() as client:
        try:
            asked = asked_with(client, features)
            if log is not None:
                parts = _parts(log, time, asked)
                absent = check_log(client, features, parts, time, parity, full_feature_names=full_names)
            else:
                entities = client.sample_entities(features, count, seed=seed)
                moment = _check(client, features, asked, entities, request or [], seed, parity, full_names)
        except NotComparable as error:
            raise typer.BadParameter(str(error)) from None
    _show(parity, moment, absent, json)
    compared = parity.rows and parity.features
    raise typer.Exit(NOT_COMPARED if not compared else 0 if parity.equal else DIFFERENT)


def _check(
    client: FeatureClient,
    features: Features,
    asked: Asked,
    entities: pa.Table,
    request: Sequence[str],
    seed: int,
    parity: Parity,
    full_names: bool,
) -> datetime | None:
    rows = entities.num_rows if entities.column_names else 1
    if not rows:
        return None
    given = read_rows(request, None) if request else [{}]
    refuse_unknown(given, [item.name for item in asked.request_data])
    data = columns_of(given * rows, asked.request_data, text=True)
    random = np.random.default_rng(seed)
    for item in asked.request_data:
        if item.name not in data:
            data[item.name] = _drawn(item, rows, random)
    return check_online(client, features, entities, pa.table(data), parity, full_feature_names=full_names)


def _drawn(item: pb.Field, rows: int, random: np.random.Generator) -> pa.Array:
    """Small values of the type, none of them null."""
    numbers = random.integers(0, 10, rows).tolist()
    if item.type == pb.VALUE_TYPE_STRING:
        return pa.array([str(number) for number in numbers])
    if item.type == pb.VALUE_TYPE_BOOL:
        return pa.array([number % 2 == 0 for number in numbers])
    if item.type == pb.VALUE_TYPE_TIMESTAMP:
        moments = [_FIRST_MOMENT + timedelta(hours=number) for number in numbers]
        return pa.array(moments, arrow_type(item.type))
    if item.type in (pb.VALUE_TYPE_DOUBLE, pb.VALUE_TYPE_FLOAT, pb.VALUE_TYPE_INT64, pb.VALUE_TYPE_INT32):
        return pa.array(numbers).cast(arrow_type(item.type))
    raise typer.BadParameter(f"give --request {item.name}=…: values of its type are not drawn")


def _parts(path: str, time: str, asked: Asked) -> Iterator[LogPart]:
    """A log, some rows at a time."""
    moments = pb.Field(name=time, type=pb.VALUE_TYPE_TIMESTAMP)
    fields = [*asked.join_keys, *asked.request_data, moments]
    read = _json_parts if path.endswith(JSON_LINES) else _parquet_parts
    try:
        yield from read(path, fields)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"--log {path} cannot be read: {error}") from None


def _parquet_parts(path: str, fields: Sequence[pb.Field]) -> Iterator[LogPart]:
    dataset = ds.dataset(path, format="parquet")
    _refuse_absent(path, dataset.schema.names, fields)
    for batch in dataset.to_batches(batch_size=_PART_ROWS):
        table = pa.Table.from_batches([batch])
        entities = table.select([item.name for item in fields])
        if table.num_rows:
            yield LogPart(entities, table.column_names, table.column)


def _json_parts(path: str, fields: Sequence[pb.Field]) -> Iterator[LogPart]:
    remaining = json_lines(path)
    start = 0
    while rows := list(itertools.islice(remaining, _PART_ROWS)):
        names = dict.fromkeys(name for row in rows for name in row)
        _refuse_absent(path, names, fields)
        entities = pa.table(columns_of(rows, fields, text=False, start=start))
        yield LogPart(entities, names, functools.partial(_logged, path, rows))
        start += len(rows)


def _logged(path: str, rows: Sequence[dict[str, Any]], name: str) -> pa.Array:
    try:
        return pa.array([row.get(name) for row in rows])
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise typer.BadParameter(f"--log {path}, column {name} is not of one type: {error}") from None


def _refuse_absent(path: str, names: Sequence[str] | dict[str, None], fields: Sequence[pb.Field]) -> None:
    absent = [item.name for item in fields if item.name not in names]
    if absent:
        raise typer.BadParameter(f"--log {path} lacks the columns {', '.join(absent)}")


def _show(parity: Parity, moment: datetime | None, absent: Sequence[str], json: bool) -> None:
    if json:
        print_json(
            {
                "equal": parity.equal,
                "rows": parity.rows,
                "read_time": moment,
                "not_logged": absent,
                "features": {name: _counts(found) for name, found in parity.features.items()},
            }
        )
        return
    print_table(
        ("FEATURE", *(name.upper() for name in _COUNTS)),
        [(name, *(getattr(found, count) for count in _COUNTS)) for name, found in parity.features.items()],
    )
    for name, found in parity.features.items():
        for item in found.examples:
            where = ", ".join(f"{column}={value}" for column, value in item.entity.items())
            text = f"  {name} {item.kind}: {where}: online {item.online!r}, join {item.offline!r}"
            console.print(text, markup=False)
    if absent:
        console.print(f"not logged: {', '.join(absent)}", markup=False)
    at = f" at {moment_text(moment)}" if moment else ""
    said = "equal" if parity.equal else "different"
    compared = parity.rows and parity.features
    console.print(f"{parity.rows:,} rows{at}: {said if compared else 'nothing to compare'}")


def _counts(found: FeatureParity) -> dict[str, Any]:
    examples = [
        {"kind": item.kind, "entity": item.entity, "online": item.online, "offline": item.offline}
        for item in found.examples
    ]
    return {name: getattr(found, name) for name in _COUNTS} | {"examples": examples}
