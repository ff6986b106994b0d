from __future__ import annotations

from typing import NamedTuple

import pytest

from plumbline.registry.errors import NodeNotFound
from registry_service import lineage, names, versions
from registry_service.domain import CodeRevision, Direction, LineageEdge
from registry_service.lineage import EdgeKey, LineagePage
from tests.contract.registry_service.desk import Desk, definition, snapshot


class Story(NamedTuple):
    """Names of everything behind one champion."""

    alias: str
    version: str
    model: str
    run: str
    code: str
    train: str
    raw: str
    service: str
    weather: str
    carrier: str


@pytest.fixture
def story(desk: Desk) -> Story:
    desk.model()
    weather, carrier, service = definition("weather"), definition("carrier"), definition("delays")
    train = desk.dataset(snapshot("train", feature_service=service, feature_views=(weather, carrier)))
    raw = desk.dataset(snapshot("raw", feature_views=(weather,)))
    code = CodeRevision("git.example/shop", "4f2a91c0ffee11223344", dirty=False)
    run = desk.run(code=code, datasets=[train.digest, raw.digest])
    version = desk.ready(run=run.name, datasets=[train.digest])
    desk.set_alias("champion", version.ref)
    desk.model("unrelated")
    desk.ready("unrelated")
    return Story(
        alias="models/flights/aliases/champion",
        version=str(version.ref),
        model="models/flights",
        run=f"runs/{run.name}",
        code=f"codeRevisions/{code.commit}",
        train=f"datasets/{train.digest}",
        raw=f"datasets/{raw.digest}",
        service=f"featureServices/{service}",
        weather=f"featureViews/{weather}",
        carrier=f"featureViews/{carrier}",
    )


def _walk(
    desk: Desk,
    node: str,
    direction: Direction = Direction.UPSTREAM,
    *,
    depth: int = 10,
    limit: int = 100,
    after: EdgeKey | None = None,
) -> LineagePage:
    return desk.ask(
        lineage.walk,
        node,
        names.node("node", node),
        direction=direction,
        depth=depth,
        after=after,
        limit=limit,
    )


def _edges(page: LineagePage) -> set[tuple[int, str, str, str]]:
    return {edge.key for edge in page.edges}


def _everything(story: Story) -> set[tuple[int, str, str, str]]:
    return {
        (1, story.version, story.alias, "points_at"),
        (2, story.model, story.version, "version_of"),
        (2, story.run, story.version, "produced_by"),
        (2, story.train, story.version, "trained_on"),
        (3, story.code, story.run, "ran_code"),
        (3, story.train, story.run, "read_from"),
        (3, story.raw, story.run, "read_from"),
        (3, story.service, story.train, "read_from"),
        (4, story.weather, story.service, "includes"),
        (4, story.carrier, story.service, "includes"),
        (4, story.weather, story.raw, "read_from"),
    }


def test_what_a_champion_came_from(desk: Desk, story: Story) -> None:
    page = _walk(desk, story.alias)
    assert _edges(page) == _everything(story)
    assert [edge.distance for edge in page.edges] == sorted(edge.distance for edge in page.edges)
    assert {node.name for node in page.nodes} == set(story)
    assert page.nodes[0].name == story.alias
    assert (page.more, page.truncated) == (False, False)
    distances = {node.name: node.distance for node in page.nodes}
    assert distances == {
        story.alias: 0,
        story.version: 1,
        story.model: 2,
        story.run: 2,
        story.train: 2,
        story.code: 3,
        story.raw: 3,
        story.service: 3,
        story.weather: 4,
        story.carrier: 4,
    }


def test_what_came_from_a_feature_view(desk: Desk, story: Story) -> None:
    page = _walk(desk, story.weather, Direction.DOWNSTREAM)
    assert {node.name for node in page.nodes} == set(story) - {story.model, story.code, story.carrier}
    assert {edge.key[1:] for edge in page.edges} == {
        edge[1:]
        for edge in _everything(story)
        if not {edge[1], edge[2]} & {story.model, story.code, story.carrier}
    }


