"""Lineage for other programs: events that OpenLineage's own rules accept, DOT and JSON."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from feast.openlineage.identity import resolve_namespace
from jsonschema import Draft202012Validator, FormatChecker, ValidationError

from registry_service import deployments, lineage, names, runs, versions
from registry_service.commands import CreateVersion, FinishRun
from registry_service.commands_governance import EndDeployment, RecordDeployment
from registry_service.domain import (
    CodeRevision,
    Dataset,
    Direction,
    Field,
    InputSource,
    LineageEdge,
    LineageNode,
    ModelInput,
    ModelVersion,
    NodeKind,
    RunState,
    Signature,
    TrainingRun,
)
from registry_service.export import graph, openlineage
from registry_service.lineage import LineagePage
from tests.contract.registry_service.desk import Desk, definition, snapshot

RULES = json.loads((Path(__file__).parent / "openlineage_schema.json").read_text())

Event = dict[str, Any]


class Story(NamedTuple):
    """A version, what it came from, and what came from it."""

    base: ModelVersion
    data: Dataset
    tuning: TrainingRun
    run: TrainingRun
    version: ModelVersion
    copy: ModelVersion
    failed: TrainingRun
    deployment: str


@pytest.fixture
def story(desk: Desk) -> Story:
    desk.model()
    desk.model("flights-copy")
    base = desk.ready()
    view, service = definition("weather"), definition("delays")
    data = desk.dataset(
        snapshot(
            "train",
            feature_service=service,
            feature_views=(view,),
            schema=(Field("wind", "DOUBLE", "knots"), Field("late", "INT64")),
            uri="file:///data/train.parquet",
            as_of_start=desk.clock(),
            as_of_end=desk.clock() + timedelta(days=1),
        )
    )
    code = CodeRevision("git@git.example:shop/models.git", "4f2a91c0ffee", dirty=True)
    tuning = desk.run(display_name="tune flights")
    run = desk.run(
        display_name="train flights",
        code=code,
        datasets=[data.digest],
        parameters={"rounds": "7"},
        parent=tuning.name,
        base_versions=(base.ref,),
    )
    signature = Signature(
        (
            ModelInput("wind", "DOUBLE", InputSource.FEATURE, "weather:wind"),
            ModelInput("shop", "STRING", InputSource.REQUEST),
        ),
        (Field("late", "DOUBLE"),),
    )
    version = desk.ready(run=run.name, datasets=[data.digest], signature=signature)
    run = desk.do(runs.finish, FinishRun(run.name, RunState.FINISHED, ""))
    failed = desk.run(display_name="train flights", datasets=[data.digest])
    failed = desk.do(runs.finish, FinishRun(failed.name, RunState.FAILED, "no rows"))
    draft = desk.do(versions.create, CreateVersion("flights-copy", "", {}, None, "", (), copy_from=base.ref))
    copy = desk.do(versions.finalize, draft.ref, "")
    place = desk.do(deployments.record, RecordDeployment(version.ref, "production", "h1", "", {}, None)).name
    desk.do(deployments.end, EndDeployment(place, "replaced"))
    return Story(base, data, tuning, run, version, copy, failed, place)


def _walk(desk: Desk, node: str, direction: Direction) -> LineagePage:
    start = names.node("node", node)
    return desk.ask(lineage.walk, node, start, direction=direction, depth=10, after=None, limit=1_000)


def _events(desk: Desk, node: str, direction: Direction = Direction.UPSTREAM) -> list[Event]:
    page = _walk(desk, node, direction)
    return [json.loads(text) for text in desk.ask(openlineage.events, page.nodes)]


def _runs(events: list[Event], job: str) -> list[Event]:
    return [event for event in events if event.get("job", {}).get("name") == job]


def _check(event: Event) -> None:
    """By the published rules: of the event, and of each facet by its own schema."""
    kind = event["schemaURL"].rpartition("/")[2]
    assert event["schemaURL"] == f"https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/{kind}"
    _validate(kind, event)
    assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
    for name, facet in _facets(event):
        if name.startswith("plumbline_"):
            assert facet["_schemaURL"].startswith("urn:plumbline:")
            continue
        schema = RULES["facets"][name]
        assert facet["_schemaURL"] == f"{RULES['ids'][schema]}#/$defs/{schema}"
        _validate(schema, facet)


def _validate(kind: str, value: Event) -> None:
    rules = {"$ref": f"#/$defs/{kind}", "$defs": RULES["$defs"]}
    Draft202012Validator(rules, format_checker=FormatChecker()).validate(value)


def _facets(value: Any) -> list[tuple[str, Event]]:
    found: list[tuple[str, Event]] = []
    if isinstance(value, dict):
        for key, part in value.items():
            if key in ("facets", "inputFacets", "outputFacets"):
                found += part.items()
            found += _facets(part)
    elif isinstance(value, list):
        for part in value:
            found += _facets(part)
    return found


def test_every_event_keeps_the_rules(desk: Desk, story: Story) -> None:
    events = _events(desk, f"deployments/{story.deployment}") + _events(
        desk, f"datasets/{story.data.digest}", Direction.DOWNSTREAM
    )
    events += _events(desk, str(story.copy.ref)) + _events(desk, f"runs/{story.failed.name}")
    assert len(events) > 15
    for event in events:
        _check(event)
    facets = {name for event in events for name, _ in _facets(event)}
    assert facets >= set(RULES["facets"])
    with pytest.raises(ValidationError):
        _check({key: value for key, value in events[0].items() if key != "eventTime"})


def test_a_training_run(desk: Desk, story: Story) -> None:
    started, ended = _runs(_events(desk, str(story.version.ref)), "train flights")
    assert (started["eventType"], ended["eventType"]) == ("START", "COMPLETE")
    assert datetime.fromisoformat(started["eventTime"]) == story.run.start_time
    assert datetime.fromisoformat(ended["eventTime"]) == story.run.end_time
    # Our ids are UUIDs already.
    assert ended["run"]["runId"].replace("-", "") == story.run.name
    assert started["inputs"] == ended["inputs"]
    assert [(item["namespace"], item["name"]) for item in ended["inputs"]] == [
        ("plumbline", f"datasets/{story.data.digest}"),
        ("shop", "delays"),
        ("shop", "weather"),
        ("plumbline", str(story.base.ref)),
    ]
    assert started["outputs"] == []
    (made,) = ended["outputs"]
    assert (made["namespace"], made["name"]) == ("plumbline", str(story.version.ref))
    assert made["facets"]["datasetType"]["datasetType"] == "MODEL"
    assert made["facets"]["version"]["datasetVersion"] == str(story.version.ref.number)
    assert made["facets"]["lifecycleStateChange"]["lifecycleStateChange"] == "CREATE"
    assert [field["name"] for field in made["facets"]["schema"]["fields"]] == ["wind", "shop", "late"]
    assert made["outputFacets"]["outputStatistics"]["fileCount"] == 1
    data = ended["inputs"][0]
    assert data["facets"]["schema"]["fields"][0] == {"name": "wind", "type": "DOUBLE", "description": "knots"}
    assert data["facets"]["dataSource"]["uri"] == "file:///data/train.parquet"
    assert data["inputFacets"]["inputStatistics"]["rowCount"] == 10
    about = ended["run"]["facets"]
    assert about["executionParameters"]["parameters"] == [{"key": "rounds", "name": "rounds", "value": "7"}]
    assert about["plumbline_run"]["dirty"] is True
    assert about["parent"]["job"] == {"namespace": "plumbline", "name": "tune flights"}
    assert about["parent"]["run"]["runId"].replace("-", "") == story.tuning.name
    assert about["parent"]["root"]["run"] == about["parent"]["run"]
    code = ended["job"]["facets"]["sourceCodeLocation"]
    assert (code["url"], code["version"]) == ("ssh://git@git.example/shop/models.git", "4f2a91c0ffee")


def test_the_graphs_join_with_feasts(desk: Desk, story: Story) -> None:
    """Feast's events name a view or service by itself, in the namespace of its project."""
    _, ended = _runs(_events(desk, str(story.version.ref)), "train flights")
    feature_inputs = [item for item in ended["inputs"] if item["namespace"] != "plumbline"]
    assert {item["namespace"] for item in feature_inputs} == {resolve_namespace("feast", "shop")}
    assert [item["facets"]["version"]["datasetVersion"] for item in feature_inputs] == [
        definition("delays").digest,
        definition("weather").digest,
    ]


