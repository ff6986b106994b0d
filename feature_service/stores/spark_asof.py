"""The point-in-time join on Spark: what `feature_service.stores.asof_sql` says, by one window for each view.

The entity rows and the feature rows of a key make one sequence, in which a feature row stands at the moment
it counts from. Along it goes the greatest feature row so far, in the order of the rule, and an entity row
takes what has come before it. Entity rows are not joined to anything, so that none can be lost or doubled,
and n of them with m feature rows of their key cost n + m steps. (The SQL of Feast's Spark store pairs each
with each.)
"""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as f

from feature_service.stores.spark_entities import ROW, TIME
from feature_service.stores.spark_sources import ANSWER, AT, EVENT, KEY

_TURN, _RIDER = "pl_turn", "pl_rider"


def latest(
    rows: DataFrame, answers: DataFrame, key: str, values: Mapping[str, str], ttl_micros: int | None
) -> DataFrame:
    """The entity rows with the values of one view.

    rows: with TIME, ROW and the column `key` (null: matches nothing). answers: `spark_sources.feature_rows`.
    values: names of new columns, and the field of ANSWER that each holds.
    """
    rider = f.struct(*(f.col(name) for name in rows.columns))
    # Rows of null keys meet nobody wherever they are; together they would be the work of one executor.
    alone = f.concat(f.lit("null "), f.col(ROW).cast("string"))
    asking = rows.select(
        f.coalesce(f.col(key), alone).alias(KEY),
        f.unix_micros(f.col(TIME)).alias(AT),
        f.lit(1).alias(_TURN),
        rider.alias(_RIDER),
        f.lit(None).cast(answers.schema[ANSWER].dataType).alias(ANSWER),
    )
    telling = answers.select(
        KEY, AT, f.lit(0).alias(_TURN), f.lit(None).cast(asking.schema[_RIDER].dataType).alias(_RIDER), ANSWER
    )
    so_far = (
        Window.partitionBy(KEY).orderBy(AT, _TURN).rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    found = asking.unionByName(telling).withColumn(ANSWER, f.max(ANSWER).over(so_far)).where(f"{_TURN} = 1")
    return found.select(
        f"{_RIDER}.*", *(_valid(field, ttl_micros).alias(name) for name, field in values.items())
    )


def _valid(field: str, ttl_micros: int | None) -> Column:
    value = f.col(f"{ANSWER}.{field}")
    if ttl_micros is None:
        return value
    return f.when(f.col(f"{ANSWER}.{EVENT}") >= f.col(AT) - f.lit(ttl_micros), value)
