"""What a point-in-time join means, and how sources are read for it by DuckDB.

For an entity row at time T and a view with a ttl, the join gives the feature row
  1. of the same join keys (a null key matches nothing),
  2. with event time ≤ T and, under CREATED_BY_THEN, created ≤ T (a row without a created time counts
     from its event time),
  3. greatest by (event time, created, the order in which rows were pushed, feature values in the order of
     the view's schema), nulls least,
  4. and gives nothing when that row's event time is < T − ttl.

Both bounds are inclusive: a row of time T counts at T, and so does one exactly as old as the ttl. The ttl is
looked at last: an older row never stands in for a newest one that is too old. Rows that agree in all of (3)
say the same. Under IGNORE_CREATED, (2) asks for event time ≤ T alone, and created still decides in (3). How
the rows are found is said in `join_sql`.

Times inside are int64 microseconds since 1970, UTC: DuckDB has a dozen timestamp types, whose casts and
printing depend on the session's time zone; integers do not.
"""

# Identifiers are quoted by `ident`, values are integers or quoted by `literal`, and both come from
# definitions, never from a request.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from feature_service.domain import KnownAt, ValueType
from feature_service.stores.parts import PART_NAME

_SQL_TYPES = {
    ValueType.DOUBLE: "DOUBLE",
    ValueType.FLOAT: "FLOAT",
    ValueType.INT64: "BIGINT",
    ValueType.INT32: "INTEGER",
    ValueType.BOOL: "BOOLEAN",
    ValueType.STRING: "VARCHAR",
    ValueType.BYTES: "BLOB",
    ValueType.TIMESTAMP: "BIGINT",
}
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER")
_WIDE = ("UBIGINT", "UHUGEINT")
_FLOATS = ("FLOAT", "DOUBLE")
#: The column that holds the name of each row's file, where it is asked for.
FILE = "plumbline file"


@dataclass(frozen=True)
class ParquetRows:
    """Parquet files (paths or URIs) that together hold the rows of one source; none: no rows.

    partitions: the columns that their folders hold (a hive-partitioned tree), each with the DuckDB type to
    read it as; "" for what its values look like.
    """

    files: tuple[str, ...]
    timestamp: str
    created: str | None = None
    partitions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class SourceColumn:
    """A column of the source, the name and type it goes by; UNSPECIFIED: as the source has it."""

    name: str
    column: str
    type: ValueType


@dataclass(frozen=True)
class SourceView:
    """A view as the joins see it.

    keys: `name` is the column of the entity table to join with. features: those asked for.
    tie_break: all features of the view, whatever is asked for, so that equal times are decided alike.
    """

    name: str
    rows: ParquetRows
    keys: tuple[SourceColumn, ...]
    features: tuple[SourceColumn, ...]
    tie_break: tuple[SourceColumn, ...]
    ttl_micros: int | None = None


def ident(name: str) -> str:
    """A quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A quoted string."""
    return "'" + text.replace("'", "''") + "'"


def relation(rows: ParquetRows, *, with_part: bool = False) -> str:
    """The FROM item that reads the files. with_part: with a column more, for `part`."""
    part = f", filename={literal(FILE)}" if with_part else ""

    def read(files: Sequence[str], hive: str) -> str:
        return f"read_parquet([{', '.join(map(literal, files))}], union_by_name=true{part}, {hive})"

    # Said, not guessed: a folder above the source may have a name with "=" in it.
    plain = "hive_partitioning=false"
    if not rows.partitions:
        return read(rows.files, plain)
    types = ", ".join(f"{literal(name)}: {kind}" for name, kind in rows.partitions if kind)
    inside = [file for file in rows.files if all(f"/{name}=" in file for name, _ in rows.partitions)]
    hive = read(inside, "hive_partitioning=true" + (f", hive_types={{{types}}}" if types else ""))
    outside = [file for file in rows.files if file not in set(inside)]
    if not outside:
        return hive
    return f"(SELECT * FROM {hive} UNION ALL BY NAME SELECT * FROM {read(outside, plain)})"


