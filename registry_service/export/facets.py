"""OpenLineage's facets, and datasets with them, as JSON values.

Facts about OpenLineage (spec 2-0-2; each facet names its own version) are in its published schemas.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from registry_service.domain import (
    CodeRevision,
    Dataset,
    DefinitionRef,
    ModelVersion,
    TrainingRun,
    VersionRef,
)

#: Who says it. Facets of our own have their schemas below it.
PRODUCER = "urn:plumbline:registry_service"

#: Of everything that is not Feast's.
NAMESPACE = "plumbline"

_SPEC = "https://openlineage.io/spec"

Json = dict[str, Any]


def facet(schema: str, **fields: Any) -> Json:
    """schema: "name/version" of one of OpenLineage's, "" for one of our own. None fields are left out."""
    name, _, version = schema.partition("/")
    url = f"{_SPEC}/facets/{version}/{name}.json#/$defs/{name}" if version else f"{PRODUCER}:{name}:1"
    given = {key: value for key, value in fields.items() if value is not None}
    return {"_producer": PRODUCER, "_schemaURL": url, **given}


def event(kind: str, time: datetime, **parts: Any) -> Json:
    """kind: RunEvent or DatasetEvent."""
    return {
        "eventTime": moment(time),
        "producer": PRODUCER,
        "schemaURL": f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/{kind}",
        **parts,
    }


def moment(time: datetime) -> str:
    """ISO 8601, to the microsecond, in UTC."""
    return f"{time.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def definition(ref: DefinitionRef, sub_type: str) -> Json:
    """A feature view or service under the very name Feast's own events have for it: the project is the
    namespace. sub_type: FEATURE_VIEW or FEATURE_SERVICE."""
    return {
        "namespace": ref.project,
        "name": ref.name,
        "facets": {
            "datasetType": facet("DatasetTypeDatasetFacet/1-0-1", datasetType="VIEW", subType=sub_type),
            "version": facet("DatasetVersionDatasetFacet/1-0-1", datasetVersion=ref.digest),
        },
    }


def snapshot(dataset: Dataset) -> Json:
    """A dataset snapshot."""
    fields = [_field(field.name, field.type, field.description) for field in dataset.schema]
    facets = {
        "schema": facet("SchemaDatasetFacet/1-2-0", fields=fields),
        "version": facet("DatasetVersionDatasetFacet/1-0-1", datasetVersion=f"sha256:{dataset.digest}"),
        "datasetType": facet("DatasetTypeDatasetFacet/1-0-1", datasetType="FILE", subType="SNAPSHOT"),
        "plumbline_dataset": facet(
            "DatasetFacet",
            displayName=dataset.display_name,
            asOfStart=None if dataset.as_of_start is None else moment(dataset.as_of_start),
            asOfEnd=None if dataset.as_of_end is None else moment(dataset.as_of_end),
            entityDigest=dataset.entity_digest or None,
            rowCount=dataset.row_count,
        ),
    }
    if dataset.uri:
        facets["dataSource"] = facet(
            "DatasourceDatasetFacet/1-0-1", name=dataset.display_name or dataset.digest, uri=dataset.uri
        )
    return {"namespace": NAMESPACE, "name": f"datasets/{dataset.digest}", "facets": facets}


def read_snapshot(dataset: Dataset) -> Json:
    """A snapshot as the input of a run, with how many rows were read."""
    rows = facet("InputStatisticsInputDatasetFacet/1-0-0", rowCount=dataset.row_count)
    return {**snapshot(dataset), "inputFacets": {"inputStatistics": rows}}


def base(ref: VersionRef) -> Json:
    """A version as the input of a run that went on from it."""
    kind = facet("DatasetTypeDatasetFacet/1-0-1", datasetType="MODEL")
    number = facet("DatasetVersionDatasetFacet/1-0-1", datasetVersion=str(ref.number))
    return {"namespace": NAMESPACE, "name": str(ref), "facets": {"datasetType": kind, "version": number}}


def model(version: ModelVersion) -> Json:
    """A version as what a run made. Its schema is what the model takes, then what it gives."""
    fields: list[Json] = []
    if version.signature is not None:
        fields += [
            _field(item.name, item.type, f"input: {item.feature_reference or 'of the request'}")
            for item in version.signature.inputs
        ]
        fields += [_field(item.name, item.type, "output") for item in version.signature.outputs]
    made = base(version.ref)
    made["facets"] |= {
        "schema": facet("SchemaDatasetFacet/1-2-0", fields=fields),
        "dataSource": facet(
            "DatasourceDatasetFacet/1-0-1",
            name=f"models/{version.ref.model}",
            uri=version.source if "://" in version.source else f"{PRODUCER}:{version.manifest_digest}",
        ),
        "lifecycleStateChange": facet(
            "LifecycleStateChangeDatasetFacet/1-0-1",
            lifecycleStateChange="CREATE",
        ),
        "plumbline_modelVersion": facet(
            "ModelVersionFacet",
            state=version.state.value,
            manifestDigest=version.manifest_digest,
            aliases=list(version.aliases),
            actor=version.actor,
        ),
    }
    size = facet(
        "OutputStatisticsOutputDatasetFacet/1-0-2",
        size=sum(file.size_bytes for file in version.files),
        fileCount=len(version.files),
    )
    return {**made, "outputFacets": {"outputStatistics": size}}


def source_code(code: CodeRevision | None) -> Json:
    """Where the code is, when that can be said as a URL: facets by name."""
    url = "" if code is None else _url(code.repository)
    if code is None or not code.commit or not url:
        return {}
    return {
        "sourceCodeLocation": facet(
            "SourceCodeLocationJobFacet/1-1-0",
            type="git",
            url=url,
            repoUrl=code.repository,
            version=code.commit,
        )
    }


def parameters(values: Mapping[str, str]) -> Json:
    """A run's parameters: facets by name."""
    items = [{"key": key, "name": key, "value": value} for key, value in sorted(values.items())]
    return (
        {"executionParameters": facet("ExecutionParametersRunFacet/1-0-0", parameters=items)} if items else {}
    )


def own_run(run: TrainingRun) -> Json:
    """What OpenLineage has no facet for."""
    code, environment = run.code, run.environment
    return facet(
        "RunFacet",
        name=f"runs/{run.name}",
        actor=run.actor,
        seed=run.seed,
        metrics=dict(sorted(run.metrics.items())),
        commit=None if code is None else code.commit,
        dirty=None if code is None else code.dirty,
        environmentDigest=run.environment_digest or None,
        pythonVersion=None if environment is None else environment.python_version,
        platform=None if environment is None else environment.platform,
    )


def _field(name: str, kind: str, description: str) -> Json:
    field = {"name": name, "type": kind}
    return field | ({"description": description} if description else {})


def _url(repository: str) -> str:
    """A repository's address as a URL; "" for one that is the name of a folder."""
    if "://" in repository:
        return repository
    host, colon, path = repository.partition(":")
    return f"ssh://{host}/{path}" if colon and "@" in host else ""
