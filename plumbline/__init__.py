"""Plumbline for its users: typed clients of the suite's servers, its errors and its contracts.

from plumbline import FeatureClient, PredictionClient, RegistryClient
"""

from plumbline.feature_columns import FeatureStatus, FeatureTable
from plumbline.features.client import FeatureClient
from plumbline.registry.client import RegistryClient
from plumbline.serving.client import PredictionClient

__all__ = ["FeatureClient", "FeatureStatus", "FeatureTable", "PredictionClient", "RegistryClient"]