def part() -> str:
    """An expression that is greater for rows pushed later; rows that were not pushed come first."""
    return f"regexp_extract({ident(FILE)}, {literal('/' + PART_NAME)}, 1)"


def describe(rows: ParquetRows) -> str:
    """Query for (column name, DuckDB type, …) of the source."""
    return f"DESCRIBE SELECT * FROM {relation(rows)}"


def partition_type(kind: ValueType | None) -> str:
    """The DuckDB type to read a partition column as, from the type that is declared for it, if any."""
    if kind is ValueType.TIMESTAMP:
        return "TIMESTAMP"
    return _SQL_TYPES.get(kind, "VARCHAR") if kind else "VARCHAR"


def micros(expression: str, sql_type: str) -> str:
    """Microseconds of a timestamp or date expression of a DuckDB type; naive values count as UTC."""
    if sql_type.endswith("_NS"):
        return f"(epoch_ns({expression}) // 1000)"
    return f"epoch_us({expression})"


def is_time(sql_type: str) -> bool:
    """Whether a DuckDB type is a timestamp or a date; a list of them is neither."""
    return (sql_type.startswith("TIMESTAMP") and not sql_type.endswith("]")) or sql_type == "DATE"


def typed(expression: str, sql_type: str, wanted: ValueType, column: str) -> str:
    """An expression of a source column in a wanted type.

    Loses nothing silently: a value that does not fit raises when it is read. A column of an unfit type
    is accepted as long as it holds nothing but nulls, which is how writers spell an empty column.
    """
    if wanted is ValueType.UNSPECIFIED:
        return expression
    if wanted.is_list:
        if not sql_type.endswith("[]"):
            return _refused(expression, f"{_SQL_TYPES[wanted.element]}[]", sql_type, wanted, column)
        element = typed("x", sql_type[:-2], wanted.element, column)
        return expression if element == "x" else f"list_transform({expression}, lambda x: {element})"
    target = _SQL_TYPES[wanted]
    base = sql_type.split("(")[0]
    if wanted is ValueType.TIMESTAMP:
        if is_time(base):
            return micros(expression, base)
    elif base == target:
        return expression
    elif wanted in (ValueType.INT64, ValueType.INT32):
        if base in _INTEGERS or base in _WIDE:
            return f"CAST({expression} AS {target})"
        if base in _FLOATS or base == "DECIMAL":
            # Writers store integers with nulls as doubles, and then null as NaN.
            whole = f"{expression} = trunc({expression})"
            fault = f"error({literal(f'column {column} holds fractions, declared {wanted}')})"
            nan = f"isnan({expression})" if base in _FLOATS else "false"
            return (
                f"CASE WHEN {expression} IS NULL OR {nan} THEN NULL "
                f"WHEN {whole} THEN CAST({expression} AS {target}) ELSE CAST({fault} AS {target}) END"
            )
    elif wanted in (ValueType.DOUBLE, ValueType.FLOAT):
        if base in _INTEGERS or base in _WIDE or base in _FLOATS or base == "DECIMAL":
            return f"CAST({expression} AS {target})"
    elif wanted is ValueType.STRING and base in ("ENUM", "UUID", "JSON"):
        return f"CAST({expression} AS VARCHAR)"
    return _refused(expression, target, sql_type, wanted, column)


@dataclass(frozen=True)
class Matching:
    """A condition on rows: their `columns` are in what the query gives. No columns: no condition."""

    query: str
    columns: tuple[str, ...]


EVERYTHING = Matching("", ())


