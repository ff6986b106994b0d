"""Runs the transformations of on-demand views, online and offline by the same function over a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pyarrow as pa
from feast.on_demand_feature_view import OnDemandFeatureView

from feature_service.arrow_types import OPAQUE, arrow_type, to_utc_micros
from feature_service.domain import FeatureView, Field, ValueType
from feature_service.feast_adapters.definitions import declared_type
from feature_service.feast_adapters.values import opaque, plain
from plumbline.features.errors import OnDemandFailed


class FeastOnDemandViews:
    """See ports.OnDemandViews."""

    def compute(self, view: FeatureView, inputs: pa.Table) -> Mapping[str, pa.Array]:
        """See ports.OnDemandViews."""
        if not inputs.num_rows:
            return {item.name: pa.nulls(0, arrow_type(item.type)) for item in view.features}
        try:
            result = _transform(cast("OnDemandFeatureView", view.handle), _readable(view, inputs))
        except Exception as error:  # a user's function may raise anything
            raise _failed(view, f"its transformation raised {type(error).__name__}: {error}") from error
        return {item.name: _declared(view, item, result, inputs.num_rows) for item in view.features}


def _readable(view: FeatureView, inputs: pa.Table) -> pa.Table:
    """Maps, structs and the like as Feast gives them; what comes from files is so already."""
    for projection in view.inputs:
        for item in projection.features:
            for name in (item.name, f"{projection.view}__{item.name}"):
                index = inputs.schema.get_field_index(name)
                if item.type is ValueType.UNSPECIFIED and index >= 0 and inputs[name].type == OPAQUE:
                    inputs = inputs.set_column(index, name, plain(inputs[name].combine_chunks()))
    return inputs


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
    if item.type is ValueType.UNSPECIFIED:
        return _opaque(view, item, column)
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


def _opaque(view: FeatureView, item: Field, column: pa.Array) -> pa.Array:
    try:
        return opaque(column, declared_type(view, item.name))
    except (TypeError, ValueError) as error:
        raise _failed(
            view, f"{item.name} is {column.type}, which is not what is declared: {error}"
        ) from error


def _failed(view: FeatureView, what: str) -> OnDemandFailed:
    return OnDemandFailed(f"on-demand view {view.name}: {what}", metadata={"view": view.name})
