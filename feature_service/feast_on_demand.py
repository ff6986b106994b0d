"""Runs the transformations of on-demand views, online and offline by the same function over a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pyarrow as pa
from feast.on_demand_feature_view import OnDemandFeatureView

from feature_service.arrow_types import arrow_type, to_utc_micros
from feature_service.domain import FeatureView, Field, ValueType
from plumbline.features.errors import OnDemandFailed


class FeastOnDemandViews:
    """See ports.OnDemandViews."""

    def compute(self, view: FeatureView, inputs: pa.Table) -> Mapping[str, pa.Array]:
        """See ports.OnDemandViews."""
        if not inputs.num_rows:
            return {item.name: pa.nulls(0, arrow_type(item.type)) for item in view.features}
        try:
            result = _transform(cast("OnDemandFeatureView", view.handle), inputs)
        except Exception as error:  # a user's function may raise anything
            raise _failed(view, f"its transformation raised {type(error).__name__}: {error}") from error
        return {item.name: _declared(view, item, result, inputs.num_rows) for item in view.features}


def _transform(odfv: OnDemandFeatureView, inputs: pa.Table) -> pa.Table:
    if odfv.singleton:
        # The function takes one row as a mapping and gives one back.
        udf = cast("Any", odfv.feature_transformation).udf
        return pa.Table.from_pylist([udf(row) for row in inputs.to_pylist()])
    # Not odfv.transform_arrow: it would add features of one name, of several views, under that name twice.
    transformation = cast("Any", odfv.feature_transformation)
    return cast("pa.Table", transformation.transform_arrow(inputs, odfv.features))


def _declared(view: FeatureView, item: Field, result: pa.Table, rows: int) -> pa.Array:
    """A column of the result in the type the view declares. NaN counts as null, as pandas has it."""
    if item.name not in result.column_names:
        raise _failed(view, f"its transformation gives no column {item.name!r}")
    column = result[item.name].combine_chunks()
    if len(column) != rows:
        raise _failed(view, f"its transformation gives {len(column)} rows for {rows}")
    wanted = arrow_type(item.type)
    if column.type == wanted:
        return column
    try:
        if item.type is ValueType.TIMESTAMP and pa.types.is_timestamp(column.type):
            return to_utc_micros(column)
        if item.type in (ValueType.FLOAT, ValueType.DOUBLE):
            return column.cast(wanted, safe=False)
        return column.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise _failed(view, f"{item.name} is {column.type}, declared {item.type}: {error}") from error


def _failed(view: FeatureView, what: str) -> OnDemandFailed:
    return OnDemandFailed(f"on-demand view {view.name}: {what}", metadata={"view": view.name})
