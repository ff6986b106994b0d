"""Feast's side of the online benchmark; runs in the peer's environment and imports nothing of ours.

    python online_feast.py REPO REQUESTS SIZES

Applies the repository, writes its Parquet files online through Feast's own write, and writes for each number
of entities the requests that `feast listen` understands, as bytes, to REQUESTS.N.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

import pandas as pd
from feast import FeatureStore
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesRequest
from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value
from feast.repo_config import load_repo_config
from feast.repo_operations import apply_total


def main(repo: Path, requests: str, sizes: dict[str, list[list[int]]]) -> None:
    """sizes: by number of entities, the ids of each request."""
    warnings.filterwarnings("ignore")
    os.chdir(repo)
    sys.path.insert(0, str(repo))
    apply_total(load_repo_config(repo, repo / "feature_store.yaml"), repo, True)
    store = FeatureStore(repo_path=str(repo))
    for view in store.list_feature_views():
        rows = pd.read_parquet(repo / "data" / f"{view.name}.parquet")
        store.write_to_online_store(view.name, df=rows)
    for size, lists in sizes.items():
        data = b""
        for ids in lists:
            request = GetOnlineFeaturesRequest(feature_service="narrow")
            request.entities["id"].CopyFrom(RepeatedValue(val=[Value(int64_val=item) for item in ids]))
            frame = request.SerializeToString()
            data += len(frame).to_bytes(4, "little") + frame
        Path(f"{requests}.{size}").write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], json.loads(Path(sys.argv[3]).read_text()))
