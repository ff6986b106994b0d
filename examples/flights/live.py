"""Live predictions for the flights that come next, asked over gRPC and over HTTP, and checked.

The features serving used are compared, value by value, with the point-in-time join at the same moment: what
is served is what would have been trained on."""

from __future__ import annotations

import json
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from plumbline import FeatureClient, PredictionClient
from plumbline.features.parity import Parity

JOIN_KEYS = ("carrier", "dest", "flight", "origin", "tailnum")
REQUEST_DATA = ("scheduled_departure", "scheduled_arrival_clock", "distance_miles")
SERVICE = "flight_delay_v1"


def next_flights(entities: Path, moment: datetime, count: int) -> pa.Table:
    """The first `count` flights to be scored at or after `moment`, of as many carriers as there are."""
    rows = pq.read_table(entities)
    rows = rows.filter(
        pc.greater_equal(rows["event_timestamp"], pa.scalar(moment, rows["event_timestamp"].type))
    )
    rows = rows.sort_by([("event_timestamp", "ascending"), ("flight_id", "ascending")]).slice(0, 200)
    carriers = rows["carrier"].to_pylist()
    first = [i for i, carrier in enumerate(carriers) if carrier not in carriers[:i]]
    rest = [i for i in range(rows.num_rows) if i not in first]
    chosen = sorted((first + rest)[:count])
    if not chosen:
        raise ValueError(f"no flight is to be scored at or after {moment}; choose an earlier replay time")
    return rows.take(chosen)


def predict(flights: pa.Table, moment: datetime, env: dict[str, str]) -> dict[str, Any]:
    """Asks both doors for the same flights and compares. Raises ValueError when they answer differently."""
    keys = {name: flights[name] for name in JOIN_KEYS}
    given = {name: flights[name] for name in REQUEST_DATA}
    with PredictionClient(env["PLUMBLINE_SERVING_ADDRESS"], timeout=30) as client:
        by_grpc = client.predict(keys, request_data=given, return_features=True)
    output = by_grpc.outputs.column_names[0]
    scores = by_grpc.outputs[output].to_pylist()
    by_http = _over_http(flights, env)
    if by_http != scores:
        raise ValueError(f"gRPC answered {scores}, HTTP {by_http}")
    assert by_grpc.features is not None
    used = by_grpc.features.values.to_pylist()
    return {
        "model_version": by_grpc.model_version,
        "moment": moment.isoformat(),
        "flights": [
            {
                "flight_id": flights["flight_id"][i].as_py(),
                "scheduled_departure": flights["scheduled_departure"][i].as_py().isoformat(),
                "carrier": flights["carrier"][i].as_py(),
                "origin": flights["origin"][i].as_py(),
                "dest": flights["dest"][i].as_py(),
                "probability_late": scores[i],
                "probability_late_http": by_http[i],
                "was_late": bool(flights["late"][i].as_py()),
                "features": used[i],
                "statuses": {
                    n: by_grpc.features.status_names(n)[i] for n in by_grpc.features.values.column_names
                },
            }
            for i in range(flights.num_rows)
        ],
        "parity": _parity(flights, moment, by_grpc.features.values, env),
    }


def _over_http(flights: pa.Table, env: dict[str, str]) -> list[float]:
    """Scores of POST /predict."""
    port = env.get("PLUMBLINE_SERVING_HTTP_PORT", "7431")
    body = {
        "entities": {name: flights[name].to_pylist() for name in JOIN_KEYS},
        "request_data": {
            name: [v.isoformat() if isinstance(v, datetime) else v for v in flights[name].to_pylist()]
            for name in REQUEST_DATA
        },
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310
        answer = json.load(reply)
    scores: list[float] = next(iter(answer["outputs"].values()))
    return scores


def _parity(flights: pa.Table, moment: datetime, used: pa.Table, env: dict[str, str]) -> dict[str, Any]:
    """Compares the features used with the point-in-time join of the same flights at `moment`."""
    when = pa.array([moment] * flights.num_rows, pa.timestamp("us", tz="UTC"))
    columns = {name: flights[name] for name in (*JOIN_KEYS, *REQUEST_DATA)} | {"event_timestamp": when}
    with FeatureClient(env["PLUMBLINE_FEATURES_ADDRESS"]) as client:
        joined = client.get_historical_features(SERVICE, pa.table(columns)).read_all()
    names = [name for name in used.column_names if name in joined.column_names]
    found = Parity(most_examples=flights.num_rows)
    found.add(flights.select(["flight_id"]), used.select(names), joined)
    cells = sum(item.compared for item in found.features.values())
    differences = [
        f"{name} of {item.entity['flight_id']}: online {item.online!r}, point in time {item.offline!r}"
        for name, counts in found.features.items()
        for item in counts.examples
    ]
    return {"cells": cells, "differing": len(differences), "differences": differences}