def test_the_graph_is_seen_from_every_node(desk: Desk, story: Story) -> None:
    graph = {edge[1:3] for edge in _everything(story)}
    for name in story:
        for direction in Direction:
            found = {node.name for node in _walk(desk, name, direction).nodes}
            assert found == _reachable(graph, name, direction)


def _reachable(graph: set[tuple[str, str]], start: str, direction: Direction) -> set[str]:
    """By brute force over pairs of (upstream, downstream)."""
    found, size = {start}, 0
    while len(found) > size:
        size = len(found)
        for upstream, downstream in graph:
            if direction is Direction.UPSTREAM and downstream in found:
                found.add(upstream)
            if direction is Direction.DOWNSTREAM and upstream in found:
                found.add(downstream)
    return found


def test_labels_are_for_people(desk: Desk, story: Story) -> None:
    labels = {node.name: node.label for node in _walk(desk, story.alias).nodes}
    assert labels[story.alias] == "alias flights@champion"
    assert labels[story.version] == "flights version 1"
    assert labels[story.run] == "run nightly (running)"
    assert labels[story.train] == "dataset train (10 rows)"
    assert labels[story.code] == "code git.example/shop at 4f2a91c0ffee"
    assert labels[story.service].startswith("feature service shop/delays @ ")
    assert labels[story.weather].startswith("feature view shop/weather @ ")


def test_depth_cuts_and_says_so(desk: Desk, story: Story) -> None:
    for depth in range(1, 6):
        page = _walk(desk, story.alias, depth=depth)
        assert _edges(page) == {edge for edge in _everything(story) if edge[0] <= depth}
        assert page.truncated == (depth < 4)


def test_pages_join_to_the_whole_walk(desk: Desk, story: Story) -> None:
    whole = _walk(desk, story.alias, depth=3)
    for limit in (1, 2, 3, len(whole.edges), 100):
        joined: list[LineageEdge] = []
        after = None
        while True:
            page = _walk(desk, story.alias, depth=3, limit=limit, after=after)
            joined += page.edges
            after = page.last
            ends = {end for edge in page.edges for end in (edge.upstream, edge.downstream)}
            assert {node.name for node in page.nodes} == ends | {story.alias}
            assert page.truncated == (not page.more)
            if not page.more:
                break
            assert len(page.edges) == limit
        assert tuple(joined) == whole.edges


def test_a_node_nobody_recorded(desk: Desk, story: Story) -> None:
    assert story.model
    for node in (
        "models/nope",
        "models/flights/versions/9",
        "models/flights/aliases/nope",
        f"runs/{'0' * 32}",
        f"datasets/{'0' * 64}",
        "codeRevisions/nope",
        f"featureServices/{definition('delays', 'other')}",
        f"featureViews/{definition('nope')}",
    ):
        with pytest.raises(NodeNotFound) as caught:
            _walk(desk, node)
        assert caught.value.metadata == {"node": node}


def test_a_cleared_alias_is_no_node(desk: Desk, story: Story) -> None:
    desk.clear_alias(names.alias("name", story.alias))
    with pytest.raises(NodeNotFound):
        _walk(desk, story.alias)
    downstream = _walk(desk, story.version, Direction.DOWNSTREAM)
    assert downstream.edges == ()


def test_a_node_without_a_past(desk: Desk) -> None:
    desk.model("lonely")
    page = _walk(desk, "models/lonely")
    assert ([node.label for node in page.nodes], page.edges, page.more) == (["model lonely"], (), False)


def test_drafts_and_archived_versions_are_part_of_the_story(desk: Desk, story: Story) -> None:
    draft = desk.draft()
    desk.do(versions.archive, desk.ready().ref, "")
    labels = {node.name: node.label for node in _walk(desk, story.model, Direction.DOWNSTREAM).nodes}
    assert labels[str(draft.ref)] == "flights version 2 (draft)"
    assert labels["models/flights/versions/3"] == "flights version 3 (archived)"
