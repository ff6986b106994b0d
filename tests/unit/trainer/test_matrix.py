"""From columns to numbers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from trainer.config import Inputs
from trainer.domain import Definition, Feature, FeatureService, Input, JoinSummary
from trainer.errors import ConfigError, DataRefused
from trainer.matrix import build_matrix, choose_inputs, encode, learn_categories, learn_matrix

_NAN = float("nan")
_TABLE = pa.table(
    {
        "shop": ["b", "a", None, "z", "b"],
        "count": pa.array([1, None, 3, 2**53 + 1, -1]),
        "open": [True, None, False, True, True],
        "small": pa.array([0.1, 0.2, None, 0.4, 0.5], pa.float32()),
        "at": pa.array([0, 1, 2, 3, 4], pa.timestamp("us", tz="UTC")),
    }
)
_TRAIN = np.array([True, True, True, False, False])
_TEST = ~_TRAIN


def _summary(*features: Feature) -> JoinSummary:
    service = FeatureService(Definition("p", "s", "sha256:0"), (), (), ())
    return JoinSummary(5, 5, features, service, None, None)


def _feature(name: str, type_name: str) -> Feature:
    return Feature(name, type_name, f"view:{name}", 5)


def test_categories_come_from_the_training_rows_alone_and_are_sorted() -> None:
    matrix = learn_matrix([Input("shop", "STRING")], _TABLE.column, {"train": _TRAIN, "test": _TEST})
    assert matrix.inputs[0].categories == ("a", "b")
    np.testing.assert_array_equal(matrix.parts["train"][:, 0], [1, 0, _NAN])
    # "z" was never seen in training: missing, not a new number.
    np.testing.assert_array_equal(matrix.parts["test"][:, 0], [_NAN, 1])


def test_the_same_inputs_give_the_same_numbers_again() -> None:
    inputs = [
        Input("shop", "STRING"),
        Input("count", "INT64"),
        Input("open", "BOOL"),
        Input("small", "FLOAT"),
    ]
    learnt = learn_matrix(inputs, _TABLE.column, {"train": _TRAIN, "test": _TEST})
    again = build_matrix(learnt.inputs, _TABLE.column, {"test": _TEST})
    np.testing.assert_array_equal(again.parts["test"], learnt.parts["test"])
    assert learnt.parts["train"].flags.f_contiguous


def test_numbers_booleans_and_nulls() -> None:
    np.testing.assert_array_equal(encode(Input("count", "INT64"), _TABLE["count"]), [1, _NAN, 3, 2.0**53, -1])
    np.testing.assert_array_equal(encode(Input("open", "BOOL"), _TABLE["open"]), [1, _NAN, 0, 1, 1])
    single = encode(Input("small", "FLOAT"), _TABLE["small"])
    np.testing.assert_array_equal(single[:2], [np.float64(np.float32(0.1)), np.float64(np.float32(0.2))])


def test_texts_in_any_layout_encode_alike() -> None:
    item = Input("shop", "STRING", categories=("a", "b"))
    plain = encode(item, _TABLE["shop"])
    np.testing.assert_array_equal(encode(item, _TABLE["shop"].dictionary_encode()), plain)
    np.testing.assert_array_equal(encode(item, _TABLE["shop"].cast(pa.large_string())), plain)
    assert np.isnan(encode(Input("shop", "STRING"), _TABLE["shop"])).all()


def test_categories_are_ordered_by_bytes() -> None:
    column = pa.chunked_array([["å", "z"], ["B", "a", "z", None, ""]])
    assert learn_categories(column) == ("", "B", "a", "z", "å")


def test_entity_columns_come_first_then_features_in_their_order() -> None:
    summary = _summary(_feature("count", "INT64"), _feature("open", "BOOL"))
    chosen = choose_inputs(Inputs(entity_columns=("shop",), exclude=("open",)), _TABLE.schema, summary)
    assert [(item.name, item.reference) for item in chosen] == [("shop", ""), ("count", "view:count")]


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (Inputs(entity_columns=("count",)), ConfigError, "inputs.entity_columns: count not among shop"),
        (Inputs(exclude=("shop",)), ConfigError, "inputs.exclude: shop not among the features count, at"),
        (Inputs(exclude=("count", "at")), ConfigError, "every feature is excluded"),
        (Inputs(), DataRefused, "input 'at' is TIMESTAMP, which a model cannot take"),
    ],
)
def test_inputs_that_cannot_be(inputs: Inputs, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        choose_inputs(
            inputs, _TABLE.schema, _summary(_feature("count", "INT64"), _feature("at", "TIMESTAMP"))
        )


def test_some_of_the_inputs() -> None:
    inputs = [Input("shop", "STRING"), Input("count", "INT64"), Input("open", "BOOL")]
    matrix = learn_matrix(inputs, _TABLE.column, {"train": _TRAIN})
    part = matrix.only(["open", "shop"])
    assert [item.name for item in part.inputs] == ["shop", "open"]
    np.testing.assert_array_equal(part.parts["train"], matrix.parts["train"][:, [0, 2]])
