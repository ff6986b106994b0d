"""MLflow's side of the registry benchmark; runs in the peer's environment and imports nothing of ours.

    python registry_mlflow.py DATABASE_URL VERSIONS PER_BATCH

Makes MLflow's tables and fills them: the model "large" with so many versions, each with the tags "batch"
(shared by PER_BATCH versions) and "team"; the model "served" with one version and the alias "champion" on it;
the model "growing" without versions. The rows are those that its own calls would leave, written together.
"""

from __future__ import annotations

import sys
from typing import Any

from mlflow.store.model_registry.dbmodels.models import SqlModelVersion, SqlModelVersionTag
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import text


def main(url: str, versions: int, per_batch: int) -> None:
    """Everything in one go."""
    store: Any = SqlAlchemyStore(url)
    for name in ("large", "served", "growing"):
        store.create_registered_model(name)
    store.create_model_version("served", "s3://bucket/models/served/1")
    store.set_registered_model_alias("served", "champion", 1)
    first = store.create_model_version("large", "s3://bucket/models/large/1")
    numbers = range(2, versions + 1)
    with store.ManagedSessionMaker(read_only=False) as session:
        session.add_all(
            SqlModelVersion(
                name="large",
                version=number,
                source=f"s3://bucket/models/large/{number}",
                storage_location=f"s3://bucket/models/large/{number}",
                creation_time=first.creation_timestamp + number,
                last_updated_time=first.creation_timestamp + number,
            )
            for number in numbers
        )
        session.flush()
        session.add_all(
            SqlModelVersionTag(name="large", version=number, key=key, value=value)
            for number in (1, *numbers)
            for key, value in (("batch", f"b{(number - 1) // per_batch}"), ("team", "risk"))
        )
    with store.ManagedSessionMaker(read_only=False) as session:
        session.execute(text("ANALYZE"))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
