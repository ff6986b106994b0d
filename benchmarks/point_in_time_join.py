"""One point-in-time join, measured in this process; also runs in the peers' environments, so it imports
nothing of ours.

    python point_in_time_join.py apply REPO
    python point_in_time_join.py sdk REPO          Feast's SDK over the offline store that REPO names
    python point_in_time_join.py duckdb QUERY ROWS  a query over `entity`
    python point_in_time_join.py polars FOLDER

Entity rows are in memory before the clock starts, the joined rows when it stops. Prints one JSON line: see
`finish`.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

NAMES = [f"{view}{i}" for view in "ab" for i in range(5)]
#: As long as the rows go back: every earlier row of a key counts.
TTL_DAYS = 90


def main(kind: str, *arguments: str) -> None:
    """Runs one of the above."""
    warnings.filterwarnings("ignore")
    kinds: dict[str, Callable[..., None]] = {
        "apply": _apply,
        "sdk": _sdk,
        "duckdb": _duckdb,
        "polars": _polars,
    }
    kinds[kind](*arguments)


def measured(join: Callable[[], pa.Table]) -> None:
    """Runs a join and prints what it took."""
    cpu, start = time.process_time(), time.perf_counter()
    table = join()
    finish(table, time.perf_counter() - start, time.process_time() - cpu)


def finish(table: pa.Table, seconds: float, cpu: float) -> None:
    """Prints seconds, cpu (seconds of all threads), peak_mib (resident, of the whole process) and what the
    answer says: its rows, and for each feature how many there are and their sum."""
    # Not ru_maxrss, which begins with the memory of the process that started this one.
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    columns = [table[name].cast(pa.float64()) for name in NAMES]
    found: dict[str, Any] = {"seconds": seconds, "cpu": cpu, "peak_mib": peak, "rows": table.num_rows}
    found["present"] = [len(column) - column.null_count for column in columns]
    found["sums"] = [pc.sum(column).as_py() for column in columns]
    print(json.dumps(found))


def _apply(repo: str) -> None:
    from feast.repo_config import load_repo_config
    from feast.repo_operations import apply_total

    os.chdir(repo)
    sys.path.insert(0, repo)
    apply_total(load_repo_config(Path(repo), Path(repo) / "feature_store.yaml"), Path(repo), True)


def _sdk(repo: str) -> None:
    from feast import FeatureStore

    os.chdir(repo)  # what Feast's DuckDB store takes for the folder of relative paths
    store = FeatureStore(repo_path=repo)
    service = store.get_feature_service("both")
    rows = pq.read_table(Path(repo) / "data" / "rows.parquet").to_pandas()
    measured(lambda: store.get_historical_features(entity_df=rows, features=service).to_arrow())


def _duckdb(query: str, rows: str) -> None:
    import duckdb

    table, text = pq.read_table(rows), Path(query).read_text()

    def join() -> pa.Table:
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.register("entity", table)
            return connection.sql(text).to_arrow_table()

    measured(join)


def _polars(folder: str) -> None:
    import polars as pl

    rows = pq.read_table(f"{folder}/rows.parquet")

    def join() -> pa.Table:
        found = pl.from_arrow(rows).lazy().with_row_index("row").sort("event_timestamp")
        for view in "ab":
            names = [name for name in NAMES if name.startswith(view)]
            source = pl.scan_parquet(f"{folder}/{view}.parquet")
            source = source.select("driver_id", "event_timestamp", *names).sort("event_timestamp")
            found = found.join_asof(
                source, on="event_timestamp", by="driver_id", tolerance=f"{TTL_DAYS}d", check_sortedness=False
            )
        return found.sort("row").drop("row").collect().to_arrow()

    measured(join)


if __name__ == "__main__":
    main(*sys.argv[1:])
