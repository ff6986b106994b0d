"""Why a training job stops, apart from the errors of the services it calls (plumbline.errors)."""

from __future__ import annotations


class TrainerError(Exception):
    """Base. The message is for people: what was wrong, with which value, and what to do."""


class ConfigError(TrainerError):
    """The configuration or the command line is wrong: nothing was started."""


class DataRefused(TrainerError):
    """The rows cannot be trained on."""


class JoinBroken(TrainerError):
    """What feature_service answered is not what was asked for: rows lost, added, moved, other definitions."""


class TrainingFailed(TrainerError):
    """LightGBM could not make a model of the rows and parameters given."""


class PromotionContended(TrainerError):
    """Others kept moving the alias while this job compared; the version is registered, not promoted."""
