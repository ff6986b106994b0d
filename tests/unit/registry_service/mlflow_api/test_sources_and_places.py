"""Where models are said to be, and where files are given out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.registry.errors import InvalidField, InvalidName
from registry_service import names
from registry_service.domain import ModelFile, VersionRef
from registry_service.mlflow_api import places
from registry_service.mlflow_api.artifacts import entries
from registry_service.mlflow_api.sources import RegisteredSource, parse


@pytest.mark.parametrize(
    "source",
    [
        "s3://bucket/path",
        "file:///home/ann/model",
        "/home/ann/model",
        "runs:/abc/model",
        "models:/m-0123456789abcdef",
        "mlflow-artifacts:/1/a/artifacts/model",
        "https://h/x%20y",
        "prompt-template",
        "s3://b/a..b/c",
    ],
)
def test_a_source_is_a_note(source: str) -> None:
    assert parse(source) is None


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("models:/m/3", RegisteredSource("m", version=3)),
        ("models:/m@champion", RegisteredSource("m", alias="champion")),
        ("models:/a b@c@d", RegisteredSource("a b@c", alias="d")),
        ("models:/m/production", RegisteredSource("m", stage="Production")),
        ("models:/m/Latest", RegisteredSource("m")),
    ],
)
def test_a_source_that_is_another_version(source: str, found: RegisteredSource) -> None:
    assert parse(source) == found


@pytest.mark.parametrize(
    "source",
    [
        "s3://bucket/../other",
        "s3://bucket/%2e%2e/other",
        "s3://bucket/%252e%252e/other",
        "http://h/mlflow-artifacts/..%5c..%5cetc",
        "..",
        "file:///a/b%00",
        "file:///a\nb",
        "models://other/m/3",
        "models:/m/3/path",
        "models:/m/no-such-stage",
        "models:m",
        "s3://%" + "25" * 12 + "2e",
    ],
)
def test_a_source_that_leads_astray(source: str) -> None:
    with pytest.raises(InvalidField, match="Invalid model version source"):
        parse(source)


MODEL_NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=20)


@given(MODEL_NAMES, st.integers(1, 10**17), st.sampled_from(["", "model.txt", "a/b c"]))
def test_a_place_is_found_again(name: str, number: int, below: str) -> None:
    try:
        names.model_id("name", name)
    except InvalidName:
        return
    ref = VersionRef(name, number)
    place = places.of_version(ref)
    # As it is in a URL, whoever encodes or decodes it.
    assert all(character.isascii() and (character.isalnum() or character in "-_.~/") for character in place)
    assert places.parse(f"{place}/{below}" if below else place) == (ref, below)


@pytest.mark.parametrize(
    "path",
    ["", "models", "models/m", "models/m/0", "models/m/x", "etc/passwd", "models/~!/1", "../models/m/1"],
)
def test_what_is_no_place(path: str) -> None:
    assert places.parse(path) is None


@given(st.text(max_size=30))
def test_any_path_is_a_place_or_none(path: str) -> None:
    try:
        found = places.parse(f"models/{path}")
    except InvalidName:
        return
    assert found is None or f"/{found[1]}" in f"models/{path}/"


FILES = tuple(ModelFile(path, "0" * 64, size, "") for size, path in enumerate(("a", "b/c", "b/d/e", "bb")))


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("", [("a", False), ("b", True), ("bb", False)]),
        ("b", [("c", False), ("d", True)]),
        ("b/d/", [("e", False)]),
        ("a", [("a", False)]),
        ("b/c", [("c", False)]),
        ("../b", []),
        ("nothing", []),
    ],
)
def test_what_is_in_a_folder(folder: str, found: list[tuple[str, bool]]) -> None:
    assert [(entry["path"], entry["is_dir"]) for entry in entries(FILES, folder)] == found
