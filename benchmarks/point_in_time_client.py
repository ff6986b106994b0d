"""A point-in-time join through feature_service.

    python -m benchmarks.point_in_time_client HOST:PORT ROWS POLICY

The clock runs from the first byte that is sent to the last that is read. Prints what
`point_in_time_join.finish` prints; peak_mib is the client's.
"""

from __future__ import annotations

import sys

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.point_in_time_join import measured
from plumbline.features.client import FeatureClient
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb


def main(address: str, rows: str, policy: str) -> None:
    """Joins once."""
    table = pq.read_table(rows)
    known_at = pb.KnownAtPolicy.Value(f"KNOWN_AT_POLICY_{policy}")
    with FeatureClient(address) as client:
        client.get_feature_service("both")  # connected

        def join() -> pa.Table:
            return client.get_historical_features("both", table, known_at_policy=known_at).read_all()

        measured(join)


if __name__ == "__main__":
    main(*sys.argv[1:])