def rows(
    view: SourceView,
    types: Mapping[str, str],
    *,
    tie_break: bool,
    where: Sequence[str] = (),
    only: Matching | None = None,
    known_at: KnownAt = KnownAt.CREATED_BY_THEN,
) -> str:
    """Query for the rows that can matter, as (k0…, ev, cr, known, f0…[, t0…, part]).

    types: DuckDB type of each source column. where, only: further conditions over those names.
    """
    columns = [
        f"{typed(ident(key.column), types[key.column], key.type, key.column)} AS k{i}"
        for i, key in enumerate(view.keys)
    ]
    columns.append(f"{micros(ident(view.rows.timestamp), types[view.rows.timestamp])} AS ev")
    created = view.rows.created
    columns.append(f"{micros(ident(created), types[created]) if created else 'CAST(NULL AS BIGINT)'} AS cr")
    columns.append(f"{'greatest(ev, cr)' if known_at is KnownAt.CREATED_BY_THEN else 'ev'} AS known")
    for prefix, wanted in (("f", view.features), ("t", view.tie_break if tie_break else ())):
        columns += [
            f"{typed(ident(item.column), types[item.column], item.type, item.column)} AS {prefix}{i}"
            for i, item in enumerate(wanted)
        ]
    if tie_break:
        columns.append(f"{part()} AS part")
    conditions = ["ev IS NOT NULL", *(f"k{i} IS NOT NULL" for i in range(len(view.keys))), *where]
    semi = (
        f" SEMI JOIN ({only.query}) AS wanted USING ({', '.join(only.columns)})"
        if only and only.columns
        else ""
    )
    return (
        f"SELECT s.* FROM (SELECT {', '.join(columns)} FROM {relation(view.rows, with_part=tie_break)}) AS s"
        f"{semi} WHERE {' AND '.join(conditions)}"
    )


def descending(view: SourceView, *, tie_break: bool) -> list[str]:
    """The order of rows of one event time, greatest first."""
    order = ["cr DESC NULLS LAST"]
    if tie_break:
        order += ["part DESC", *(f"t{i} DESC NULLS LAST" for i in range(len(view.tie_break)))]
    return order


def key_list(view: SourceView) -> list[str]:
    """k0…, one for each join key."""
    return [f"k{i}" for i in range(len(view.keys))]


def _refused(expression: str, target: str, sql_type: str, wanted: ValueType, column: str) -> str:
    fault = literal(f"column {column} is {sql_type}, declared {wanted}")
    return f"CASE WHEN {expression} IS NULL THEN NULL ELSE CAST(error({fault}) AS {target}) END"


def pull(
    rows: ParquetRows,
    types: Mapping[str, str],
    keys: Sequence[str],
    columns: Sequence[str],
    start: int | None,
    end: int | None,
    *,
    newest_only: bool,
) -> str:
    """Query for keys, columns and times as the source has them, with event time in [start, end], by time.

    newest_only: only the greatest row of each key that is not null. Timestamps come as microseconds.
    """
    times = [rows.timestamp, *([rows.created] if rows.created else [])]
    selected = [
        f"{micros(ident(name), types[name]) if is_time(types[name]) else ident(name)} AS {ident(name)}"
        for name in dict.fromkeys([*keys, *columns, *times])
    ]
    event = ident(rows.timestamp)
    conditions = [f"{event} IS NOT NULL"]
    conditions += [f"{event} >= {start}"] if start is not None else []
    conditions += [f"{event} <= {end}"] if end is not None else []
    query = f"SELECT * FROM (SELECT {', '.join(selected)} FROM {relation(rows)})"
    if not newest_only:
        return f"{query} WHERE {' AND '.join(conditions)} ORDER BY {event}"
    conditions += [f"{ident(key)} IS NOT NULL" for key in keys]
    partition = f"PARTITION BY {', '.join(map(ident, keys))} " if keys else ""
    order = [
        f"{event} DESC",
        *(f"{ident(name)} DESC NULLS LAST" for name in times[1:]),
        f"{ident(FILE)} DESC",
        *(f"{ident(name)} DESC NULLS LAST" for name in columns),
    ]
    selected.append(f"{part()} AS {ident(FILE)}")
    return (
        f"SELECT * EXCLUDE ({ident(FILE)}) FROM (SELECT {', '.join(selected)} "
        f"FROM {relation(rows, with_part=True)}) WHERE {' AND '.join(conditions)} "
        f"QUALIFY row_number() OVER ({partition}ORDER BY {', '.join(order)}) = 1"
    )
