"""The SQL of the join itself; what it has to give is said in `asof_sql`.

A row is known from known = max(event, created) on. Of a key's rows in the order of `known`, only those count
whose event time is the greatest so far: any other is behind a row that was known before it. Those rows, the
frontier, are what answers from `known` on until the next of them. Without created times, or when they are
ignored, known = event and every row is in it.

Rows that fit in memory are only read here, with their keys numbered, and matched by `last_known`. Others have
a table of the frontier, and one ASOF join on `known` finds the row of each entity row.

Rows of one key and one `known` in the frontier have one event time, so the rest of the order decides between
them: created, then the order of pushes, then feature values. (Rows of one event time that became known one
after the other are in the order of their created times already.) Sources seldom hold such rows: they are
looked for, and only their groups are sorted out. Feature values are read for it only if created times leave a
group undecided.
"""

# Identifiers are k0…, f0…, quoted names of definitions or fixed; nothing comes from a request.
# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Mapping, Sequence

from feature_service.domain import KnownAt
from feature_service.stores import asof_sql as sql
from feature_service.stores.asof_sql import Matching, SourceView, key_list


def frontier(
    view: SourceView, types: Mapping[str, str], where: Sequence[str], known_at: KnownAt, *, only: Matching
) -> str:
    """Creates frontier(k0…, known, ev, cr, f0…). only: the keys that matter."""
    rows = sql.rows(view, types, tie_break=False, where=where, only=only, known_at=known_at)
    columns = ", ".join(_columns(view))
    if known_at is KnownAt.IGNORE_CREATED or not view.rows.created:
        return f"CREATE OR REPLACE TEMP TABLE frontier AS SELECT {columns} FROM ({rows})"
    partition = f"PARTITION BY {', '.join(key_list(view))} " if view.keys else ""
    return (
        f"CREATE OR REPLACE TEMP TABLE frontier AS SELECT {columns} FROM "
        f"(SELECT *, max(ev) OVER ({partition}ORDER BY known) AS newest FROM ({rows})) WHERE ev = newest"
    )


def has_ties(view: SourceView) -> str:
    """Query for whether any group of the frontier has several rows: much cheaper than to find them."""
    groups = f"SELECT DISTINCT {', '.join(_group(view))} FROM frontier"
    return f"SELECT (SELECT count(*) FROM ({groups})) < (SELECT count(*) FROM frontier)"


def ties(view: SourceView) -> str:
    """Creates ties(k0…, known, cr): the groups of the frontier with several rows, and their last created."""
    group = ", ".join(_group(view))
    return (
        f"CREATE OR REPLACE TEMP TABLE ties AS SELECT {group}, max(cr) AS cr FROM frontier "
        f"GROUP BY {group} HAVING count(*) > 1"
    )


def drop_created_before(view: SourceView) -> str:
    """Leaves of each group in ties the rows created last."""
    return f"DELETE FROM frontier AS s USING ties AS x WHERE {_same(view)} AND s.cr IS DISTINCT FROM x.cr"


def drop_ties(view: SourceView) -> str:
    """Leaves nothing of the groups in ties."""
    return f"DELETE FROM frontier AS s USING ties AS x WHERE {_same(view)}"


def add_winners(view: SourceView, types: Mapping[str, str], where: Sequence[str], known_at: KnownAt) -> str:
    """Puts into the frontier the greatest row of each group in ties, by the whole of the order."""
    group = _group(view)
    only = Matching(f"SELECT {', '.join(group)} FROM ties", tuple(group))
    rows = sql.rows(view, types, tie_break=True, where=where, only=only, known_at=known_at)
    order = ", ".join(["ev DESC", *sql.descending(view, tie_break=True)])
    columns = ", ".join(_columns(view))
    return (
        f"INSERT INTO frontier ({columns}) SELECT {columns} FROM ({rows}) "
        f"QUALIFY row_number() OVER (PARTITION BY {', '.join(group)} ORDER BY {order}) = 1"
    )


