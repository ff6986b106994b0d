"""One materialization, measured in this process; also runs in the peer's environment, so it imports
nothing of ours.

    python materialize_run.py apply REPO
    python materialize_run.py run REPO              from the source file to the online store, by Feast's SDK
    python materialize_run.py rewrite REPO SECONDS  again and again, for at least so long

`run` prints one JSON line: seconds, cpu (of all threads), peak_mib (resident, of the whole process) and
what an online read of some keys returns.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from feast import FeatureStore
from feast.repo_config import load_repo_config
from feast.repo_operations import apply_total

FEATURES = 10
#: Keys are multiples of it, and the first is 0.
STRIDE = 7


def main(kind: str, repo: str, *arguments: str) -> None:
    """Runs one of the above."""
    warnings.filterwarnings("ignore")
    os.chdir(repo)  # what Feast's DuckDB store takes for the folder of relative paths
    if kind == "apply":
        sys.path.insert(0, repo)
        apply_total(load_repo_config(Path(repo), Path(repo) / "feature_store.yaml"), Path(repo), True)
        return
    store = FeatureStore(repo_path=repo)
    if kind == "rewrite":
        until = time.monotonic() + float(arguments[0])
        while time.monotonic() < until:
            _materialize(store)
        return
    cpu, start = time.process_time(), time.perf_counter()
    _materialize(store)
    found: dict[str, Any] = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    # Not ru_maxrss, which begins with the memory of the process that started this one.
    found["peak_mib"] = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    names = [f"wide:f{i}" for i in range(FEATURES)]
    rows = [{"id": STRIDE * i} for i in range(1_000)]
    read = store.get_online_features(features=names, entity_rows=rows).to_dict()
    found["read"] = [read[f"f{i}"] for i in range(FEATURES)]
    print(json.dumps(found))


def _materialize(store: FeatureStore) -> None:
    now = datetime.now(UTC)
    store.materialize(now - timedelta(days=365), now, ["wide"])


if __name__ == "__main__":
    main(*sys.argv[1:])
