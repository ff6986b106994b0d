"""The score of a row is the Booster's own, to the bit."""

from __future__ import annotations

import dataclasses

import lightgbm
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.errors import FailedPrecondition
from serving import codec
from serving.domain import ColumnType, Field, ModelInput, Release, Signature
from serving.matrix import MatrixBuilder
from serving.predictor import Predictor
from tests.unit.serving.fakes import CARRIERS, signature, train

TEXT, BOOSTER = train(1)
RELEASE = Release("models/delay/versions/1", "model.txt", "0" * 64, len(TEXT), codec.signature(signature()))
PREDICTOR = Predictor(RELEASE, TEXT)

doubles = st.one_of(st.none(), st.floats(-1e6, 1e6), st.just(float("nan")), st.just(float("inf")))
whole = st.one_of(st.none(), st.integers(-(2**62), 2**62))
singles = st.one_of(st.none(), st.floats(-1e6, 1e6, width=32))
carriers = st.one_of(st.none(), st.sampled_from([*CARRIERS, "ZZ", "", "aa"]))
rows = st.lists(st.tuples(doubles, whole, singles, carriers, whole), min_size=1, max_size=20)


def expected_matrix(cells: list[tuple[object, ...]]) -> np.ndarray:
    """Cell by cell, as the contract words it."""

    def encode(value: object, position: int) -> float:
        if value is None:
            return np.nan
        if position == 3:
            return float(CARRIERS.index(value)) if value in CARRIERS else np.nan
        return float(value)  # type: ignore[arg-type]

    return np.array([[encode(value, i) for i, value in enumerate(row)] for row in cells], np.float64)


@settings(deadline=None, max_examples=60)
@given(rows)
def test_scores_equal_the_boosters_bit_by_bit(cells: list[tuple[object, ...]]) -> None:
    kinds = [pa.float64(), pa.int64(), pa.float32(), pa.string(), pa.int64()]
    names = [item.name for item in RELEASE.signature.inputs]
    table = {name: pa.array([row[i] for row in cells], kinds[i]) for i, name in enumerate(names)}
    ours = PREDICTOR.predict(table, len(cells))["probability"]
    theirs = BOOSTER.predict(expected_matrix(cells))
    assert ours.tobytes() == np.asarray(theirs).tobytes()


def test_order_of_the_columns_given_does_not_matter() -> None:
    table = {
        "hour": pa.array([7]),
        "carrier": pa.array(["DL"]),
        "wind": pa.array([3.5], pa.float32()),
        "seats": pa.array([150]),
        "delay": pa.array([25.0]),
    }
    expected = BOOSTER.predict(np.array([[25.0, 150, 3.5, 2, 7]]))
    assert PREDICTOR.predict(table, 1)["probability"][0] == expected[0]


def test_a_double_is_rounded_to_the_single_precision_the_model_was_trained_on() -> None:
    builder = MatrixBuilder([ModelInput("x", ColumnType.FLOAT)])
    assert builder.build({"x": pa.array([0.1])}, 1)[0, 0] == float(np.float32(0.1))
    builder = MatrixBuilder([ModelInput("x", ColumnType.DOUBLE)])
    assert builder.build({"x": pa.array([0.1])}, 1)[0, 0] == 0.1


def test_whole_numbers_and_bools_may_be_categories() -> None:
    builder = MatrixBuilder(
        [
            ModelInput("day", ColumnType.INT64, categories=("7", "1")),
            ModelInput("holiday", ColumnType.BOOL, categories=("false", "true")),
        ]
    )
    matrix = builder.build(
        {"day": pa.array([1, 7, 3, None]), "holiday": pa.array([True, False, None, True])}, 4
    )
    np.testing.assert_array_equal(matrix[:, 0], [1, 0, np.nan, np.nan])
    np.testing.assert_array_equal(matrix[:, 1], [1, 0, np.nan, 1])


def test_bools_without_categories_are_zero_and_one() -> None:
    builder = MatrixBuilder([ModelInput("b", ColumnType.BOOL)])
    np.testing.assert_array_equal(
        builder.build({"b": pa.array([True, None, False])}, 3)[:, 0], [1, np.nan, 0]
    )


def test_several_outputs_are_named_in_the_models_order() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(300, 2))
    params = {"objective": "multiclass", "num_class": 3, "verbosity": -1, "num_threads": 1}
    booster = lightgbm.train(params, lightgbm.Dataset(data, rng.integers(0, 3, 300)), 5)
    sig = Signature(
        inputs=(ModelInput("a", ColumnType.DOUBLE), ModelInput("b", ColumnType.DOUBLE)),
        outputs=tuple(Field(name, ColumnType.FLOAT) for name in ("low", "mid", "high")),
    )
    predictor = Predictor(dataclasses.replace(RELEASE, signature=sig), booster.model_to_string())
    outputs = predictor.predict({"a": pa.array(data[:4, 0]), "b": pa.array(data[:4, 1])}, 4)
    assert list(outputs) == ["low", "mid", "high"]
    expected = np.asarray(booster.predict(data[:4]), np.float32)
    np.testing.assert_array_equal(np.column_stack(list(outputs.values())), expected)
    assert outputs["mid"].dtype == np.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: dataclasses.replace(s, inputs=s.inputs[:-1]), "trained on 5 features"),
        (lambda s: dataclasses.replace(s, inputs=s.inputs[::-1]), "feature 0 of the model is 'delay'"),
        (lambda s: dataclasses.replace(s, outputs=s.outputs * 2), "gives 1 outputs a row"),
    ],
)
def test_a_model_that_contradicts_its_signature_is_refused(change, message: str) -> None:  # type: ignore[no-untyped-def]
    release = dataclasses.replace(RELEASE, signature=change(RELEASE.signature))
    with pytest.raises(FailedPrecondition, match=message):
        Predictor(release, TEXT)


def test_a_file_that_is_no_model_is_refused() -> None:
    with pytest.raises(FailedPrecondition, match=r"LightGBM cannot read model.txt"):
        Predictor(RELEASE, "this is no model")