def test_a_run_that_failed_and_one_that_goes_on(desk: Desk, story: Story) -> None:
    _, ended = _runs(_events(desk, f"runs/{story.failed.name}"), "train flights")
    assert (ended["eventType"], ended["outputs"]) == ("FAIL", [])
    assert ended["run"]["facets"]["errorMessage"]["message"] == "no rows"
    (running,) = _runs(_events(desk, f"runs/{story.tuning.name}"), "tune flights")
    assert running["eventType"] == "START"


def test_what_no_run_made(desk: Desk, story: Story) -> None:
    events = _events(desk, str(story.copy.ref))
    _, registered = _runs(events, "register flights")
    assert [item["name"] for item in registered["outputs"]] == [str(story.base.ref)]
    _, copied = _runs(events, "copy flights-copy")
    assert [item["name"] for item in copied["inputs"]] == [str(story.base.ref)]
    assert [item["name"] for item in copied["outputs"]] == [str(story.copy.ref)]


def test_a_deployment_is_a_run_of_a_service(desk: Desk, story: Story) -> None:
    started, ended = _runs(_events(desk, f"deployments/{story.deployment}"), "serve flights")
    assert (started["eventType"], ended["eventType"]) == ("START", "COMPLETE")
    assert [item["name"] for item in ended["inputs"]] == [str(story.version.ref)]
    assert ended["job"]["facets"]["jobType"]["processingType"] == "SERVICE"


