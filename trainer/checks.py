"""What rows must be like before they are learnt from. Each fault says which column and how many rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainer.config import Checks, EntityRows
from trainer.domain import Objective
from trainer.errors import DataRefused
from trainer.evaluate import Floats
from trainer.matrix import Matrix
from trainer.split import Micros, Split


def read_labels(rows: pa.Table, config: EntityRows, objective: Objective) -> Floats:
    """The labels as doubles. Raises DataRefused for nulls and texts; binary takes 0 and 1 alone."""
    column = rows.column(config.label)
    _no_nulls(column, config.label, "a row without a label cannot be learnt from: leave it out")
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise DataRefused(f"label {config.label!r} is {column.type}, not a number or a boolean")
    labels: Floats = column.cast(pa.float64()).to_numpy()
    wrong = ~np.isfinite(labels) if objective == "regression" else ~np.isin(labels, (0.0, 1.0))
    if wrong.any():
        takes = "finite numbers" if objective == "regression" else "0 and 1"
        raise DataRefused(
            f"label {config.label!r} is {labels[wrong][0]:g} in row {int(np.argmax(wrong)):,} "
            f"({int(wrong.sum()):,} such rows); {objective} takes {takes}"
        )
    return labels


def read_times(rows: pa.Table, name: str) -> Micros:
    """A timestamp column as microseconds UTC. Raises DataRefused for nulls."""
    column = rows.column(name)
    _no_nulls(column, name, "every row needs it")
    if column.type.tz is None:
        column = column.cast(pa.timestamp("us"), safe=False)
    result: Micros = column.cast(pa.timestamp("us", tz="UTC"), safe=False).cast(pa.int64()).to_numpy()
    return result


def check_unique(rows: pa.Table, row_id: Sequence[str]) -> None:
    """Raises DataRefused when two rows have the same id, showing one."""
    counted = rows.group_by(list(row_id)).aggregate([([], "count_all")])
    if counted.num_rows == rows.num_rows:
        return
    twice = counted.filter(pc.greater(counted.column("count_all"), 1))
    example = {name: str(twice.column(name)[0].as_py()) for name in row_id}
    raise DataRefused(f"entity rows: {twice.num_rows:,} row ids come more than once, for instance {example}")


def check_split(split: Split, labels: Floats, objective: Objective) -> None:
    """Raises DataRefused for an empty part, and for one with a single class when classes are learnt."""
    for name, mask in split.parts().items():
        here = labels[mask]
        if not len(here):
            raise DataRefused(
                f"split: no row falls into {name}; {split.counts()}. Move the bounds under `split`"
            )
        if objective == "binary" and (here == here[0]).all():
            raise DataRefused(
                f"split: all {len(here):,} rows of {name} have the label {here[0]:g}; two classes are needed"
            )


def check_inputs(matrix: Matrix, checks: Checks) -> list[str]:
    """Warnings about inputs that say nothing in the training rows; DataRefused where `checks` says fail."""
    train = matrix.parts["train"]
    empty: list[str] = []
    constant: list[str] = []
    for place, item in enumerate(matrix.inputs):
        values = train[:, place]
        present = values[~np.isnan(values)]
        if not len(present):
            empty.append(item.name)
        elif len(present) == len(values) and present.min() == present.max():
            constant.append(item.name)
    warnings: list[str] = []
    for names, verdict, what in (
        (
            empty,
            checks.missing_input,
            "no value in any training row: is its view's data there, and its ttl long enough?",
        ),
        (constant, checks.constant_input, "one and the same value in all training rows"),
    ):
        if names and verdict == "fail":
            raise DataRefused(f"{', '.join(names)}: {what} Exclude such inputs, or set `checks` to warn.")
        warnings += [f"{name}: {what}" for name in names]
    return warnings


def _no_nulls(column: pa.ChunkedArray, name: str, why: str) -> None:
    if column.null_count:
        raise DataRefused(f"column {name!r} is null in {column.null_count:,} of {len(column):,} rows; {why}")
