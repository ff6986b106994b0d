"""MLflow's filters, as the trees they mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.registry.errors import InvalidFilter
from registry_service.filtering.ast import And, Comparison, Expression, Not, Operator, Or, comparisons
from registry_service.mlflow_api.filter_grammar import IS_PROMPT_TAG, MODELS, VERSIONS, Grammar, parse

NO_PROMPT = Comparison("tags", Operator.NOT_EQUAL, "true", key=IS_PROMPT_TAG, unset_matches=True)


def plain(*parts: Expression) -> Expression:
    """These, and no prompts."""
    return And((*parts, NO_PROMPT)) if parts else NO_PROMPT


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ()),
        ("  ", ()),
        ("name = 'm'", (Comparison("model", Operator.EQUAL, "m"),)),
        ("name='m'", (Comparison("model", Operator.EQUAL, "m"),)),
        ('attribute.name != "m"', (Comparison("model", Operator.NOT_EQUAL, "m"),)),
        ("name iLike '%M%'", (Comparison("model", Operator.ILIKE, "%M%"),)),
        ("name IN ('a', \"b\",)", (Comparison("model", Operator.IN, ("a", "b")),)),
        ("name not  in ('a')", (Comparison("model", Operator.NOT_IN, ("a",)),)),
        ("version_number >= 3", (Comparison("version", Operator.GREATER_OR_EQUAL, 3),)),
        ("version_number = '3'", (Comparison("version", Operator.EQUAL, 3),)),
        ("source_path LIKE 's3://%'", (Comparison("source", Operator.LIKE, "s3://%"),)),
        ("tags.team = 'a AND b'", (Comparison("tags", Operator.EQUAL, "a AND b", key="team"),)),
        ("tag.`a b.c` != ''", (Comparison("tags", Operator.NOT_EQUAL, "", key="a b.c"),)),
        ("tags.\"x\" LIKE '%'", (Comparison("tags", Operator.LIKE, "%", key="x"),)),
        (
            "name = 'm' AND tags.a.b = 'c' and version_number<2",
            (
                Comparison("model", Operator.EQUAL, "m"),
                Comparison("tags", Operator.EQUAL, "c", key="a.b"),
                Comparison("version", Operator.LESS, 2),
            ),
        ),
    ],
)
def test_what_filters_mean(text: str, parts: tuple[Expression, ...]) -> None:
    assert parse(text, VERSIONS) == plain(*parts)


def test_a_run_is_mlflows_or_ours() -> None:
    matches = Or(
        (
            Comparison("external_run", Operator.EQUAL, "r"),
            Comparison("run", Operator.EQUAL, "r"),
        )
    )
    some = Or((Comparison("external_run", Operator.NOT_EQUAL, ""), Comparison("run", Operator.PRESENT)))
    assert parse("run_id = 'r'", VERSIONS) == plain(matches)
    assert parse("run_id != 'r'", VERSIONS) == plain(And((some, Not(matches))))


@pytest.mark.parametrize(
    ("text", "left_out"),
    [
        (f"tag.`{IS_PROMPT_TAG}` != 'true'", True),
        (f"tag.`{IS_PROMPT_TAG}` = 'false'", True),
        (f"tags.`{IS_PROMPT_TAG}` = 'true'", False),
        (f"tags.`{IS_PROMPT_TAG}` != 'false'", False),
    ],
)
def test_prompts_are_left_out_unless_they_are_asked_for(text: str, left_out: bool) -> None:
    assert (parse(text, MODELS) == NO_PROMPT) is left_out


@pytest.mark.parametrize(
    ("text", "grammar", "says"),
    [
        ("name = m", VERSIONS, "Parameter value is either not quoted"),
        ("run_id = 'r'", MODELS, "Invalid attribute key 'run_id' specified"),
        ("evilhax = true", VERSIONS, r"Invalid clause\(s\) in filter string"),
        ("name = 'a' OR name = 'b'", VERSIONS, r"Invalid clause\(s\) in filter string"),
        ("name = 'a' AND", VERSIONS, "expected AND and another comparison"),
        ("name", VERSIONS, "expected a comparison"),
        ("name > 'a'", VERSIONS, "Invalid comparator for attribute: >"),
        ("tags.a IN ('b')", VERSIONS, "Invalid comparator for tag: IN"),
        ("source_path IN ('b')", VERSIONS, "Invalid comparator for attribute: IN"),
        ("version_number = 'x'", VERSIONS, "Invalid value for numeric attribute 'version_number'"),
        ("version_number = 1.5", VERSIONS, "Invalid value for numeric attribute"),
        ("version_number LIKE '1'", VERSIONS, "Invalid comparator for attribute version_number"),
        ("run_id IN ()", VERSIONS, "expected a non-empty list of string values, but got empty list"),
        ("run_id IN (1,2)", VERSIONS, "got different type in list"),
        ("run_id IN ('a' 'b')", VERSIONS, "got ill-formed list"),
        ("metrics.auc > 1", VERSIONS, "Invalid entity type 'metrics'"),
        ("name = 'a\x00'", VERSIONS, "NUL"),
        ("name = 'a", VERSIONS, "cannot be read from"),
        (" AND ".join(["name = 'a'"] * 65), VERSIONS, "more than 64 comparisons"),
    ],
)
def test_what_is_refused(text: str, grammar: Grammar, says: str) -> None:
    with pytest.raises(InvalidFilter, match=says):
        parse(text, grammar)


WORDS = st.sampled_from(
    ["name", "tags.a", "=", "!=", "IN", "LIKE", "AND", "'a'", '"b"', "(", ")", "1", "`", ","]
)


@given(st.lists(WORDS | st.text(max_size=3), max_size=12), st.sampled_from(["", " "]))
def test_any_text_is_a_filter_or_refused(words: list[str], gap: str) -> None:
    try:
        found = parse(gap.join(words), VERSIONS)
    except InvalidFilter:
        return
    assert found is None or len(list(comparisons(found))) <= 64 * 6
