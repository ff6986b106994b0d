"""Columns into the one matrix a Booster reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from serving.domain import ColumnType, ModelInput

Matrix = npt.NDArray[np.float64]


class MatrixBuilder:
    """Builds matrices for one signature.

    A cell is the number the model was trained on: numbers and bools as doubles, a FLOAT first rounded
    to single precision, category k as k. Null, and a value that is not among the categories, is NaN.
    """

    def __init__(self, inputs: Sequence[ModelInput]) -> None:
        self._inputs = tuple(inputs)
        self._categories = {
            item.name: pa.array(item.categories, pa.string()) for item in inputs if item.categories
        }

    def build(self, columns: Mapping[str, pa.Array], rows: int) -> Matrix:
        """A C-ordered matrix of `rows` × inputs. columns: every input by name, `rows` values each."""
        matrix = np.empty((rows, len(self._inputs)), np.float64)
        for position, item in enumerate(self._inputs):
            matrix[:, position] = self._encode(item, columns[item.name])
        return matrix

    def _encode(self, item: ModelInput, values: pa.Array) -> Matrix:
        if item.categories:
            labels = values if pa.types.is_string(values.type) else values.cast(pa.string())
            values = pc.index_in(labels, value_set=self._categories[item.name])
        elif item.type is ColumnType.FLOAT:
            values = pc.cast(values, pa.float32(), safe=False)
        # Integers beyond 2**53 round, as they did when the model was trained.
        doubles: Matrix = pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return doubles
