"""First pages of filtered lists among 100,000 versions, inside the process; `--explain` shows the plans.

python -m benchmarks.registry_search sqlite:////tmp/search.db
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from sqlalchemy import Engine, event, insert, text

from benchmarks.registry_fill import (
    add_aliases,
    add_models,
    add_rows,
    add_versions,
    filling,
    make_ready,
    restart_ids,
)
from registry_service import models, versions
from registry_service.filtering.fields import VERSIONS, VERSIONS_DEFAULT
from registry_service.filtering.grammar import parse, parse_order
from registry_service.filtering.search import Search
from registry_service.repository.database import SqlDatabase, open_engine
from registry_service.tables import VersionMetricRow, VersionTagRow

MODELS, VERSIONS_EACH = 10, 10_000
REPEATS = 3

#: A filter, an order and a model ("" for all), and what it is.
QUESTIONS = (
    ("", "", "m3"),
    ("", "", ""),
    ("tags.batch = b17", "", "m3"),
    ("tags.batch = b17", "", ""),
    ("tags.team = risk", "", "m3"),
    ("tags.team = risk", "", ""),
    ("tags.team = nobody", "", "m3"),
    ("tags.team = nobody", "", ""),
    ("tags.team = rare", "", ""),
    ("aliases:champion", "", "m3"),
    ("aliases:champion", "", ""),
    ("metrics.auc >= 0.9995", "", "m3"),
    ("metrics.auc >= 0.9995", "", ""),
    ("metrics.auc >= 0.5", "", ""),
    ("metrics.auc > 2", "", ""),
    ("create_time >= 2026-01-02T03:00:00Z", "", "m3"),
    ("create_time < 2026-01-01T00:10:00Z", "", "m3"),
    ("create_time < 2026-01-01T00:10:00Z", "", ""),
    ("update_time > 2026-01-02T03:40:00Z", "update_time desc", "m3"),
    ("update_time > 2026-01-02T03:40:00Z", "update_time desc", ""),
    ('model = "m3*"', "", ""),
    ('model = "nope*"', "", ""),
    ("manifest_digest = none", "", ""),
    ("external_run = r777", "", ""),
    ("", "metrics.auc desc", "m3"),
    ("", "metrics.auc desc", ""),
    ("tags.team = risk", "metrics.auc desc", "m3"),
    ("", "update_time desc", "m3"),
    ("", "finalize_time desc", "m3"),
    ("", "finalize_time desc", ""),
    ("NOT aliases:champion AND metrics.auc >= 0.75 AND tags.team = risk", "metrics.auc desc", "m3"),
)


def fill(url: str) -> None:
    """Ten models of 10,000 versions each, made in turns, with tags, metrics and aliases."""
    names = [f"m{number}" for number in range(1, MODELS + 1)]
    total = MODELS * VERSIONS_EACH
    with filling(url) as connection:
        if connection.dialect.name == "postgresql":
            # The registry's own limit is for calls.
            connection.execute(text("SET LOCAL statement_timeout = 0"))
        add_models(connection, names, latest=[VERSIONS_EACH] * MODELS)
        add_versions(
            connection,
            [
                {
                    "id": n + 1,
                    "model_id": n % MODELS + 1,
                    "number": n // MODELS + 1,
                    "source": f"s3://bucket/{n}",
                    "external_run": f"r{n // 2}",
                }
                for n in range(total)
            ],
        )
        make_ready(connection)
        add_rows(
            connection,
            VersionTagRow,
            [
                {"version_id": n + 1, "key": key, "value": value}
                for n in range(total)
                for key, value in (
                    ("batch", f"b{n // 100}"),
                    ("team", "rare" if n in (5, 77) else ("risk", "ads")[n * 7 % 11 > 5]),
                )
            ],
        )
        connection.execute(
            insert(VersionMetricRow),
            [
                {"version_id": n + 1, "name": name, "value": (n * 7919 + shift) % 100_003 / 100_003}
                for n in range(total)
                for name, shift in (("auc", 0), ("logloss", 17))
            ],
        )
        add_aliases(
            connection,
            [
                {"model_id": number, "name": "champion", "version_id": number + MODELS * 500}
                for number in range(1, MODELS + 1)
            ],
        )
        restart_ids(connection)


def measure(
    database: SqlDatabase, condition: str, order: str, model: str, limit: int = 101
) -> tuple[float, int]:
    """Milliseconds of a page (the median of some), and how many it has."""
    orders = parse_order(order, VERSIONS) or (VERSIONS_DEFAULT if model else VERSIONS.default)
    search = Search(parse(condition, VERSIONS), () if orders is None else (orders,))
    taken, found = [], 0
    for _ in range(REPEATS):
        begin = time.perf_counter()
        with database.read() as transaction:
            model_id = models.get_id(transaction, model) if model else None
            found = len(versions.search(transaction, search, model_id=model_id, limit=limit))
        taken.append(1000 * (time.perf_counter() - begin))
    return median(taken), found


def explained(engine: Engine, database: SqlDatabase, condition: str, order: str, model: str) -> Sequence[str]:
    """The plan of the statement that finds a page."""
    seen: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, *_more: object) -> None:
        seen.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    measure(database, condition, order, model)
    event.remove(engine, "before_cursor_execute", note)
    sql, parameters = next(item for item in seen if "ORDER BY" in item[0] and "LIMIT" in item[0])
    sqlite = engine.dialect.name == "sqlite"
    with engine.connect() as connection:
        prefix = "EXPLAIN QUERY PLAN " if sqlite else "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) "
        rows = connection.exec_driver_sql(prefix + sql, parameters).all()
    return [str(row[-1]) for row in rows]


def main() -> None:
    url, *options = sys.argv[1:]
    engine = open_engine(url)
    database = SqlDatabase(engine)
    with engine.connect() as connection:
        empty = (
            not connection.dialect.has_table(connection, "model_version")
            or not connection.execute(text("SELECT 1 FROM model_version LIMIT 1")).all()
        )
    if empty:
        fill(url)
    for condition, order, model in QUESTIONS:
        milliseconds, found = measure(database, condition, order, model)
        print(f"{milliseconds:8.1f} ms {found:4} of {model or 'all':4} {condition or '-'}  [{order}]")
        if "--explain" in options and milliseconds > 10:
            print(
                "            " + "\n            ".join(explained(engine, database, condition, order, model))
            )
    milliseconds, found = measure(database, "", "", "m3", limit=10_000)
    print(f"{milliseconds:8.1f} ms: a page of {found} of one model")
    engine.dispose()


if __name__ == "__main__":
    main()
