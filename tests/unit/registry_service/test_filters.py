from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.registry.errors import InvalidFilter
from registry_service.filtering.ast import And, Comparison, Expression, Not, Operator, Or, Order, Pattern
from registry_service.filtering.fields import (
    DATASETS,
    DEPLOYMENTS,
    EVENTS,
    MODELS,
    RUNS,
    VERSIONS,
    Resource,
)
from registry_service.filtering.grammar import MAX_COMPARISONS, MAX_DEPTH, parse, parse_order
from registry_service.filtering.scanner import MAX_LENGTH
from tests.unit.registry_service.filters import text_of, trees

ALL = (MODELS, VERSIONS, RUNS, DATASETS, DEPLOYMENTS, EVENTS)
E = Operator.EQUAL


def state(word: str) -> Comparison:
    return Comparison("state", E, word)


DRAFT, READY, ARCHIVED = state("DRAFT"), state("READY"), state("ARCHIVED")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("  \n", None),
        ("state = READY", READY),
        ("state=READY", READY),
        ("state:READY", READY),
        ('"READY" = state', InvalidFilter),
        # OR binds tighter than AND; side by side binds tighter than AND, too.
        (
            "state = DRAFT AND state = READY OR state = ARCHIVED",
            And((DRAFT, Or((READY, ARCHIVED)))),
        ),
        (
            "state = DRAFT state = READY AND state = ARCHIVED",
            And((And((DRAFT, READY)), ARCHIVED)),
        ),
        ("state = DRAFT OR state = READY state = ARCHIVED", And((Or((DRAFT, READY)), ARCHIVED))),
        ("NOT state = DRAFT OR state = READY", Or((Not(DRAFT), READY))),
        ("-state = DRAFT", Not(DRAFT)),
        ("NOT (state = DRAFT AND state = READY)", Not(And((DRAFT, READY)))),
        ("((state = READY))", READY),
        ('tags."mlflow.x" = "y"', Comparison("tags", E, "y", "mlflow.x")),
        ("tags.mlflow.x = y", Comparison("tags", E, "y", "mlflow.x")),
        ("tags.`a b` = 'it''s'", InvalidFilter),
        ("tags.`a b` = 'it\\'s'", Comparison("tags", E, "it's", "a b")),
        ("tags:team", Comparison("tags", Operator.PRESENT, None, "team")),
        ("tags.team:*", Comparison("tags", Operator.PRESENT, None, "team")),
        # Of a map's entry ":" is "=", as AIP-160 has it; of a text it is "contains".
        ("tags.team:risk", Comparison("tags", E, "risk", "team")),
        ("tags:*", Comparison("tags", Operator.PRESENT)),
        ("aliases:champion", Comparison("aliases", E, "champion")),
        ("aliases:champ*", Comparison("aliases", E, Pattern("champ", any_after=True))),
        ("description:late", Comparison("description", E, Pattern("late", True, True))),
        ('model = "*-v2"', Comparison("model", E, Pattern("-v2", any_before=True))),
        ("model = models/fraud", Comparison("model", E, "fraud")),
        (r'tags.k = "\*"', Comparison("tags", E, "*", "k")),
        ("metrics.auc >= -0.5", Comparison("metrics", Operator.GREATER_OR_EQUAL, -0.5, "auc")),
        ("version != 3", Comparison("version", Operator.NOT_EQUAL, 3)),
        ("tags.depth = 6", Comparison("tags", E, "6", "depth")),
        (
            'create_time > "2026-10-01T00:00:00.5+02:00"',
            Comparison("create_time", Operator.GREATER, datetime(2026, 9, 30, 22, 0, 0, 500_000, UTC)),
        ),
        (
            "create_time < 2026-10-01T00:00:00Z",
            Comparison("create_time", Operator.LESS, datetime(2026, 10, 1, tzinfo=UTC)),
        ),
        (
            "create_time < 2026-10-01",
            Comparison("create_time", Operator.LESS, datetime(2026, 10, 1, tzinfo=UTC)),
        ),
    ],
)
def test_what_a_filter_asks_for(text: str, expected: Expression | type[InvalidFilter] | None) -> None:
    if expected is InvalidFilter:
        with pytest.raises(InvalidFilter):
            parse(text, VERSIONS)
        return
    assert parse(text, VERSIONS) == expected


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("stat = READY", 1, ["'stat'", "state", "tags.KEY", "metrics.NAME"]),
        ("state = READYY", 9, ["'READYY'", "DRAFT, READY, ARCHIVED"]),
        ("state = READY and version = 1", 15, ["'and'", "capitals"]),
        ("state = READY state", 20, ["one of =, !=", "the end"]),
        ("fraud", 1, ["'fraud'"]),
        ("(state = READY", 15, ["')'", "the end"]),
        ("state = READY)", 14, ["')'"]),
        ("state =", 8, ["a value", "the end"]),
        ('tags.x = "abc', 10, ["no closing"]),
        ('tags.x = "a\\q"', 13, ["\\q"]),
        ('tags.x = "a*b"', 10, ["'*'"]),
        ("tags = x", 1, ["tags.KEY"]),
        ("tags.x > y", 1, ["takes =, != and :"]),
        ("aliases != x", 1, ["NOT aliases:VALUE"]),
        ("version = 1.5", 11, ["a whole number"]),
        ("version = 9223372036854775808", 11, ["63 bits"]),
        ("version.x = 1", 1, ["no parts"]),
        ("metrics.auc > nan", 15, ["a number"]),
        ("metrics.auc > high", 15, ["'high'"]),
        ("create_time > yesterday", 15, ["a time"]),
        ("create_time > 2026-02-30", 15, ["exists"]),
        ("create_time > 2026-10-01T00:00:00", 15, ["a time"]),
        ('create_time > "0001-01-01T00:00:00+14:00"', 15, ["exists"]),
        ('create_time > "2026-10-01T00:00:00.1234567Z"', 15, ["six digits"]),
        ("model_archived = yes", 18, ["true or false"]),
        ("state = lower(x)", 14, ["functions"]),
        ("tags.x = '\x00'", 11, ["no value"]),
        ("x" * (MAX_LENGTH + 1), MAX_LENGTH + 1, ["4096"]),
        ("(" * (MAX_DEPTH + 1) + "state = READY", MAX_DEPTH + 2, [str(MAX_DEPTH)]),
        ("NOT " * (MAX_DEPTH + 1) + "state = READY", 4 * (MAX_DEPTH + 1) + 1, [str(MAX_DEPTH)]),
        ("version=1 " * (MAX_COMPARISONS + 1), 10 * MAX_COMPARISONS + 1, [str(MAX_COMPARISONS)]),
    ],
)
def test_errors_say_where_and_what_is_allowed(text: str, position: int, words: list[str]) -> None:
    with pytest.raises(InvalidFilter) as caught:
        parse(text, VERSIONS)
    assert caught.value.message.startswith(f"filter, position {position}: ")
    assert caught.value.metadata["position"] == str(position)
    assert caught.value.violations[0].field == "filter"
    for word in words:
        assert word in caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("version", Order("version")),
        (" create_time  desc ", Order("create_time", descending=True)),
        ("version asc", Order("version")),
        ('metrics."a b" desc', Order("metrics", descending=True, key="a b")),
        ("metrics.auc", Order("metrics", key="auc")),
    ],
)
def test_what_an_order_asks_for(text: str, expected: Order | None) -> None:
    assert parse_order(text, VERSIONS) == expected


@pytest.mark.parametrize(
    "text", ["state", "metrics", "nope", "version down", "version desc, model", "tags.x", "desc"]
)
def test_orders_that_are_refused(text: str) -> None:
    with pytest.raises(InvalidFilter, match="order_by, position"):
        parse_order(text, VERSIONS)


@given(st.sampled_from(ALL).flatmap(lambda resource: st.tuples(st.just(resource), trees(resource))))
def test_every_tree_can_be_written(case: tuple[Resource, Expression]) -> None:
    resource, tree = case
    assert parse(text_of(tree), resource) == tree


_PIECES = (
    *"stag.=<:*()-'`\\\"!² é١\ud800\x00",
    *("state", "tags", "version", "!=", "<=", "AND", "OR", "NOT"),
    *("READY", "-1.5e3", "2026-10-01T00:00:00Z", "a*b"),
)


@given(st.lists(st.sampled_from(_PIECES), max_size=25).map("".join) | st.text(max_size=40))
def test_no_text_breaks_the_parser(text: str) -> None:
    for read in (parse, parse_order):
        with contextlib.suppress(InvalidFilter):
            read(text, VERSIONS)
