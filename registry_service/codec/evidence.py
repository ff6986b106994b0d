"""Runs, datasets, evaluations and lineage on the wire."""

from __future__ import annotations

import hashlib

from plumbline.errors import FieldViolation
from plumbline.registry.errors import InvalidField
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from registry_service import commands, names
from registry_service.codec.values import from_fields, from_timestamp, to_field, to_timestamp
from registry_service.domain import (
    CodeRevision,
    Dataset,
    Direction,
    Environment,
    FeatureDefinition,
    LineageEdge,
    LineageNode,
    RunState,
    TrainingRun,
    etag,
)
from registry_service.validation import DEFAULT_DEPTH, MAX_DEPTH

_RUN_STATES = {
    RunState.RUNNING: res.RUN_STATE_RUNNING,
    RunState.FINISHED: res.RUN_STATE_FINISHED,
    RunState.FAILED: res.RUN_STATE_FAILED,
}
_RUN_STATES_BY_NUMBER = {int(number): state for state, number in _RUN_STATES.items()}
_DIRECTIONS = {
    int(pb.LINEAGE_DIRECTION_UNSPECIFIED): Direction.UPSTREAM,
    int(pb.LINEAGE_DIRECTION_UPSTREAM): Direction.UPSTREAM,
    int(pb.LINEAGE_DIRECTION_DOWNSTREAM): Direction.DOWNSTREAM,
}


def start_run(request: pb.StartRunRequest) -> commands.StartRun:
    run = request.run
    code = None
    if run.HasField("code"):
        commit = names.commit("run.code.commit", run.code.commit) if run.code.commit else ""
        code = CodeRevision(run.code.repository, commit, run.code.dirty)
    environment = None
    if run.HasField("environment"):
        given = run.environment
        packages = tuple(sorted(given.packages))
        environment = Environment(given.python_version, given.platform, packages)
    return commands.StartRun(
        display_name=run.display_name,
        parameters=dict(run.parameters),
        metrics=dict(run.metrics),
        tags=dict(run.tags),
        seed=run.seed,
        code=code,
        environment_digest=run.environment_digest or ("" if environment is None else digest_of(environment)),
        datasets=tuple(names.dataset(f"run.datasets[{i}]", name) for i, name in enumerate(run.datasets)),
        environment=environment,
        config=run.config,
        parent=names.run("run.parent", run.parent) if run.parent else "",
        base_versions=tuple(
            names.version(f"run.base_versions[{i}]", name) for i, name in enumerate(run.base_versions)
        ),
        lease=request.lease.ToTimedelta() if request.HasField("lease") else None,
    )


def renew_run(request: pb.RenewRunRequest) -> commands.RenewRun:
    return commands.RenewRun(names.run("name", request.name), request.lease.ToTimedelta())


def digest_of(environment: Environment) -> str:
    """As the contract says: over the sorted lines of the packages."""
    lines = "".join(f"{package}\n" for package in sorted(environment.packages))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def log_run(request: pb.LogRunRequest) -> commands.LogRun:
    return commands.LogRun(
        run=names.run("name", request.name),
        parameters=dict(request.parameters),
        metrics=dict(request.metrics),
        tags=dict(request.tags),
        datasets=tuple(names.dataset(f"datasets[{i}]", name) for i, name in enumerate(request.datasets)),
    )


def finish_run(request: pb.FinishRunRequest) -> commands.FinishRun:
    return commands.FinishRun(
        names.run("name", request.name), _RUN_STATES_BY_NUMBER.get(request.state), request.error
    )


def record_dataset(request: pb.RecordDatasetRequest) -> commands.RecordDataset:
    given = request.dataset
    service = given.feature_service
    return commands.RecordDataset(
        Dataset(
            digest=names.dataset("dataset.name", given.name),
            display_name=given.display_name,
            row_count=given.row_count,
            schema=from_fields(given.schema),
            as_of_start=from_timestamp("dataset.as_of_start", given.as_of_start)
            if given.HasField("as_of_start")
            else None,
            as_of_end=from_timestamp("dataset.as_of_end", given.as_of_end)
            if given.HasField("as_of_end")
            else None,
            feature_service=names.feature_service("dataset.feature_service", service) if service else None,
            feature_views=tuple(
                names.feature_view(f"dataset.feature_views[{i}]", name)
                for i, name in enumerate(given.feature_views)
            ),
            entity_digest=given.entity_digest,
            uri=given.uri,
            recipe=given.recipe,
            feature_definitions=tuple(
                _definition(f"dataset.feature_definitions[{i}].name", item)
                for i, item in enumerate(given.feature_definitions)
            ),
        )
    )