def test_exported_again_the_events_are_the_same(desk: Desk, story: Story) -> None:
    assert _events(desk, str(story.version.ref)) == _events(desk, str(story.version.ref))


def test_json_is_the_walk(desk: Desk, story: Story) -> None:
    page = _walk(desk, str(story.version.ref), Direction.UPSTREAM)
    document = json.loads("".join(graph.node_link(page, Direction.UPSTREAM)))
    assert document["graph"] == {
        "start": str(story.version.ref),
        "direction": "upstream",
        "truncated": False,
    }
    assert [node["id"] for node in document["nodes"]] == [node.name for node in page.nodes]
    assert [(edge["source"], edge["target"], edge["key"]) for edge in document["edges"]] == [
        (edge.upstream, edge.downstream, edge.relation) for edge in page.edges
    ]


def test_dot_is_the_walk(desk: Desk, story: Story) -> None:
    page = _walk(desk, str(story.version.ref), Direction.UPSTREAM)
    text = "".join(graph.dot(page))
    assert text.count(" -> ") == len(page.edges)
    assert f'"{story.run.name}"' not in text
    assert f'"runs/{story.run.name}" -> "{story.version.ref}" [label="produced by"];' in text
    assert "subgraph cluster_dataset {" in text
    _render(text)


def test_dot_shows_any_name_as_it_is() -> None:
    odd = 'models/a "b" \\N \\ {c} <d>'
    nodes = (LineageNode(odd, NodeKind.MODEL, f"model\n{odd}", 0), LineageNode("v", NodeKind.RUN, "", 1))
    page = LineagePage(nodes, (LineageEdge(1, odd, "v", "version_of"),), last=None, truncated=True)
    text = "".join(graph.dot(page))
    quoted = r'"models/a \"b\" \\N \\ {c} <d>"'
    assert f'{quoted} -> "v" [label="version of"];' in text
    assert "depth limit" in text
    # Outside of quotes nothing of it is left.
    assert "\\" not in re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
    _render(text)


def test_long_graphs_come_in_pieces() -> None:
    nodes = tuple(LineageNode(f"runs/{n}", NodeKind.RUN, "", n) for n in range(2_000))
    page = LineagePage(nodes, (), last=None, truncated=False)
    pieces = list(graph.node_link(page, Direction.UPSTREAM))
    assert len(pieces) == 5
    assert len(json.loads("".join(pieces))["nodes"]) == 2_000


def _render(text: str) -> None:
    dot = shutil.which("dot")
    if dot is not None:
        done = subprocess.run([dot, "-Tsvg"], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
