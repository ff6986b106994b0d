"""A LightGBM model read from its text form; the one place in serving that knows LightGBM."""

from __future__ import annotations

from collections.abc import Mapping

import lightgbm
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plumbline.errors import FailedPrecondition
from serving.domain import ColumnType, Release
from serving.matrix import Matrix, MatrixBuilder


class Predictor:
    """Scores rows with one Booster, on the calling thread alone. Safe to use from several threads."""

    def __init__(self, release: Release, text: str) -> None:
        """Reads the Booster and scores one row of missing values with it, so that a model that cannot
        answer is refused here. Raises FailedPrecondition when text, signature and Booster disagree."""
        self._version = release.version
        self._signature = release.signature
        self._matrix = MatrixBuilder(release.signature.inputs)
        try:
            self._booster = lightgbm.Booster(model_str=text)
        except (lightgbm.basic.LightGBMError, ValueError, LookupError) as error:
            raise FailedPrecondition(
                f"{self._version}: LightGBM cannot read {release.path}: {error}"
            ) from error
        self._check_names()
        self.score(np.full((1, len(release.signature.inputs)), np.nan))

    def predict(self, columns: Mapping[str, pa.Array], rows: int) -> dict[str, npt.NDArray[np.floating]]:
        """Outputs by name, `rows` values each. columns: every input by name, `rows` values each."""
        return self.score(self._matrix.build(columns, rows))

    def score(self, matrix: Matrix) -> dict[str, npt.NDArray[np.floating]]:
        """Outputs by name of rows × inputs. The same bits as Booster.predict."""
        # One thread: OpenMP's own pool turns a tail latency of 0.1 ms into 24 ms under load.
        raw = np.asarray(self._booster.predict(matrix, num_threads=1), np.float64)
        scores = raw.reshape(len(matrix), -1)
        outputs = self._signature.outputs
        if scores.shape[1] != len(outputs):
            raise FailedPrecondition(
                f"{self._version}: the model gives {scores.shape[1]} outputs a row, "
                f"its signature names {len(outputs)}"
            )
        return {
            output.name: scores[:, position].astype(
                np.float32 if output.type is ColumnType.FLOAT else np.float64
            )
            for position, output in enumerate(outputs)
        }

    def _check_names(self) -> None:
        inputs = [item.name for item in self._signature.inputs]
        names = self._booster.feature_name()
        if len(names) != len(inputs):
            raise FailedPrecondition(
                f"{self._version}: the model was trained on {len(names)} features, "
                f"its signature names {len(inputs)} inputs"
            )
        if names == [f"Column_{position}" for position in range(len(names))]:
            return  # trained on a bare matrix: there are no names to compare
        for position, (trained, name) in enumerate(zip(names, inputs, strict=True)):
            # LightGBM writes an underscore for a blank in a name.
            if trained != name.replace(" ", "_"):
                raise FailedPrecondition(
                    f"{self._version}: feature {position} of the model is {trained!r}, "
                    f"input {position} of its signature is {name!r}"
                )
