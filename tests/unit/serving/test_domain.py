"""Names, settings, signatures and what fits what."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from plumbline.serving.errors import SignatureMismatch
from plumbline.types.v1 import column_pb2 as types
from serving import codec
from serving.compatibility import check_features, check_inputs
from serving.domain import ColumnType, FeatureSet, ModelRef, Release
from serving.settings import ServingSettings
from tests.unit.serving.fakes import feature_service, signature


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("delay@champion", "models/delay/aliases/champion"),
        ("models/delay/aliases/champion", "models/delay/aliases/champion"),
        ("delay/3", "models/delay/versions/3"),
        ("models/delay/versions/12", "models/delay/versions/12"),
    ],
)
def test_a_model_has_a_full_and_a_short_name(text: str, name: str) -> None:
    assert ModelRef.parse(text).name == name


@pytest.mark.parametrize(
    "text", ["", "delay", "delay@", "@champion", "delay/0", "delay/x", "../x@y", "a b@c"]
)
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="names no model"):
        ModelRef.parse(text)


def test_settings_list_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUMBLINE_SERVING_MODELS", "delay@champion, fraud/2 ,")
    names = [ref.name for ref in ServingSettings().model_refs]
    assert names == ["models/delay/aliases/champion", "models/fraud/versions/2"]


@pytest.mark.parametrize("text", ["", " , ", "delay", "a@b,a@b", "a@b,models/a/aliases/b"])
def test_a_list_of_models_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        ServingSettings(models=text)


def test_a_signature_survives_the_way_to_disk_and_back() -> None:
    release = Release("models/delay/versions/1", "model.txt", "ab" * 32, 7, codec.signature(signature()))
    assert codec.release_from_json(codec.release_json(release)) == release


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "models/delay/versions/1"}', "not json"])
def test_a_damaged_note_is_told_from_a_good_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        codec.release_from_json(text)


def test_a_signature_that_cannot_be_read_names_the_input() -> None:
    broken = signature()
    broken.inputs[1].feature_reference = "seats"
    with pytest.raises(ValueError, match="'seats' has the feature reference 'seats'"):
        codec.signature(broken)
    broken = signature()
    broken.inputs[0].source = 0
    with pytest.raises(ValueError, match="'delay' does not say whether"):
        codec.signature(broken)


def release_of(change: Any = None) -> Release:
    message = signature()
    if change is not None:
        change(message)
    return Release("models/delay/versions/1", "model.txt", "0" * 64, 1, codec.signature(message))


def served(change: Any = None) -> FeatureSet:
    message = feature_service()
    if change is not None:
        change(message)
    return codec.feature_set(message)


def _drop_wind(message: Any) -> None:
    del message.projections[0].features[2]


def _wind_as_text(message: Any) -> None:
    message.projections[0].features[2].type = types.VALUE_TYPE_STRING


def _other_view(message: Any) -> None:
    message.projections[0].view = "other"


def _more_keys(message: Any) -> None:
    message.join_keys.add(name="tail", type=types.VALUE_TYPE_STRING)


def _fewer_keys(message: Any) -> None:
    del message.join_keys[0]


def _key_as_number(message: Any) -> None:
    message.join_keys[0].type = types.VALUE_TYPE_INT64


def _more_request_data(message: Any) -> None:
    message.request_data.add(name="distance", type=types.VALUE_TYPE_DOUBLE)


def _no_request_data(message: Any) -> None:
    del message.request_data[:]


@pytest.mark.parametrize(
    ("change", "column"),
    [
        (_drop_wind, "wind"),
        (_wind_as_text, "wind"),
        (_other_view, "delay"),
        (_more_keys, "tail"),
        (_fewer_keys, "origin"),
        (_key_as_number, "origin"),
        (_more_request_data, "distance"),
        (_no_request_data, "sched"),
    ],
)
def test_definitions_that_changed_under_a_model_are_named(change: Any, column: str) -> None:
    with pytest.raises(SignatureMismatch) as caught:
        check_features(release_of(), served(change))
    assert caught.value.metadata == {"model": "models/delay/versions/1", "column": column}
    assert column in caught.value.message


def _seats_as_double(message: Any) -> None:
    message.projections[0].features[1].type = types.VALUE_TYPE_DOUBLE


def _one_more_feature(message: Any) -> None:
    message.projections[0].features.add(name="snow", type=types.VALUE_TYPE_STRING)


@pytest.mark.parametrize("change", [None, _seats_as_double, _one_more_feature])
def test_definitions_that_still_give_what_is_needed_fit(change: Any) -> None:
    check_features(release_of(), served(change))


def test_a_request_column_may_also_feed_an_on_demand_view() -> None:
    """hour is an input from the caller, and here the definitions take it too."""

    def also_hour(message: Any) -> None:
        message.request_data.add(name="hour", type=types.VALUE_TYPE_INT64)

    check_features(release_of(), served(also_hour))


def _timestamp_input(message: Any) -> None:
    message.inputs[4].type = types.VALUE_TYPE_TIMESTAMP


def _text_without_categories(message: Any) -> None:
    del message.inputs[3].categories[:]


def _double_with_categories(message: Any) -> None:
    message.inputs[0].categories.append("1.5")


def _named_twice(message: Any) -> None:
    message.inputs[1].name = "delay"


def _no_service(message: Any) -> None:
    message.feature_service = ""


def _text_output(message: Any) -> None:
    message.outputs[0].type = types.VALUE_TYPE_STRING


@pytest.mark.parametrize(
    ("change", "column"),
    [
        (_timestamp_input, "hour"),
        (_text_without_categories, "carrier"),
        (_double_with_categories, "delay"),
        (_named_twice, "delay"),
        (_no_service, "delay"),
        (_text_output, "probability"),
    ],
)
def test_a_signature_no_model_can_be_fed_by_is_refused(change: Any, column: str) -> None:
    check_inputs(release_of())
    with pytest.raises(SignatureMismatch) as caught:
        check_inputs(release_of(change))
    assert caught.value.metadata["column"] == column


def test_every_type_of_the_contract_has_a_counterpart() -> None:
    named = {name.removeprefix("VALUE_TYPE_") for name, _ in types.ValueType.items()} - {"UNSPECIFIED"}
    assert named == {kind.name for kind in ColumnType}
    for kind in ColumnType:
        assert codec.column_type(codec.value_type(kind)) is kind
