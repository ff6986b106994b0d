"""Walks and impact over random registries, against an oracle that knows the edges and a queue."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings

from registry_service import impact, lineage, names
from registry_service.domain import Direction
from registry_service.impact import ImpactKey, VersionImpact
from tests.contract.registry_service.desk import Desk
from tests.contract.registry_service.graph_worlds import World, distances, steps

_SETTINGS = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    # Each example makes records under names of its own.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@_SETTINGS
@given(plan=steps)
def test_a_walk_is_the_part_of_the_graph_that_is_reached(desk: Desk, plan: list[tuple[Any, ...]]) -> None:
    world = World(desk)
    world.build(plan)
    for start in sorted(world.nodes):
        for direction in Direction:
            downstream = direction is Direction.DOWNSTREAM
            reached = distances(world.edges, start, downstream=downstream)
            page = desk.ask(
                lineage.walk,
                start,
                names.node("node", start),
                direction=direction,
                depth=50,
                after=None,
                limit=1_000,
            )
            assert {node.name: node.distance for node in page.nodes} == reached
            near = 0 if downstream else 1
            assert {edge.key for edge in page.edges} == {
                (reached[edge[near]] + 1, *edge) for edge in world.edges if edge[near] in reached
            }


@_SETTINGS
@given(plan=steps)
def test_impact_is_every_version_that_is_reached_by_a_shortest_way(
    desk: Desk, plan: list[tuple[Any, ...]]
) -> None:
    world = World(desk)
    world.build(plan)
    for start in sorted(world.nodes):
        begin = start if "/aliases/" not in start else _holder(world, start)
        reached = distances(world.edges, begin, downstream=True)
        expected = [version.ref for version in world.versions if str(version.ref) in reached]
        expected.sort(key=lambda ref: (ref.model, -ref.number))
        found = _impact(desk, start)
        assert [item.version for item in found] == expected
        for item in found:
            assert item.path[0] == begin
            assert item.path[-1] == str(item.version)
            assert len(item.path) == reached[str(item.version)] + 1
            assert set(zip(item.path, item.path[1:], strict=False)) <= {edge[:2] for edge in world.edges}
            assert [f"models/{item.version.model}/aliases/{alias}" for alias in item.aliases] == sorted(
                down for up, down, how in world.edges if (up, how) == (str(item.version), "points_at")
            )
            assert {f"deployments/{place.name}" for place in item.deployments} == {
                down for up, down, how in world.edges if (up, how) == (str(item.version), "deployed_as")
            }
        live = _impact(desk, start, live_only=True)
        assert [item.version for item in live] == [ref for ref in expected if str(ref) in world.live]
        assert all(place.end_time is None for item in live for place in item.deployments)
        joined: list[VersionImpact] = []
        while page := _impact(desk, start, after=joined[-1].key if joined else None, limit=2):
            joined += page
        assert joined == found


def _holder(world: World, alias: str) -> str:
    return next(up for up, down, _ in world.edges if down == alias)


def _impact(
    desk: Desk, node: str, *, live_only: bool = False, after: ImpactKey | None = None, limit: int = 1_000
) -> list[VersionImpact]:
    return desk.ask(
        impact.find,
        node,
        names.node_or_states("node", node),
        live_only=live_only,
        now=desk.clock(),
        after=after,
        limit=limit,
    )
