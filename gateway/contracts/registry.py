"""Keeps the catalog in step with the model list on disk and with what the backend says about each
model."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.contracts import failures, samples
from gateway.contracts.catalog import Catalog, Contract, Model, VersionStatus
from gateway.contracts.failures import Versions
from gateway.upstream.replicas import Replicas
from headrace.protocol import messages, rest_paths, signatures
from headrace.protocol.errors import ConfigError, HeadraceError, NotFound
from headrace.protocol.messages import Method
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.signatures import Signature
from headrace.protocol.version_state import VersionState
from headrace.store import folders, model_list
from headrace.store.model_list import ModelConfig, ServingConfig

log = logging.getLogger("gateway")

# At most one look at disk and backend in this time because of names that nobody knows.
_LOOK_UP_EVERY_S = 0.2
_CALL_TIMEOUT_S = 5.0
_MAX_CONCURRENT_REFRESHES = 16
# From gone to answering. Where replicas disagree about a version, the state furthest on counts.
_STATES = ("UNKNOWN", "END", "UNLOADING", "START", "LOADING", "AVAILABLE")


class Registry:
    """``catalog`` is the last good picture; ``refresh`` brings it up to date, ``refresh_model`` one
    model of it."""

    def __init__(
        self, upstream: Replicas, config_file: Path, *, lenient: tuple[str, ...] = ()
    ) -> None:
        self.catalog = Catalog()
        self._upstream = upstream
        self._config_file = config_file
        self._lenient = frozenset(lenient)
        # What the model list was when it was last read; equal while it need not be read again.
        self._config_stamp: object = None
        self._configs: dict[str, ModelConfig] = {}
        self._refresh_slots = asyncio.Semaphore(_MAX_CONCURRENT_REFRESHES)
        # By model: the refresh under way, and the one that waits for its end.
        self._current_refresh: dict[str, asyncio.Future[None]] = {}
        self._next_refresh: dict[str, asyncio.Future[None]] = {}
        self._looked_up_at = float("-inf")
        # Models whose signatures are to be read again, though their versions are known.
        self._stale_models: set[str] = set()

    async def refresh(self, *, reread_signatures: bool = False) -> None:
        """One look at everything. After a restart of the backend known signatures have to be read
        again too."""
        self.read_config()
        if reread_signatures:
            self._stale_models.update(self.catalog.models)
        await asyncio.gather(*(self.refresh_model(name) for name in tuple(self.catalog.models)))

    async def refresh_model(self, name: str) -> None:
        """Ask the backend about one model.

        A refresh under way may have begun too early for this caller; so all who call meanwhile
        share the next one.
        """
        refresh = self._next_refresh.get(name)
        if refresh is None:
            refresh = asyncio.ensure_future(
                self._refresh_after(self._current_refresh.get(name), name)
            )
            self._next_refresh[name] = refresh
        await asyncio.shield(refresh)

    async def look_up(self, name: str) -> None:
        """Look again for a name that the catalog lacks, but not more often than junk names
        deserve."""
        now = time.monotonic()
        if now - self._looked_up_at < _LOOK_UP_EVERY_S:
            return
        self._looked_up_at = now
        self.read_config()
        if name in self.catalog.models:
            await self.refresh_model(name)

    def read_config(self) -> None:
        """Read the model list when its file changed. A bad one leaves the last good list, and the
        catalog says why."""
        try:
            stat = os.stat(self._config_file)
            stamp = stat.st_mtime_ns, stat.st_size, stat.st_ino
            if stamp == self._config_stamp:
                return
            loaded = model_list.load(self._config_file)
        except (OSError, ConfigError) as error:
            text = _config_error(self._config_file, error)
            if self.catalog.config_error != text:
                log.warning(
                    "model list not usable, keeping the last good one", extra={"reason": text}
                )
            self.catalog = Catalog(self.catalog.models, text)
            self._config_stamp = text
        else:
            self._use_config(loaded)
            self._config_stamp = stamp

    def _use_config(self, loaded: ServingConfig) -> None:
        configs = {config.name: config for config in loaded.models}
        for name, config in configs.items():
            before = self._configs.get(name, config)
            if before.base_path != config.base_path:
                self._stale_models.add(name)
        self._configs = configs
        models = {}
        for name, config in configs.items():
            known = self.catalog.models.get(name, Model(name))
            models[name] = replace(known, labels=dict(config.labels))
        self.catalog = Catalog(models)
        log.info("model list read", extra={"models": sorted(models)})

    async def _refresh_after(self, previous: asyncio.Future[None] | None, name: str) -> None:
        if previous is not None:
            await asyncio.wait([previous])
        self._current_refresh[name] = self._next_refresh.pop(name)
        try:
            async with self._refresh_slots:
                await self._refresh(name)
        finally:
            del self._current_refresh[name]

    async def _refresh(self, name: str) -> None:
        model = self.catalog.models.get(name)
        if model is None:
            return
        try:
            answer = await self._describe(model)
        except NotFound as error:
            answer = Model(name, problem=f"the serving backend does not have it: {error.message}")
        except HeadraceError as error:
            log.debug("no status", extra={"model": name, "reason": error.message})
            return
        # The list may have changed meanwhile.
        latest = self.catalog.models.get(name)
        if latest is None:
            return
        if set(answer.contracts) != set(latest.contracts):
            log.info("versions live", extra={"model": name, "versions": sorted(answer.contracts)})
        self.catalog = self.catalog.with_model(
            replace(answer, labels=latest.labels, has_status=True)
        )

    async def _describe(self, model: Model) -> Model:
        """The model as the backend has it now, without its labels."""
        versions = await self._versions(model.name)
        failed: Versions = ()
        if any(version.reason for version in versions):
            versions, failed = await self._explain_failures(model, versions)
        contracts, problem = await self._contracts(model, versions)
        return Model(
            model.name,
            versions=versions,
            contracts=contracts,
            problem=problem,
            failed_versions=failed,
        )

    async def _versions(self, name: str) -> Versions:
        """Newest first. AVAILABLE at one replica is AVAILABLE: those that lack the version say so,
        and the next one is asked."""
        request = messages.GetModelStatusRequest()
        request.model_spec.name = name
        replies = await self._upstream.call_all(
            messages.GET_MODEL_STATUS.path, request.SerializeToString(), timeout_s=_CALL_TIMEOUT_S
        )
        statuses: dict[int, VersionStatus] = {}
        for reply in replies:
            for status in _version_statuses(reply):
                known = statuses.get(status.version)
                if known is None or _progress(status) > _progress(known):
                    statuses[status.version] = status
        return tuple(statuses[number] for number in sorted(statuses, reverse=True))

    async def _explain_failures(self, model: Model, versions: Versions) -> failures.Examined:
        """The same versions with their reasons in plain words, and those of them that have
        failed."""
        config = self._configs.get(model.name)
        models_root = self._config_file.parent
        explained, failed = await asyncio.to_thread(failures.examine, versions, config, models_root)
        new = {version.version for version in failed}
        new -= {version.version for version in model.failed_versions}
        for version in versions:
            if version.version in new:
                fields = {
                    "model": model.name,
                    "version": version.version,
                    # The server's own words.
                    "reason": version.reason,
                }
                log.warning("version failed", extra=fields)
        return explained, failed

    async def _contracts(
        self, model: Model, versions: Versions
    ) -> tuple[dict[int, Contract], str | None]:
        """Contracts of the versions that are AVAILABLE, and why one of them has none.

        A version's files never change, so contracts that are known are kept.
        """
        contracts: dict[int, Contract] = {}
        problem = None
        is_stale = model.name in self._stale_models
        self._stale_models.discard(model.name)
        for version in versions:
            if version.state != "AVAILABLE":
                continue
            number = version.version
            known = None if is_stale else model.contracts.get(number)
            try:
                contracts[number] = known or await self._contract(model.name, number)
            except HeadraceError as error:
                problem = f"the signatures of version {number} could not be read: {error.message}"
                if is_stale:
                    self._stale_models.add(model.name)
        return contracts, problem

    async def _contract(self, name: str, version: int) -> Contract:
        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = name
        request.model_spec.version.value = version
        reply = await self._call(messages.GET_MODEL_METADATA, request)
        by_name = _signatures(reply)
        folder = self._version_folder(name, version)
        pin = messages.PredictRequest()
        pin.model_spec.version.value = version
        return Contract(
            model=name,
            version=version,
            signatures=by_name,
            samples=await asyncio.to_thread(samples.for_signatures, by_name, folder),
            lenient=name in self._lenient,
            predict_path=rest_paths.path(ModelSpec(name, version), ":predict"),
            grpc_pin=pin.SerializeToString(),
        )

    def _version_folder(self, name: str, version: int) -> Path | None:
        """Where the version lies, if this process can see the store: beside the model list."""
        try:
            config = self._configs[name]
            base = folders.local_path(config.base_path, self._config_file.parent)
            return folders.version_path(base, version)
        except (HeadraceError, KeyError, OSError):
            return None

    async def _call(self, method: Method, request: Any) -> Any:
        reply = await self._upstream.call(
            method.path, request.SerializeToString(), timeout_s=_CALL_TIMEOUT_S
        )
        return messages.parse(method.response, reply)


def _signatures(reply: Any) -> dict[str, Signature]:
    definitions = messages.signature_def_map(reply).signature_def
    return signatures.from_signature_defs(dict(sorted(definitions.items())))


def _version_statuses(reply: bytes) -> Iterable[VersionStatus]:
    response = messages.parse(messages.GET_MODEL_STATUS.response, reply)
    for status in response.model_version_status:
        state = VersionState(status.state)
        reason = str(status.status.error_message)
        yield VersionStatus(int(status.version), state.name, reason)


def _progress(status: VersionStatus) -> int:
    return _STATES.index(status.state)


def _config_error(path: Path, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{path}: cannot be read: {error.strerror or error}"
    return str(error)
