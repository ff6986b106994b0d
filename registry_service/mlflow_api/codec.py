"""Models and versions as MLflow's JSON has them. Times are milliseconds since 1970."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from registry_service.domain import Model, ModelVersion, VersionState
from registry_service.mlflow_api import places
from registry_service.summaries import VersionSummary

Json = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_STATUS = {
    VersionState.DRAFT: "PENDING_REGISTRATION",
    VersionState.READY: "READY",
    VersionState.ARCHIVED: "READY",
}

#: What Feast's integration with MLflow looks for, to know the features of a model.
FEATURE_SERVICE_TAG = "feast.feature_service"


def encode(document: Json) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def model(model: Model, latest: Sequence[VersionSummary]) -> Json:
    """latest: see `SummaryStore.latest`."""
    return {
        "name": model.name,
        "creation_timestamp": _millis(model.create_time),
        "last_updated_timestamp": _millis(model.update_time),
        "description": model.description,
        "latest_versions": [version(summary) for summary in latest],
        "tags": _tags(model.tags),
        "aliases": [
            {"alias": alias.ref.alias, "version": str(alias.version.number)} for alias in model.aliases
        ],
    }


def version(summary: VersionSummary) -> Json:
    tags = dict(summary.tags)
    if summary.feature_service:
        tags.setdefault(FEATURE_SERVICE_TAG, summary.feature_service)
    return {
        "name": summary.ref.model,
        "version": str(summary.ref.number),
        "creation_timestamp": _millis(summary.create_time),
        "last_updated_timestamp": _millis(summary.update_time),
        "description": summary.description,
        "user_id": summary.actor,
        "current_stage": summary.stage,
        "source": source(summary),
        "run_id": run_id(summary),
        "run_link": summary.run_link,
        "status": _STATUS[summary.state],
        "tags": _tags(tags),
        "aliases": list(summary.aliases),
    }


def run_id(summary: VersionSummary) -> str:
    """Of MLflow's run, or of ours."""
    return summary.external_run or summary.run


def source(summary: VersionSummary) -> str:
    """What was registered: another version, a URI, or files of this registry."""
    if summary.copied_from is not None:
        return f"models:/{summary.copied_from.model}/{summary.copied_from.number}"
    if summary.source or not summary.has_files:
        return summary.source
    return f"mlflow-artifacts:/{places.of_version(summary.ref)}"


def summary(version: ModelVersion) -> VersionSummary:
    """Of a version of an active model."""
    return VersionSummary(
        id=version.id,
        model_id=version.model_id,
        ref=version.ref,
        model_archive_time=None,
        state=version.state,
        stage=version.stage,
        description=version.description,
        tags=version.tags,
        aliases=version.aliases,
        run=version.run,
        external_run=version.external_run,
        run_link=version.run_link,
        source=version.source,
        copied_from=version.copied_from,
        feature_service="" if version.signature is None else version.signature.feature_service,
        has_files=bool(version.files),
        actor=version.actor,
        create_time=version.create_time,
        update_time=version.update_time or version.create_time,
    )


def _tags(tags: Mapping[str, str]) -> list[Json]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def _millis(time: datetime) -> int:
    return (time - _EPOCH) // _MILLISECOND
