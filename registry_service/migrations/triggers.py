"""Triggers, as the migrations write them."""

from __future__ import annotations

from collections.abc import Iterable

from alembic import op

#: What never changes in a version, in any state.
FIXED = ("id", "model_id", "number", "create_time", "actor")
#: What did not change any more in a version that was no DRAFT, in schema 0001.
FROZEN = (
    "id",
    "model_id",
    "number",
    "description",
    "tags",
    "signature",
    "run_id",
    "manifest_digest",
    "create_time",
    "finalize_time",
    "actor",
)
_IMMUTABLE = "a version that is not a draft is immutable"


def guard_sqlite_versions(fixed: Iterable[str], frozen: Iterable[str]) -> None:
    """Lets a version that is no DRAFT change only towards ARCHIVED, and nothing frozen in it."""
    refuse_sqlite("model_version", "UPDATE", _IMMUTABLE, when=_forbidden(fixed, frozen, "IS NOT"))


def version_guard_body(fixed: Iterable[str], frozen: Iterable[str]) -> str:
    """The same for PostgreSQL, with versions that are never deleted."""
    return f"""
        IF TG_OP = 'DELETE' THEN
            RAISE EXCEPTION 'a version is never deleted' USING ERRCODE = '23000';
        END IF;
        IF {_forbidden(fixed, frozen, "IS DISTINCT FROM")} THEN
            RAISE EXCEPTION '{_IMMUTABLE}' USING ERRCODE = '23000';
        END IF;
        RETURN NEW;
        """


def _forbidden(fixed: Iterable[str], frozen: Iterable[str], differs: str) -> str:
    never = " OR ".join(f"OLD.{column} {differs} NEW.{column}" for column in fixed)
    later = " OR ".join(f"OLD.{column} {differs} NEW.{column}" for column in frozen)
    return (
        f"({never}) OR (OLD.state <> 'DRAFT' AND ({later} OR NEW.state = 'DRAFT')) "
        "OR (OLD.state = 'ARCHIVED' AND NEW.state <> 'ARCHIVED')"
    )


def refuse_sqlite(table: str, verb: str, message: str, when: str = "1") -> None:
    """No such statement on the table, where `when` holds."""
    op.execute(
        f"CREATE TRIGGER {table}_{verb.lower()} BEFORE {verb} ON {table} WHEN {when} "
        f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
    )


def postgresql_function(name: str, body: str, *, replace: bool = False) -> None:
    """A trigger function plumbline_{name}."""
    create = "CREATE OR REPLACE" if replace else "CREATE"
    op.execute(
        f"{create} FUNCTION plumbline_{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$"
    )


def postgresql_trigger(name: str, table: str, verbs: str, function: str, each: str = "ROW") -> None:
    """A trigger that calls plumbline_{function} before the verbs."""
    op.execute(
        f"CREATE TRIGGER {name} BEFORE {verbs} ON {table} "
        f"FOR EACH {each} EXECUTE FUNCTION plumbline_{function}()"
    )
