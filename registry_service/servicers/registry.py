"""The service as a whole."""

from __future__ import annotations

from dataclasses import dataclass

from registry_service.calls import Calls
from registry_service.collecting import Collector
from registry_service.integrity.verification import Verifications
from registry_service.news import News
from registry_service.reading import CachedReads
from registry_service.servicers.changes import ChangeMethods
from registry_service.servicers.evidence import EvidenceMethods
from registry_service.servicers.files import FileMethods
from registry_service.servicers.governance import DeploymentMethods, PolicyMethods
from registry_service.servicers.integrity import IntegrityMethods
from registry_service.servicers.lineage import LineageMethods
from registry_service.servicers.models import AliasMethods, ModelMethods
from registry_service.servicers.versions import VersionMethods
from registry_service.servicers.webhooks import WebhookMethods
from registry_service.transfers import Transfers
from registry_service.webhooks.sender import Sender


@dataclass(frozen=True)
class Tools:
    """What the methods work with. sender: of the test messages to webhooks."""

    calls: Calls
    reads: CachedReads
    news: News
    transfers: Transfers
    collector: Collector
    sender: Sender
    verifications: Verifications


class Registry(
    ModelMethods,
    VersionMethods,
    FileMethods,
    AliasMethods,
    EvidenceMethods,
    PolicyMethods,
    DeploymentMethods,
    LineageMethods,
    ChangeMethods,
    WebhookMethods,
    IntegrityMethods,
):
    """plumbline.registry.v1.ModelRegistryService, in the parts its resources make."""

    def __init__(self, tools: Tools) -> None:
        self._calls, self._reads, self._news = tools.calls, tools.reads, tools.news
        self._transfers, self._collector = tools.transfers, tools.collector
        self._sender = tools.sender
        self._verifications = tools.verifications