def _definition(field: str, item: res.FeatureDefinition) -> FeatureDefinition:
    parse = names.feature_service if item.name.startswith("featureServices/") else names.feature_view
    return FeatureDefinition(parse(field, item.name), item.spec)


def record_evaluation(request: pb.RecordEvaluationRequest) -> commands.RecordEvaluation:
    return commands.RecordEvaluation(
        version=names.version("parent", request.parent),
        dataset=names.dataset("evaluation.dataset", request.evaluation.dataset),
        split=request.evaluation.split,
        metrics=dict(request.evaluation.metrics),
    )


def direction(number: int) -> Direction:
    """Raises InvalidField for a number this version does not know."""
    found = _DIRECTIONS.get(number)
    if found is None:
        raise _invalid("direction", f"direction {number} is unknown; say UPSTREAM or DOWNSTREAM")
    return found


def depth(asked: int) -> int:
    """0 means 10, at most 50. Raises InvalidField below 0."""
    if asked < 0:
        raise _invalid("depth", f"depth is {asked}; it must be 0 (for {DEFAULT_DEPTH}) or more")
    return min(asked or DEFAULT_DEPTH, MAX_DEPTH)


def to_run(run: TrainingRun) -> res.TrainingRun:
    name = f"runs/{run.name}"
    return res.TrainingRun(
        name=name,
        display_name=run.display_name,
        state=_RUN_STATES[run.state],
        parameters=run.parameters,
        metrics=run.metrics,
        seed=run.seed,
        code=None
        if run.code is None
        else res.CodeRevision(repository=run.code.repository, commit=run.code.commit, dirty=run.code.dirty),
        environment_digest=run.environment_digest,
        datasets=[f"datasets/{digest}" for digest in run.datasets],
        start_time=to_timestamp(run.start_time),
        end_time=to_timestamp(run.end_time),
        error=run.error,
        actor=run.actor,
        tags=run.tags,
        etag=etag(name, run.revision),
        environment=None
        if run.environment is None
        else res.Environment(
            python_version=run.environment.python_version,
            platform=run.environment.platform,
            packages=run.environment.packages,
        ),
        config=run.config,
        parent=f"runs/{run.parent}" if run.parent else "",
        base_versions=[str(version) for version in run.base_versions],
        lease_expire_time=to_timestamp(run.lease_expire_time),
    )


def to_dataset(dataset: Dataset) -> res.Dataset:
    return res.Dataset(
        name=f"datasets/{dataset.digest}",
        display_name=dataset.display_name,
        row_count=dataset.row_count,
        schema=[to_field(field) for field in dataset.schema],
        as_of_start=to_timestamp(dataset.as_of_start),
        as_of_end=to_timestamp(dataset.as_of_end),
        feature_service=""
        if dataset.feature_service is None
        else f"featureServices/{dataset.feature_service}",
        feature_views=[f"featureViews/{view}" for view in dataset.feature_views],
        entity_digest=dataset.entity_digest,
        uri=dataset.uri,
        create_time=to_timestamp(dataset.create_time),
        actor=dataset.actor,
        recipe=dataset.recipe,
        feature_definitions=[
            res.FeatureDefinition(name=f"{_collection(dataset, item)}/{item.ref}", spec=item.spec)
            for item in dataset.feature_definitions
        ],
    )


def _collection(dataset: Dataset, item: FeatureDefinition) -> str:
    return "featureServices" if item.ref == dataset.feature_service else "featureViews"


def to_node(node: LineageNode) -> pb.LineageNode:
    # Kinds are numbered as in the contract.
    return pb.LineageNode(name=node.name, kind=int(node.kind), label=node.label, distance=node.distance)  # type: ignore[arg-type]


def to_edge(edge: LineageEdge) -> pb.LineageEdge:
    return pb.LineageEdge(upstream=edge.upstream, downstream=edge.downstream, relation=edge.relation)


def _invalid(field: str, message: str) -> InvalidField:
    return InvalidField(message, metadata={"field": field}, violations=[FieldViolation(field, message)])
