"""The SQL that reads the rows of a view key by key, for DuckDB: for the online store, and to draw samples.

Rows come sorted by (key, event, created[, order of pushes, feature values]), so the last of each key is
the one that counts: one sort that spills, instead of a window and a sort. Keys come in the order of their
bytes in a packed store: what is written one after the other lies side by side there, and a run that was
interrupted knows by a count what it had done.
"""

# Identifiers are quoted by `ident`, values are integers or quoted by `literal`, and both come from
# definitions or from listed files.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from feature_service.domain import ValueType
from feature_service.stores.asof_sql import (
    FILE,
    SourceColumn,
    SourceView,
    ident,
    literal,
    micros,
    part,
    relation,
    typed,
)


@dataclass(frozen=True)
class Wanted:
    """Which rows count, in µs: known ≤ end, and event > after and ≥ oldest where these are set.

    known_after: with it, only rows that became known (max of event and created) after that, or that lie in
    one of the files `whole`.
    """

    end: int
    after: int | None = None
    oldest: int | None = None
    known_after: int | None = None
    whole: tuple[str, ...] = ()


def in_order(view: SourceView, types: Mapping[str, str], wanted: Wanted, *, tie_break: bool) -> str:
    """Query for the rows as (k0…, ev, cr, f0…), the one that counts last among those of its key.

    tie_break False leaves rows of equal key, event and created time in any order.
    """
    order = [expression for i, key in enumerate(view.keys) for expression in _stored_order(f"k{i}", key.type)]
    order += ["ev", "cr NULLS FIRST"]
    if tie_break:
        order += ["part", *(f"t{i} NULLS FIRST" for i in range(len(view.tie_break)))]
    columns = ", ".join([*key_names(view), "ev", "cr", *(f"f{i}" for i in range(len(view.features)))])
    found = rows(view, types, wanted, tie_break=tie_break)
    return f"SELECT {columns} FROM ({found}) ORDER BY {', '.join(order)}"


def count_keys(view: SourceView, types: Mapping[str, str], wanted: Wanted) -> str:
    """Query for the number of keys that `in_order` has rows of."""
    keys = ", ".join(key_names(view)) or "1"
    found = rows(view, types, wanted, features=False)
    return f"SELECT count(*) AS n FROM (SELECT DISTINCT {keys} FROM ({found}))"


def sample_keys(
    sources: Sequence[tuple[SourceView, Mapping[str, str]]], end: int, count: int, seed: int
) -> str:
    """Query for `count` of the distinct keys (k0…) of views with the same keys, drawn by a hash with the
    seed.

    Only rows known at `end` (µs) count.
    """
    keys = key_names(sources[0][0])
    union = " UNION ".join(
        f"SELECT {', '.join(keys)} FROM ({rows(view, types, Wanted(end), features=False)})"
        for view, types in sources
    )
    drawn = f"hash({', '.join([*keys, str(seed)])}), {', '.join(keys)}"
    # Of one view, the union alone would leave the rows as they are.
    distinct = f"SELECT DISTINCT {', '.join(keys)} FROM ({union})"
    return f"SELECT {', '.join(keys)} FROM ({distinct}) ORDER BY {drawn} LIMIT {count}"


def rows(
    view: SourceView,
    types: Mapping[str, str],
    wanted: Wanted,
    *,
    features: bool = True,
    tie_break: bool = False,
) -> str:
    """Query for (k0…, ev, cr, known, f0…[, t0…, part]) of the rows that count, in no order."""

    def column(prefix: str, index: int, item: SourceColumn) -> str:
        return f"{typed(ident(item.column), types[item.column], item.type, item.column)} AS {prefix}{index}"

    columns = [column("k", i, key) for i, key in enumerate(view.keys)]
    columns.append(f"{micros(ident(view.rows.timestamp), types[view.rows.timestamp])} AS ev")
    created = view.rows.created
    columns.append(f"{micros(ident(created), types[created]) if created else 'CAST(NULL AS BIGINT)'} AS cr")
    columns.append("greatest(ev, cr) AS known")
    if features:
        columns += [column("f", i, item) for i, item in enumerate(view.features)]
    if tie_break:
        columns += [column("t", i, item) for i, item in enumerate(view.tie_break)]
        columns.append(f"{part()} AS part")
    named = tie_break or bool(wanted.whole)
    if wanted.whole:
        columns.append(f"{ident(FILE)} IN ({', '.join(map(literal, wanted.whole))}) AS late")
    conditions = ["ev IS NOT NULL", *(f"{key} IS NOT NULL" for key in key_names(view))]
    conditions.append(f"known <= {wanted.end}")
    conditions += [f"ev > {wanted.after}"] if wanted.after is not None else []
    conditions += [f"ev >= {wanted.oldest}"] if wanted.oldest is not None else []
    if wanted.known_after is not None:
        late = " OR late" if wanted.whole else ""
        conditions.append(f"(known > {wanted.known_after}{late})")
    read = f"SELECT {', '.join(columns)} FROM {relation(view.rows, with_part=named)}"
    return f"SELECT * FROM ({read}) WHERE {' AND '.join(conditions)}"


def key_names(view: SourceView) -> list[str]:
    """k0…, one for each join key."""
    return [f"k{i}" for i in range(len(view.keys))]


def _stored_order(key: str, kind: ValueType) -> list[str]:
    """Expressions that order values as their bytes in an entity key: integers little-endian, texts by
    length."""
    match kind:
        case ValueType.INT64:
            return [_swapped(key, range(7)), f"({key} >> 56) & 255", key]
        case ValueType.INT32:
            return [_swapped(f"CAST({key} AS BIGINT)", range(4)), key]
        case ValueType.STRING:
            return [f"strlen({key})", key]
        case ValueType.BYTES:
            return [f"octet_length({key})", key]
    return [key]


def _swapped(key: str, places: range) -> str:
    """The bytes of an integer at these places, the first becoming the most significant."""
    last = len(places) - 1
    return "(" + " | ".join(f"((({key} >> {8 * i}) & 255) << {8 * (last - i)})" for i in places) + ")"
