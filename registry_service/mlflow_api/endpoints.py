"""The routes of MLflow's model registry: each reads its arguments, asks for a read or a change, encodes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from plumbline.registry.errors import ModelNotFound
from registry_service.calls import Calls
from registry_service.commands import CreateModel, SetAlias
from registry_service.domain import STAGES
from registry_service.mlflow_api import changes, codec, places, replies, sources
from registry_service.mlflow_api.arguments import (
    Arguments,
    alias_ref,
    check_tag,
    model_name,
    refuse,
    settable_alias,
    stage,
    version_ref,
)
from registry_service.mlflow_api.searching import MODELS, VERSIONS, PagedSearch
from registry_service.ports import Transaction
from registry_service.reading import Answer, CachedReads, scope_of, version_answer

_NOTHING = b"{}"


@dataclass(frozen=True)
class Call:
    """artifacts: the URL of the artifact route, as the caller reaches it."""

    arguments: Arguments
    artifacts: str


Endpoint = Callable[[Call], Awaitable[bytes]]


def routes(calls: Calls, reads: CachedReads) -> dict[tuple[str, str], Endpoint]:
    """By method and path behind …/mlflow/."""
    models, versions = ModelEndpoints(calls, reads), VersionEndpoints(calls, reads)
    return {
        ("POST", "registered-models/create"): models.create,
        ("POST", "registered-models/rename"): models.rename,
        ("PATCH", "registered-models/update"): models.update,
        ("DELETE", "registered-models/delete"): models.delete,
        ("GET", "registered-models/get"): models.get,
        ("GET", "registered-models/search"): models.search,
        ("GET", "registered-models/get-latest-versions"): models.latest_versions,
        ("POST", "registered-models/get-latest-versions"): models.latest_versions,
        ("POST", "registered-models/set-tag"): models.set_tag,
        ("DELETE", "registered-models/delete-tag"): models.delete_tag,
        ("POST", "registered-models/alias"): models.set_alias,
        ("DELETE", "registered-models/alias"): models.delete_alias,
        ("GET", "registered-models/alias"): versions.get_by_alias,
        ("POST", "model-versions/create"): versions.create,
        ("PATCH", "model-versions/update"): versions.update,
        ("POST", "model-versions/transition-stage"): versions.transition_stage,
        ("DELETE", "model-versions/delete"): versions.delete,
        ("GET", "model-versions/get"): versions.get,
        ("GET", "model-versions/search"): versions.search,
        ("GET", "model-versions/get-download-uri"): versions.download_uri,
        ("POST", "model-versions/set-tag"): versions.set_tag,
        ("DELETE", "model-versions/delete-tag"): versions.delete_tag,
    }


class ModelEndpoints:
    """registered-models/…"""

    def __init__(self, calls: Calls, reads: CachedReads) -> None:
        self._calls, self._reads = calls, reads

    async def create(self, call: Call) -> bytes:
        given = call.arguments
        command = CreateModel(model_name(given), given.text("description"), given.tags())
        return await self._calls.write(
            lambda tx, act: replies.model_reply(tx, changes.create_model(tx, act, command))
        )

    async def rename(self, call: Call) -> bytes:
        name, new = model_name(call.arguments), model_name(call.arguments, "new_name")
        return await self._calls.write(
            lambda tx, act: replies.model_reply(tx, changes.rename_model(tx, act, name, new))
        )

    async def update(self, call: Call) -> bytes:
        name, description = model_name(call.arguments), call.arguments.text("description")
        return await self._calls.write(
            lambda tx, act: replies.model_reply(tx, changes.update_model(tx, act, name, description))
        )

    async def delete(self, call: Call) -> bytes:
        name = model_name(call.arguments)
        await self._calls.write(lambda tx, act: changes.delete_model(tx, act, name))
        return _NOTHING

    async def get(self, call: Call) -> bytes:
        name = model_name(call.arguments)

        def read(transaction: Transaction) -> Answer:
            model = replies.active(transaction, name)
            latest = replies.latest(transaction, model)
            body = codec.encode({"registered_model": codec.model(model, latest)})
            return Answer(body, scope_of(latest, model.id))

        return await self._reads.read(("mlflow/model", name), read)

    async def search(self, call: Call) -> bytes:
        asked = PagedSearch(MODELS, call.arguments)

        def read(transaction: Transaction) -> Answer:
            found, token = asked.cut(
                transaction.models.search(asked.search, archived=False, limit=asked.limit)
            )
            latest = transaction.summaries.latest([model.id for model in found])
            items = [codec.model(model, latest.get(model.id, ())) for model in found]
            return Answer(replies.page_reply("registered_models", items, token), None)

        return await self._reads.read(("mlflow/models", asked.key), read)

    async def latest_versions(self, call: Call) -> bytes:
        name = model_name(call.arguments)
        stages = tuple(map(stage, call.arguments.texts("stages"))) or STAGES

        def read(transaction: Transaction) -> Answer:
            model = replies.active(transaction, name)
            latest = replies.latest(transaction, model)
            items = [codec.version(summary) for summary in latest if summary.stage in stages]
            body = codec.encode({"model_versions": items})
            return Answer(body, scope_of(latest, model.id))

        return await self._reads.read(("mlflow/latest", name, stages), read)

    async def set_tag(self, call: Call) -> bytes:
        name, key, value = model_name(call.arguments), *_tag(call.arguments)
        await self._calls.write(
            lambda tx, act: changes.tag_model(tx, act, name, lambda tags: {**tags, key: value})
        )
        return _NOTHING

    async def delete_tag(self, call: Call) -> bytes:
        name, (key, _) = model_name(call.arguments), _tag(call.arguments)
        await self._calls.write(
            lambda tx, act: changes.tag_model(tx, act, name, lambda tags: _without(tags, key))
        )
        return _NOTHING

    async def set_alias(self, call: Call) -> bytes:
        alias, version = settable_alias(call.arguments), version_ref(call.arguments)
        command = SetAlias(alias, version, "set by MLflow's client")
        await self._calls.write(lambda tx, act: changes.set_alias(tx, act, command))
        return _NOTHING

    async def delete_alias(self, call: Call) -> bytes:
        alias = alias_ref(call.arguments)
        await self._calls.write(
            lambda tx, act: changes.clear_alias(tx, act, alias, "deleted by MLflow's client")
        )
        return _NOTHING


class VersionEndpoints:
    """model-versions/…, and the version of an alias."""

    def __init__(self, calls: Calls, reads: CachedReads) -> None:
        self._calls, self._reads = calls, reads

    async def create(self, call: Call) -> bytes:
        given = call.arguments
        source = given.required("source")
        new = changes.NewVersion(
            model=model_name(given),
            source=source,
            registered=sources.parse(source),
            run_id=given.text("run_id") if given.given("run_id") else None,
            run_link=given.text("run_link"),
            description=given.text("description"),
            tags=given.tags(),
        )
        return await self._calls.write(
            lambda tx, act: replies.version_reply(changes.create_version(tx, act, new))
        )

    async def update(self, call: Call) -> bytes:
        ref, description = version_ref(call.arguments), call.arguments.text("description")
        return await self._calls.write(
            lambda tx, act: replies.version_reply(changes.describe_version(tx, act, ref, description))
        )

    async def transition_stage(self, call: Call) -> bytes:
        ref, given = version_ref(call.arguments), call.arguments.required("stage")
        wanted, archive_others = stage(given), call.arguments.flag("archive_existing_versions")
        if archive_others and wanted not in changes.ACTIVE_STAGES:
            refuse(
                "archive_existing_versions",
                "Model version transition cannot archive existing model versions because "
                f"'{given}' is not an Active stage. Valid stages are {list(changes.ACTIVE_STAGES)}",
            )
        return await self._calls.write(
            lambda tx, act: replies.version_reply(
                changes.move_to_stage(tx, act, ref, wanted, archive_others=archive_others)
            )
        )

    async def delete(self, call: Call) -> bytes:
        ref = version_ref(call.arguments)
        await self._calls.write(lambda tx, act: changes.delete_version(tx, act, ref))
        return _NOTHING

    async def get(self, call: Call) -> bytes:
        ref = version_ref(call.arguments)

        def read(transaction: Transaction) -> Answer:
            summary = changes.find_version(transaction, ref)
            return version_answer(replies.version_reply(summary), summary)

        return await self._reads.read(("mlflow/version", ref), read)

    async def get_by_alias(self, call: Call) -> bytes:
        ref = alias_ref(call.arguments)

        def read(transaction: Transaction) -> Answer:
            summary = replies.of_alias(transaction, ref)
            return version_answer(replies.version_reply(summary), summary)

        return await self._reads.read(("mlflow/alias", ref), read)

    async def search(self, call: Call) -> bytes:
        asked = PagedSearch(VERSIONS, call.arguments)

        def read(transaction: Transaction) -> Answer:
            # Within one model, the answer is good until something about that changes.
            model_id = None if asked.model is None else transaction.models.get_id(asked.model)
            found, token = asked.cut(
                transaction.summaries.versions(asked.search, model=asked.model, limit=asked.limit)
            )
            body = replies.page_reply("model_versions", [codec.version(summary) for summary in found], token)
            return Answer(body, None if model_id is None else scope_of(found, model_id))

        try:
            return await self._reads.read(("mlflow/versions", asked.key), read)
        except ModelNotFound:
            return replies.page_reply("model_versions", [], "")

    async def download_uri(self, call: Call) -> bytes:
        """Of files kept here, where this facade serves them; else the source."""
        ref = version_ref(call.arguments)
        summary = await self._calls.read(lambda tx: changes.find_version(tx, ref))
        uri = f"{call.artifacts}/{places.of_version(ref)}" if summary.has_files else summary.source
        return codec.encode({"artifact_uri": uri})

    async def set_tag(self, call: Call) -> bytes:
        ref, (key, value) = version_ref(call.arguments), _tag(call.arguments)
        await self._calls.write(
            lambda tx, act: changes.tag_version(tx, act, ref, lambda tags: {**tags, key: value})
        )
        return _NOTHING

    async def delete_tag(self, call: Call) -> bytes:
        ref, (key, _) = version_ref(call.arguments), _tag(call.arguments)
        await self._calls.write(
            lambda tx, act: changes.tag_version(tx, act, ref, lambda tags: _without(tags, key))
        )
        return _NOTHING


def _tag(arguments: Arguments) -> tuple[str, str]:
    key, value = arguments.required("key"), arguments.text("value")
    check_tag(key, value)
    return key, value


def _without(tags: Any, key: str) -> dict[str, str]:
    return {name: value for name, value in tags.items() if name != key}
