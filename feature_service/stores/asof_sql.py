"""The SQL of a point-in-time join, for DuckDB.

For an entity row at time T and a view with a ttl, the join gives the feature row
  1. of the same join keys (a null key matches nothing),
  2. with event time ≤ T and, under CREATED_BY_THEN, created ≤ T (a row without a created time counts
     from its event time),
  3. greatest by (event time, created, the order in which rows were pushed, feature values in the order of
     the view's schema), nulls least,
  4. and gives nothing when that row's event time is < T − ttl.

A row is known from known = max(event, created) on. Rows get a rank in the order of (3); the running
maximum of the rank over `known`, per key, is the row that answers at each moment, so one ASOF join on
`known` finds it. Without created times known = event and the rank of each moment is its own maximum.

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


def load(
    view: SourceView,
    types: Mapping[str, str],
    *,
    tie_break: bool,
    where: Sequence[str] = (),
    keys_from: str | None = None,
    known_at: KnownAt = KnownAt.CREATED_BY_THEN,
) -> str:
    """Creates the table src(k0…, ev, cr, known, f0…[, t0…, part]) with the rows that can matter.

    types: DuckDB type of each source column. where: further conditions over those names.
    keys_from: a table whose k0… are the only keys that matter.
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
    keys = key_list(view)
    semi = (
        f" SEMI JOIN (SELECT DISTINCT {', '.join(f'{k.name} AS k{i}' for i, k in enumerate(view.keys))}"
        f" FROM {keys_from}) AS wanted USING ({', '.join(keys)})"
        if keys_from and keys
        else ""
    )
    return (
        f"CREATE OR REPLACE TEMP TABLE src AS SELECT s.* FROM (SELECT {', '.join(columns)} "
        f"FROM {relation(view.rows, with_part=tie_break)}) AS s{semi} WHERE {' AND '.join(conditions)}"
    )


def any_tie(view: SourceView) -> str:
    """Query with a row when two rows of src share keys, event time and created time."""
    group = ", ".join([*key_list(view), "ev", "cr"])
    return f"SELECT 1 FROM src GROUP BY {group} HAVING count(*) > 1 LIMIT 1"


def rank(view: SourceView, *, tie_break: bool) -> str:
    """Creates ranked(k0…, known, rid, rank) from src."""
    order = ["ev", "cr NULLS FIRST"]
    if tie_break:
        order += ["part", *(f"t{i} NULLS FIRST" for i in range(len(view.tie_break)))]
    selected = ", ".join([*key_list(view), "known", "rowid AS rid"])
    return (
        f"CREATE OR REPLACE TEMP TABLE ranked AS SELECT {selected}, "
        f"row_number() OVER (ORDER BY {', '.join(order)}) AS rank FROM src"
    )


def frontier(view: SourceView, known_at: KnownAt) -> str:
    """Creates frontier(k0…, known, best): from `known` on, `best` is the rank of the row that answers."""
    group = ", ".join([*key_list(view), "known"])
    grouped = f"SELECT {group}, max(rank) AS best FROM ranked GROUP BY {group}"
    if known_at is KnownAt.CREATED_BY_THEN and view.rows.created:
        partition = f"PARTITION BY {', '.join(key_list(view))} " if view.keys else ""
        running = f"max(best) OVER ({partition}ORDER BY known ROWS UNBOUNDED PRECEDING)"
        grouped = f"SELECT {group}, {running} AS best FROM ({grouped})"
    return f"CREATE OR REPLACE TEMP TABLE frontier AS {grouped}"


def answer(view: SourceView) -> str:
    """Query for the features f0…, one row for each row of entity, in the order of entity.r."""
    on = [f"e.{key.name} = f.k{i}" for i, key in enumerate(view.keys)]
    on.append("e.t >= f.known")
    alive = f" WHERE s.ev >= m.t - {view.ttl_micros}" if view.ttl_micros is not None else ""
    features = ", ".join(f"f{i}" for i in range(len(view.features)))
    hit = (
        f"SELECT m.r, {', '.join(f's.f{i}' for i in range(len(view.features)))} FROM "
        f"(SELECT e.r, e.t, f.best FROM entity AS e ASOF JOIN frontier AS f ON {' AND '.join(on)}) AS m "
        f"JOIN ranked AS x ON x.rank = m.best JOIN src AS s ON s.rowid = x.rid{alive}"
    )
    return f"SELECT {features} FROM entity AS e LEFT JOIN ({hit}) AS h ON h.r = e.r ORDER BY e.r"


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
