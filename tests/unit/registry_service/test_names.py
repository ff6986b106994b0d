from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.registry.errors import InvalidName
from registry_service import names
from registry_service.domain import AliasRef, DefinitionRef, NodeKind, VersionRef

HEX = "0123456789abcdef" * 4

model_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}", fullmatch=True)
alias_ids = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_\-]{0,127}", fullmatch=True)
definition_ids = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,40}", fullmatch=True)


@given(model_ids, st.integers(1, 10**18 - 1), alias_ids)
def test_names_and_parts_go_both_ways(model: str, number: int, alias: str) -> None:
    version, holder = VersionRef(model, number), AliasRef(model, alias)
    assert names.model("name", f"models/{model}") == names.model_id("id", model) == model
    assert names.version("name", str(version)) == names.version_or_alias("name", str(version)) == version
    assert names.alias("name", str(holder)) == names.version_or_alias("name", str(holder)) == holder
    assert names.node("node", str(version)) == (NodeKind.MODEL_VERSION, version)
    assert names.node("node", str(holder)) == (NodeKind.ALIAS, holder)


@given(definition_ids, definition_ids, st.booleans())
def test_a_definition_is_the_same_with_and_without_the_prefix_of_its_digest(
    project: str, name: str, prefixed: bool
) -> None:
    written = f"featureViews/{project}/{name}@{'sha256:' if prefixed else ''}{HEX}"
    assert names.feature_view("f", written) == DefinitionRef(project, name, f"sha256:{HEX}")


@given(st.text(max_size=40))
def test_whatever_comes_is_parsed_or_refused_with_its_field(text: str) -> None:
    parsers: list[Callable[[str, str], object]] = [
        names.model_id,
        names.model,
        names.version,
        names.alias,
        names.run,
        names.dataset,
        names.commit,
        names.feature_service,
        names.feature_view,
        names.node,
    ]
    for parse in parsers:
        error = _refusal(parse, text)
        if error is None:
            assert text.isascii()
            assert text.isprintable()
        else:
            assert error.metadata == {"field": "some.field"}
            assert [violation.field for violation in error.violations] == ["some.field"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "flights",
        "models/",
        "models/.hidden",
        "models/-x",
        "models/a b",
        "models/a/b",
        "models/a\n",
        "models/ü",
        "models/" + "x" * 129,
        "models/a%2Fb",
        "Models/a",
    ],
)
def test_names_that_are_no_models(name: str) -> None:
    with pytest.raises(InvalidName, match="name"):
        names.model("name", name)


@pytest.mark.parametrize("number", ["0", "01", "-1", "1.0", "latest", "", "１", "9" * 19])
def test_numbers_that_are_no_versions(number: str) -> None:
    with pytest.raises(InvalidName):
        names.version("name", f"models/a/versions/{number}")


@pytest.mark.parametrize("alias", ["latest", "LATEST", "v1", "V20", "v007"])
def test_reserved_aliases_can_be_read_but_not_set(alias: str) -> None:
    assert names.alias("name", f"models/a/aliases/{alias}").alias == alias
    with pytest.raises(InvalidName, match="reserved"):
        names.settable_alias("name", f"models/a/aliases/{alias}")


@pytest.mark.parametrize("alias", ["champion", "v", "v1-canary", "latest-2", "version1", "_x"])
def test_aliases_that_only_look_reserved(alias: str) -> None:
    assert names.settable_alias("name", f"models/a/aliases/{alias}").alias == alias


def test_a_long_wrong_name_is_shown_short() -> None:
    with pytest.raises(InvalidName) as caught:
        names.model("name", "x" * 10_000)
    assert len(caught.value.message) < 500


def _refusal(parse: Callable[[str, str], object], text: str) -> InvalidName | None:
    try:
        parse("some.field", text)
    except InvalidName as error:
        return error
    return None
