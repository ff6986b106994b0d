"""Documents as flat facts."""

from __future__ import annotations

import json

import pytest

from registry_service.flat import flatten, numbered, text_facts


@pytest.mark.parametrize(
    ("document", "facts"),
    [
        ({}, {"": "{}"}),
        ({"a": {"b": 1, "c": None}}, {"a.b": "1", "a.c": "null"}),
        ({"a": "x", "b": True, "c": 0.5}, {"a": "x", "b": "true", "c": "0.5"}),
        ({"a": [1, "x"], "b": []}, {"a": '[1, "x"]', "b": "[]"}),
        # Things go by their names, so that one more does not move the others.
        (
            [{"name": "u", "type": "BOOL"}, {"name": "v", "type": "INT64"}],
            {"u.name": "u", "u.type": "BOOL", "v.name": "v", "v.type": "INT64"},
        ),
        ({"p": [{"view": "w", "n": 1}]}, {"p.w.view": "w", "p.w.n": "1"}),
        # Two of one name, or one without: by place.
        ([{"name": "u"}, {"name": "u"}], {"0.name": "u", "1.name": "u"}),
        ([{"name": "u"}, {"x": 1}], {"0.name": "u", "1.x": "1"}),
    ],
)
def test_a_document_leaf_by_leaf(document: object, facts: dict[str, str]) -> None:
    assert flatten(json.dumps(document)) == facts


@pytest.mark.parametrize("text", ["from m import n", "7", '"a"', "{", "[" * 100_000])
def test_another_text_goes_by_its_digest(text: str) -> None:
    assert flatten(text) == text_facts(text)
    assert set(text_facts(text)) == {"sha256", "lines"}


def test_no_text_has_no_facts() -> None:
    assert flatten("") == text_facts("") == {}


def test_lists_are_told_apart_by_order_and_cuts() -> None:
    assert numbered(["a", "b"], "things").startswith("2 things, sha256 ")
    assert len({numbered(items, "x") for items in (["a", "b"], ["b", "a"], ["ab"], ["a b"])}) == 4
