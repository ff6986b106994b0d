"""Training, validation and test rows, cut by time, without looking into the future."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from trainer.config import SplitAt

Micros = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Split:
    """Which rows belong to which part, as masks of length n; they never overlap.

    unknown_train, unknown_valid: rows of the part's time left out because their label came too late.
    outside: rows before the first part or after the last.
    """

    train: Mask
    valid: Mask
    test: Mask
    unknown_train: int
    unknown_valid: int
    outside: int

    def counts(self) -> dict[str, int]:
        """Rows by what became of them; they add up to n."""
        return {
            "train": int(self.train.sum()),
            "valid": int(self.valid.sum()),
            "test": int(self.test.sum()),
            "label_unknown_train": self.unknown_train,
            "label_unknown_valid": self.unknown_valid,
            "outside": self.outside,
        }

    def parts(self) -> Mapping[str, Mask]:
        """The masks by name."""
        return {"train": self.train, "valid": self.valid, "test": self.test}


def split_rows(event: Micros, label_known: Micros, at: SplitAt) -> Split:
    """Cuts n rows by event time. event, label_known: microseconds UTC.

    A row of train whose label was not known before valid starts is in no part: a model trained at that
    moment could not have learnt from it. The same for valid and the start of test.
    """
    valid_start, test_start = micros(at.valid_start), micros(at.test_start)
    train = event < valid_start
    if at.train_start is not None:
        train &= event >= micros(at.train_start)
    valid = (event >= valid_start) & (event < test_start)
    test = event >= test_start
    if at.test_end is not None:
        test &= event < micros(at.test_end)
    known_train = train & (label_known < valid_start)
    known_valid = valid & (label_known < test_start)
    return Split(
        train=known_train,
        valid=known_valid,
        test=test,
        unknown_train=int(train.sum() - known_train.sum()),
        unknown_valid=int(valid.sum() - known_valid.sum()),
        outside=int(len(event) - train.sum() - valid.sum() - test.sum()),
    )


def micros(moment: datetime) -> int:
    """Microseconds since 1970-01-01T00:00:00Z, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)
