"""Calls about aliases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from plumbline.calls import Client
from plumbline.registry.naming import alias_name, fresh_id, model_name, version_name
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceStub
from plumbline.times import timestamp


class AliasCalls(Client):
    """A part of `RegistryClient`."""

    _stub: ModelRegistryServiceStub

    def set_alias(
        self,
        name: str,
        version: str,
        *,
        reason: str,
        etag: str = "",
        expected_version: str = "",
        must_not_exist: bool = False,
        request_id: str | None = None,
    ) -> res.Alias:
        """Points models/m/aliases/a (short: m@a) at a READY version. Raises EtagMismatch (ABORTED) when
        it is not where `etag`, `expected_version` or `must_not_exist` says."""
        request = pb.SetAliasRequest(
            name=alias_name(name),
            version=version_name(version),
            reason=reason,
            request_id=fresh_id(request_id),
        )
        if etag:
            request.etag = etag
        elif expected_version:
            request.expected_version = version_name(expected_version)
        elif must_not_exist:
            request.must_not_exist = True
        return self._call(self._stub.SetAlias, request)

    def clear_alias(
        self, name: str, *, reason: str, etag: str = "", request_id: str | None = None
    ) -> res.AliasEvent:
        """Removes an alias; its history stays."""
        return self._call(
            self._stub.ClearAlias,
            pb.ClearAliasRequest(
                name=alias_name(name), etag=etag, reason=reason, request_id=fresh_id(request_id)
            ),
        )

    def rollback_alias(
        self, name: str, *, reason: str, etag: str = "", request_id: str | None = None
    ) -> res.Alias:
        """Points an alias back at its previous holder; again, at the one before that. Raises
        NoPreviousHolder."""
        return self._call(
            self._stub.RollbackAlias,
            pb.RollbackAliasRequest(
                name=alias_name(name), etag=etag, reason=reason, request_id=fresh_id(request_id)
            ),
        )

    def resolve_alias(self, name: str, *, as_of: datetime | None = None) -> pb.ResolveAliasResponse:
        """The alias and the version it points at, now or at a past moment. Raises AliasNotFound."""
        request = pb.ResolveAliasRequest(name=alias_name(name), as_of=timestamp(as_of))
        return self._call(self._stub.ResolveAlias, request)

    def list_alias_history(self, parent: str) -> Iterator[res.AliasEvent]:
        """Moves of an alias, or of all aliases of a model, newest first."""
        request = pb.ListAliasHistoryRequest(
            parent=alias_name(parent) if "@" in parent else model_name(parent)
        )
        for page in self._pages(self._stub.ListAliasHistory, request):
            yield from page.events
