"""Digests of definitions: what decides the values of a feature, and nothing else.

sha256 over canonical JSON (sorted keys, no blanks, UTF-8), written "sha256:" + 64 hex digits. Two views
have one digest exactly if names, types, join keys, ttl, source and transformation agree. Description, tags,
owner and the machine's folders have no part in it. Join keys and request data count in sorted order, since
Feast does not keep theirs from one process to the next; features count in theirs, since it breaks ties.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import PurePath
from typing import Any

from feature_service.domain import FeatureService, FeatureView, Field, Projection, Source


def view_digest(view: FeatureView) -> str:
    """Digest of a view; its own `digest` is not looked at."""
    return _digest(
        {
            "project": view.project,
            "name": view.name,
            "kind": view.kind.value,
            "join_keys": sorted(_fields(view.join_keys)),
            "features": _fields(view.features),
            "ttl_us": None if view.ttl is None else view.ttl // timedelta(microseconds=1),
            "source": None if view.source is None else _source(view.source),
            "request_data": sorted(_fields(view.request_data)),
            "inputs": sorted((_projection(item) for item in view.inputs), key=json.dumps),
            "transformation": view.transformation,
        }
    )


def service_digest(service: FeatureService, views: Mapping[str, FeatureView]) -> str:
    """Digest of a service: its projections and the digests of every view behind them.

    views: by name, with digests; also those that on-demand views read.
    """
    names = {item.view for item in service.projections}
    names |= {item.view for name in names for item in views[name].inputs}
    return _digest(
        {
            "projections": [_projection(item) for item in service.projections],
            "views": {name: views[name].digest for name in sorted(names)},
        }
    )


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _fields(fields: Iterable[Field]) -> list[tuple[str, str]]:
    return [(item.name, item.type.value) for item in fields]


def _projection(item: Projection) -> dict[str, Any]:
    return {
        "view": item.view,
        "label": item.label,
        "features": _fields(item.features),
        "keys": sorted(item.key_columns),
    }


def _source(source: Source) -> dict[str, Any]:
    return {
        "location": _portable(source.location),
        "timestamp": source.timestamp_column,
        "created": source.created_column,
        "columns": sorted(source.columns),
    }


def _portable(location: str) -> str:
    """A location without this machine's folders: of an absolute path the last part, else as written."""
    path = PurePath(location)
    return path.name if path.is_absolute() else location
