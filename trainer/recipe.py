"""How the rows of a snapshot were made, for whoever makes them again."""

from __future__ import annotations

import json
from collections.abc import Mapping

from trainer.config import TrainingConfig
from trainer.domain import Dataset


def recipe(config: TrainingConfig, dataset: Dataset, split: Mapping[str, int]) -> str:
    """What the configuration says, and what became of it, as JSON: sorted keys, no blanks.

    split: rows by what became of them. The features themselves are told of by the dataset's own fields.
    """
    rows = config.entity_rows
    document = {
        "entity_rows": {
            "path": str(rows.path),
            "uri": rows.path.absolute().as_uri(),
            "event_timestamp": rows.event_timestamp,
            "label": rows.label,
            "label_timestamp": rows.label_timestamp,
            "row_id": list(rows.row_id),
            "rows": dataset.rows,
            "digest": f"sha256:{dataset.entity_digest}",
        },
        "features": {
            "project": dataset.service.definition.project,
            "service": dataset.service.definition.name,
            "digest": dataset.service.definition.digest,
            # As the client asks when it is told nothing else: late rows do not leak into the past.
            "known_at_policy": "CREATED_BY_THEN",
        },
        # A row is learnt from only if its label was known when the next part begins.
        "split": {"at": config.split.model_dump(mode="json", exclude_none=True), "rows": dict(split)},
    }
    return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
