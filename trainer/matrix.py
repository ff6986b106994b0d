"""From columns to the numbers LightGBM sees.

A number is itself as a double, a boolean 0 or 1, a text the place of its category among those learnt from
the training rows; whatever is null or not among the categories is NaN. Serving does the same by the
signature alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from plumbline.columns import value_type
from trainer import codec
from trainer.config import Inputs
from trainer.domain import Input, JoinSummary
from trainer.errors import ConfigError, DataRefused
from trainer.evaluate import Floats
from trainer.split import Mask

#: Types an input may have.
NUMERIC = frozenset({"DOUBLE", "FLOAT", "INT64", "INT32", "BOOL"})
CATEGORICAL = frozenset({"STRING"})

ReadColumn = Callable[[str], pa.ChunkedArray]

# LightGBM takes feature names into a JSON-like text and refuses these.
_FORBIDDEN = frozenset('",:[]{}')


@dataclass(frozen=True)
class Matrix:
    """Rows × inputs, float64, column after column in memory: a column is filled and read in one go."""

    inputs: tuple[Input, ...]
    parts: Mapping[str, npt.NDArray[np.float64]]

    def only(self, names: Sequence[str]) -> Matrix:
        """The same rows with some of the inputs, in the order of `inputs`."""
        places = [i for i, item in enumerate(self.inputs) if item.name in set(names)]
        return Matrix(
            tuple(self.inputs[i] for i in places),
            {part: np.asfortranarray(values[:, places]) for part, values in self.parts.items()},
        )


def choose_inputs(config: Inputs, schema: pa.Schema, summary: JoinSummary) -> tuple[Input, ...]:
    """The inputs of the model, still without categories: columns of the entity rows first, then features.

    Raises ConfigError for a name that is no such column, DataRefused for a type a model cannot take.
    """
    features = {feature.name: feature for feature in summary.features}
    entity_columns = [name for name in schema.names if name not in features]
    unknown = sorted(set(config.entity_columns) - set(entity_columns))
    if unknown:
        raise ConfigError(
            f"inputs.entity_columns: {', '.join(unknown)} not among {', '.join(entity_columns)}"
        )
    unknown = sorted(set(config.exclude) - features.keys())
    if unknown:
        raise ConfigError(
            f"inputs.exclude: {', '.join(unknown)} not among the features {', '.join(features)}"
        )
    chosen = [
        Input(name, codec.type_name(value_type(schema.field(name).type)))
        for name in dict.fromkeys(config.entity_columns)
    ]
    chosen += [
        Input(feature.name, feature.type, feature.reference)
        for feature in summary.features
        if feature.name not in config.exclude
    ]
    if not chosen:
        raise ConfigError("inputs: every feature is excluded; nothing is left to learn from")
    for item in chosen:
        if item.type not in NUMERIC | CATEGORICAL:
            raise DataRefused(
                f"input {item.name!r} is {item.type}, which a model cannot take; put it into inputs.exclude "
                "or make a number or a text of it in an on-demand view"
            )
        if _FORBIDDEN & set(item.name):
            raise DataRefused(
                f"input {item.name!r}: LightGBM allows none of {' '.join(sorted(_FORBIDDEN))} in names"
            )
    return tuple(chosen)


def learn_matrix(inputs: Sequence[Input], read: ReadColumn, parts: Mapping[str, Mask]) -> Matrix:
    """The matrix of each part; categories are learnt from the part "train" and kept in `Matrix.inputs`."""
    learnt: list[Input] = []
    values = _empty(len(inputs), parts)
    for place, item in enumerate(inputs):
        column = read(item.name)
        if item.categorical:
            item = replace(item, categories=learn_categories(column.filter(pa.array(parts["train"]))))
        _fill(values, place, item, column, parts)
        learnt.append(item)
    return Matrix(tuple(learnt), values)


def build_matrix(inputs: Sequence[Input], read: ReadColumn, parts: Mapping[str, Mask]) -> Matrix:
    """The matrix of each part by the categories that the inputs have."""
    values = _empty(len(inputs), parts)
    for place, item in enumerate(inputs):
        _fill(values, place, item, read(item.name), parts)
    return Matrix(tuple(inputs), values)


def learn_categories(values: pa.ChunkedArray) -> tuple[str, ...]:
    """The distinct texts in order of their UTF-8 bytes, nulls left out."""
    distinct = pc.unique(_plain(values).drop_null()).to_pylist()
    return tuple(sorted(distinct, key=lambda text: text.encode()))


def encode(item: Input, values: pa.ChunkedArray) -> Floats:
    """A column as doubles, NaN where it is null or its text is not among the categories."""
    values = _plain(values)
    if item.categorical:
        if not item.categories:
            return np.full(len(values), np.nan)
        values = pc.index_in(values, value_set=pa.array(item.categories, values.type))
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())
    # int64 beyond 2^53 rounds to the nearest double, as it does when served.
    result: Floats = values.cast(pa.float64(), safe=False).to_numpy()
    return result


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values


def _empty(width: int, parts: Mapping[str, Mask]) -> dict[str, npt.NDArray[np.float64]]:
    return {name: np.empty((int(mask.sum()), width), np.float64, order="F") for name, mask in parts.items()}


def _fill(
    values: Mapping[str, npt.NDArray[np.float64]],
    place: int,
    item: Input,
    column: pa.ChunkedArray,
    parts: Mapping[str, Mask],
) -> None:
    encoded = encode(item, column)
    for name, mask in parts.items():
        values[name][:, place] = encoded[mask]