def answer(view: SourceView) -> str:
    """Query for the features f0…, one row for each row of entity, in the order of entity.r."""
    features = [f"f{i}" for i in range(len(view.features))]
    if view.ttl_micros is None:
        selected = [f"s.{name}" for name in features]
    else:
        alive = f"s.ev >= e.t - {view.ttl_micros}"
        selected = [f"CASE WHEN {alive} THEN s.{name} END AS {name}" for name in features]
    on = [f"e.{key.name} = s.k{i}" for i, key in enumerate(view.keys)]
    on.append("e.t >= s.known")
    return (
        f"SELECT {', '.join(selected)} FROM entity AS e "
        f"ASOF LEFT JOIN frontier AS s ON {' AND '.join(on)} ORDER BY e.r"
    )


def keys_of_entities(view: SourceView) -> Matching:
    """The keys of the view's rows that can matter. Looking at them takes as long as reading a narrow row."""
    names = ", ".join(f"{key.name} AS k{i}" for i, key in enumerate(view.keys))
    return Matching(f"SELECT DISTINCT {names} FROM entity", tuple(key_list(view)))


def count_rows(view: SourceView) -> str:
    """Query for how many rows the source has; answered from footers."""
    return f"SELECT count(*) FROM {sql.relation(view.rows)}"


def number_keys(table: str, keys: Sequence[str]) -> str:
    """Creates a table of (key columns of entity…, number), numbers from 0 on: all but null keys."""
    names = ", ".join(keys)
    some = " AND ".join(f"{key} IS NOT NULL" for key in keys)
    return (
        f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT {names}, row_number() OVER () - 1 AS number "
        f"FROM (SELECT DISTINCT {names} FROM entity WHERE {some})"
    )


def numbered_entities(table: str, keys: Sequence[str]) -> str:
    """Query for (number of the key, t, r) of the entity rows whose keys are not null, in any order."""
    if not keys:
        return "SELECT CAST(0 AS BIGINT) AS number, t, r FROM entity"
    return f"SELECT number, t, r FROM entity JOIN {table} USING ({', '.join(keys)})"


def numbered_rows(
    view: SourceView,
    types: Mapping[str, str],
    where: Sequence[str],
    known_at: KnownAt,
    table: str,
    *,
    tied: bool = False,
) -> str:
    """Query for (number of the key, ev, [cr,] f0…) of the source's rows of those keys, in any order.

    tied: of each group in the table tied(number, known) only the greatest row, by the whole of the order.
    """
    features = [f"f{i}" for i in range(len(view.features))]
    columns = ", ".join(["number", "ev", *(["cr"] if view.rows.created else []), *features])

    def numbered(*, tie_break: bool) -> str:
        rows = sql.rows(view, types, tie_break=tie_break, where=where, known_at=known_at)
        if not view.keys:
            return f"(SELECT CAST(0 AS BIGINT) AS number, s.* FROM ({rows}) AS s)"
        on = " AND ".join(f"s.k{i} = n.{key.name}" for i, key in enumerate(view.keys))
        return f"(SELECT n.number, s.* FROM ({rows}) AS s JOIN {table} AS n ON {on})"

    if not tied:
        return f"SELECT {columns} FROM {numbered(tie_break=False)}"
    order = ", ".join(["ev DESC", *sql.descending(view, tie_break=True)])
    return (
        f"SELECT {columns} FROM {numbered(tie_break=False)} ANTI JOIN tied USING (number, known) UNION ALL "
        f"SELECT {columns} FROM {numbered(tie_break=True)} SEMI JOIN tied USING (number, known) "
        f"QUALIFY row_number() OVER (PARTITION BY number, known ORDER BY {order}) = 1"
    )


def _group(view: SourceView) -> list[str]:
    return [*key_list(view), "known"]


def _columns(view: SourceView) -> list[str]:
    return [*_group(view), "ev", "cr", *(f"f{i}" for i in range(len(view.features)))]


def _same(view: SourceView) -> str:
    return " AND ".join(f"s.{name} = x.{name}" for name in _group(view))
