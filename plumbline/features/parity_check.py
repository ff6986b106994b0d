"""What online answers, or answered, beside the point-in-time join at the same moment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from plumbline import columns
from plumbline.features.client import FeatureClient, Features
from plumbline.features.parity import Parity
from plumbline.types.v1.column_pb2 import Field

#: Entities in one online read.
READ_ROWS = 1_000
_READ_TIME = "parity_read_time"
_MICROS = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Asked:
    """What a selection must be asked with: its join keys and its request data."""

    join_keys: tuple[Field, ...]
    request_data: tuple[Field, ...]


@dataclass(frozen=True)
class LogPart:
    """Some rows of a log. entities: join keys, request data and the read time; column: any column of
    `names`, as it was logged."""

    entities: pa.Table
    names: Collection[str]
    column: Callable[[str], pa.Array | pa.ChunkedArray]


def asked_with(client: FeatureClient, features: Features) -> Asked:
    """Raises the errors of the client."""
    if isinstance(features, str):
        service = client.get_feature_service(features)
        return Asked(tuple(service.join_keys), tuple(service.request_data))
    drawn = client.sample_entities(features, 1)
    keys = tuple(columns.field(item.name, item.type) for item in drawn.schema)
    views = dict.fromkeys(reference.partition(":")[0].partition("@")[0] for reference in features)
    given = {item.name: item for name in views for item in client.get_feature_view(name).request_data}
    return Asked(keys, tuple(given.values()))


def check_online(
    client: FeatureClient,
    features: Features,
    entities: pa.Table,
    request_data: pa.Table,
    parity: Parity,
    *,
    full_feature_names: bool = False,
) -> datetime:
    """Reads entities online, joins them at the moment of the read, and compares; returns the last moment.

    entities, request_data: row by row beside each other; without columns, one row. Rows that differ are read
    and joined once more: a write that was on its way is no difference. Raises the errors of the client, and
    NotComparable.
    """
    asked = pa.table(dict(zip(entities.column_names, entities.columns, strict=True)))
    for name in request_data.column_names:
        asked = asked.append_column(name, request_data[name])

    def both(rows: pa.Table) -> tuple[pa.Table, pa.Table, datetime]:
        found = client.get_online_features(
            features,
            {name: rows[name] for name in entities.column_names},
            request_data={name: rows[name] for name in request_data.column_names},
            full_feature_names=full_feature_names,
        )
        times = pa.array([found.read_time] * found.values.num_rows, _MICROS)
        joined = client.get_historical_features(
            features,
            rows.append_column(_READ_TIME, times) if rows.column_names else pa.table({_READ_TIME: times}),
            event_timestamp_column=_READ_TIME,
            full_feature_names=full_feature_names,
            expected_definition_digest=found.definition_digest,
        )
        return found.values, joined.read_all(), found.read_time

    for start in range(0, max(asked.num_rows, 1), READ_ROWS):
        rows = asked.slice(start, READ_ROWS) if asked.column_names else asked
        online, offline, moment = both(rows)
        differing = pa.array(parity.differing_rows(online, offline))
        if differing.true_count and rows.column_names:
            same = pa.compute.invert(differing)
            parity.add(rows.filter(same), online.filter(same), offline.filter(same))
            rows = rows.filter(differing)
            online, offline, moment = both(rows)
        parity.add(rows, online, offline)
    return moment


def check_log(
    client: FeatureClient,
    features: Features,
    parts: Iterable[LogPart],
    time_column: str,
    parity: Parity,
    *,
    full_feature_names: bool = False,
) -> list[str]:
    """Compares what was logged with the join at each row's own time; returns the features not logged.

    Raises the errors of the client, NotComparable, and what the parts raise.
    """
    absent: dict[str, None] = {}
    for part in parts:
        found = client.get_historical_features(
            features,
            part.entities,
            event_timestamp_column=time_column,
            full_feature_names=full_feature_names,
        )
        offline = found.read_all()
        names = [item.column for item in found.summary.features]
        absent |= dict.fromkeys(name for name in names if name not in part.names)
        logged = {name: part.column(name) for name in names if name in part.names}
        parity.add(part.entities, pa.table(logged), offline)
    return list(absent)
