"""A registry that only the registry changed is intact, on both databases."""

from __future__ import annotations

from dataclasses import replace

from registry_service import aliases, models, runs, versions
from registry_service.commands import (
    ClearAlias,
    FinishRun,
    LogRun,
    RecordEvaluation,
    RenewRun,
    StartRun,
    UpdateModel,
    UpdateVersion,
)
