"""Keeps the catalog in step with the model list on disk and with what the backend says about each
model."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.contracts import failures, samples
from gateway.contracts.catalog import Catalog, Contract, Model, VersionStatus
from gateway.upstream.replicas import Replicas
from headrace.protocol import messages, rest_paths, signatures
from headrace.protocol.errors import ConfigError, HeadraceError, NotFound
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.version_state import VersionState
from headrace.store import folders, model_list
from headrace.store.model_list import ModelConfig

log = logging.getLogger("gateway")

_MISS_S = (
    # At most one look at disk and backend in this time because of names that nobody knows.
    0.2
)
_CALL_TIMEOUT_S = 5.0
_AT_ONCE = 16
# How near to answering a state is, for versions that are in different ones at different replicas.
_NEARNESS = {
    name: i
    for i, name in enumerate(("UNKNOWN", "END", "UNLOADING", "START", "LOADING", "AVAILABLE"))
}


class Registry:
    """``catalog`` is the last good picture; ``refresh`` brings it up to date, ``refresh_model`` one
    model of it."""

    def __init__(
        self, upstream: Replicas, config_file: Path, *, lenient: tuple[str, ...] = ()
    ) -> None:
        self.catalog = Catalog()
        self._upstream = upstream
        self._config_file = config_file
        self._config_mark: object = None
        self._lenient = frozenset(lenient)
        self._limit = asyncio.Semaphore(_AT_ONCE)
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._running: dict[str, asyncio.Future[None]] = {}
        self._missed_at = float("-inf")
        self._entries: dict[str, ModelConfig] = {}
        # Models whose known signatures are to be read again.
        self._doubted: set[str] = set()

    async def refresh(self, *, anew: bool = False) -> None:
        """One look at everything; ``anew`` reads known signatures again too, as after a restart of
        the backend."""
        self.read_config()
        if anew:
            self._doubted.update(self.catalog.models)
        await asyncio.gather(*(self.refresh_model(name) for name in tuple(self.catalog.models)))

    async def refresh_model(self, name: str) -> None:
        """Ask the backend about one model. Who calls while a look is under way waits for the next,
        shared by all."""
        waiting = self._waiting.get(name)
        if waiting is None:
            waiting = self._waiting[name] = asyncio.ensure_future(
                self._after(self._running.get(name), name)
            )
        await asyncio.shield(waiting)

    async def missed(self, name: str) -> None:
        """A call named something unknown: look again, but not more often than junk names
        deserve."""
        now = time.monotonic()
        if now - self._missed_at < _MISS_S:
            return
        self._missed_at = now
        self.read_config()
        if name in self.catalog.models:
            await self.refresh_model(name)

    def read_config(self) -> None:
        """The model list, when its file changed; a broken or missing one leaves the last good list
        and says so."""
        try:
            stat = os.stat(self._config_file)
            mark: object = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if mark == self._config_mark:
                return
            loaded = model_list.load(self._config_file)
        except (OSError, ConfigError) as e:
            mark = text = _config_trouble(self._config_file, e)
            if self.catalog.config_error != text:
                log.warning(
                    "model list not usable, keeping the last good one", extra={"error": text}
                )
            self.catalog = Catalog(self.catalog.models, text)
        else:
            known = self.catalog.models
            entries = {m.name: m for m in loaded.models}
            self._doubted.update(
                name
                for name, m in entries.items()
                if self._entries.get(name, m).base_path != m.base_path
            )
            self._entries = entries
            self.catalog = Catalog({m.name: _carried(known.get(m.name), m) for m in loaded.models})
            log.info("model list read", extra={"models": sorted(self.catalog.models)})
        self._config_mark = mark

    async def _after(self, previous: asyncio.Future[None] | None, name: str) -> None:
        if previous is not None:
            await asyncio.wait([previous])
        self._running[name] = self._waiting.pop(name)
        try:
            async with self._limit:
                await self._look(name)
        finally:
            del self._running[name]

    async def _look(self, name: str) -> None:
        model = self.catalog.models.get(name)
        if model is None:
            return
        versions: tuple[VersionStatus, ...] = ()
        contracts: dict[int, Contract] = {}
        failed: tuple[VersionStatus, ...] = ()
        note = ""
        try:
            versions = await self._versions(name)
            if any(v.reason for v in versions):
                versions, failed = await self._failures(model, versions)
            contracts, note = await self._contracts(model, versions)
        except NotFound as e:
            note = f"the serving backend does not have it: {e.message}"
        except HeadraceError as e:
            log.debug("no status", extra={"model": name, "error": e.message})
            return
        # The list may have changed meanwhile.
        latest = self.catalog.models.get(name)
        if latest is not None:
            if set(contracts) != set(latest.contracts):
                log.info("versions live", extra={"model": name, "versions": sorted(contracts)})
            self.catalog = self.catalog.with_model(
                Model(
                    name, latest.labels, versions, contracts, asked=True, note=note, failed=failed
                )
            )

    async def _versions(self, name: str) -> tuple[VersionStatus, ...]:
        request = messages.GetModelStatusRequest()
        request.model_spec.name = name
        replies = await self._upstream.everywhere(
            messages.GET_MODEL_STATUS.path, request.SerializeToString(), timeout_s=_CALL_TIMEOUT_S
        )
        states: dict[int, VersionStatus] = {}
        for reply in replies:
            for v in messages.parse(messages.GET_MODEL_STATUS.response, reply).model_version_status:
                state = VersionStatus(
                    int(v.version), VersionState(v.state).name, str(v.status.error_message)
                )
                known = states.get(state.version)
                # AVAILABLE anywhere is AVAILABLE: a replica that lacks a version says so, and the
                # next one is asked.
                if known is None or _NEARNESS[state.state] > _NEARNESS[known.state]:
                    states[state.version] = state
        return tuple(states[n] for n in sorted(states, reverse=True))

    async def _failures(
        self, model: Model, versions: tuple[VersionStatus, ...]
    ) -> failures.Examined:
        """The same versions with their reasons in plain words, and those of them that have
        failed."""
        entry, root = self._entries.get(model.name), self._config_file.parent
        explained, failed = await asyncio.to_thread(failures.examine, versions, entry, root)
        reasons = {v.version: v.reason for v in versions}
        known = {v.version for v in model.failed}
        for v in failed:
            if v.version not in known:
                fields = {"model": model.name, "version": v.version, "reason": reasons[v.version]}
                log.warning("version failed", extra=fields)
        return explained, failed

    async def _contracts(
        self, model: Model, versions: tuple[VersionStatus, ...]
    ) -> tuple[dict[int, Contract], str]:
        """Contracts of what is AVAILABLE; those already known are kept, since a version's artifact
        never changes."""
        contracts: dict[int, Contract] = {}
        note = ""
        doubted = model.name in self._doubted
        self._doubted.discard(model.name)
        for v in versions:
            if v.state != "AVAILABLE":
                continue
            known = None if doubted else model.contracts.get(v.version)
            try:
                contracts[v.version] = known or await self._contract(model.name, v.version)
            except HeadraceError as e:
                note = f"the signatures of version {v.version} could not be read: {e.message}"
                if doubted:
                    self._doubted.add(model.name)
        return contracts, note

    async def _contract(self, name: str, version: int) -> Contract:
        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = name
        request.model_spec.version.value = version
        reply = await self._call(messages.GET_MODEL_METADATA, request)
        table = messages.signature_def_map(reply)
        pin = messages.PredictRequest()
        pin.model_spec.version.value = version
        found = {
            n: signatures.from_signature_def(n, d) for n, d in sorted(table.signature_def.items())
        }
        return Contract(
            model=name,
            version=version,
            signatures=found,
            samples=await asyncio.to_thread(samples.of, self._folder(name, version), found),
            lenient=name in self._lenient,
            predict_path=rest_paths.path(ModelSpec(name, version), ":predict"),
            grpc_pin=pin.SerializeToString(),
        )

    def _folder(self, name: str, version: int) -> Path | None:
        """Where the version lies, if this process can see the store: beside the model list."""
        try:
            return folders.version_path(
                folders.local_path(self._entries[name].base_path, self._config_file.parent), version
            )
        except (HeadraceError, KeyError, OSError):
            return None

    async def _call(self, method: Any, request: Any) -> Any:
        raw = await self._upstream.call(
            method.path, request.SerializeToString(), timeout_s=_CALL_TIMEOUT_S
        )
        return messages.parse(method.response, raw)


def _carried(known: Model | None, wanted: Any) -> Model:
    """A configured model with what was already seen of it."""
    if known is None:
        return Model(wanted.name, dict(wanted.labels))
    return replace(known, labels=dict(wanted.labels))


def _config_trouble(path: Path, e: Exception) -> str:
    if isinstance(e, OSError):
        return f"{path}: cannot be read: {e.strerror or e}"
    return str(e)
