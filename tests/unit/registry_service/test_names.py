from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plumbline.registry.errors import InvalidName
from registry_service import names
from registry_service.domain import AliasRef, DefinitionRef, NodeKind, VersionRef

HEX = "0123456789abcdef" * 4


def is_model(name: str) -> bool:
    """MLflow's rules, said in another way."""
    return (
        0 < len(name) <= 256
        and name.isprintable()
        and not set(name) & set("/:")
        and name == name.strip()
        and name not in ("-", ".", "..")
    )


# Also of the characters and lengths at the edges of the rules, lone surrogates included.
texts = st.text(st.characters(), max_size=300) | st.text(
    st.sampled_from("aZ9_-. /:%üЖ模\u0301\u00a0\u200b\u202e\u3000\t\n\r\x00\x1f\x7f\x85\ud800"), max_size=6
)
model_ids = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=256).filter(
    is_model
)
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


@given(texts)
@example("a" * 256)
@example("a" * 257)
@example("a" * 256 + "\n")
@example("模" * 256)
@example("- x")
@example("...")
@example("-a")
def test_models_are_named_by_mlflows_rules_wherever_the_name_stands(name: str) -> None:
    parsers: list[tuple[Callable[[str, str], object], str]] = [
        (names.model_id, name),
        (names.model, f"models/{name}"),
        (names.version, f"models/{name}/versions/3"),
        (names.alias, f"models/{name}/aliases/champion"),
        (names.settable_alias, f"models/{name}/aliases/champion"),
        (names.version_or_alias, f"models/{name}/versions/3"),
        (names.version_or_alias, f"models/{name}/aliases/champion"),
        (names.model_or_alias, f"models/{name}"),
        (names.model_or_alias, f"models/{name}/aliases/champion"),
        (names.node, f"models/{name}"),
        (names.node, f"models/{name}/versions/3"),
        (names.node, f"models/{name}/aliases/champion"),
    ]
    for parse, value in parsers:
        assert (_refusal(parse, value) is None) == is_model(name), (parse, value)


@given(definition_ids, definition_ids, st.booleans())
def test_a_definition_is_the_same_with_and_without_the_prefix_of_its_digest(
    project: str, name: str, prefixed: bool
) -> None:
    written = f"featureViews/{project}/{name}@{'sha256:' if prefixed else ''}{HEX}"
    assert names.feature_view("f", written) == DefinitionRef(project, name, f"sha256:{HEX}")


@given(texts)
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
            assert text.isprintable()
            assert text == text.strip()
        else:
            assert error.metadata == {"field": "some.field"}
            assert [violation.field for violation in error.violations] == ["some.field"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "flights",
        "models/",
        "models/-",
        "models/.",
        "models/..",
        "models/ a",
        "models/a ",
        "models/a/b",
        "models/a:b",
        "models/a\n",
        "models/a\x00",
        "models/a\u202eb",
        "models/a\u00a0",
        "models/" + "x" * 257,
        "Models/a",
    ],
)
def test_names_that_are_no_models(name: str) -> None:
    with pytest.raises(InvalidName, match="name"):
        names.model("name", name)


@pytest.mark.parametrize(
    "name",
    [".hidden", "-x", "a b", "ü", "模型", "a%2Fb", "versions", "...", "x" * 256, "{curly}", "a\\b", "@"],
)
def test_names_that_are_models(name: str) -> None:
    assert names.model("name", f"models/{name}") == name


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
