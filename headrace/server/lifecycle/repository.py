"""The configured models, their loaded versions and labels.

A config is checked whole before any of it is applied. A new version is AVAILABLE before the one it
replaces is unloaded, and a version is unloaded only after the last call on it has ended. A model
that cannot be served keeps no other from being served.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headrace.protocol import version_policy
from headrace.protocol.errors import (
    Aborted,
    FailedPrecondition,
    HeadraceError,
    InvalidArgument,
    NotFound,
)
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.version_policy import Specific
from headrace.protocol.version_state import VersionState
from headrace.server.config import CPUS
from headrace.server.engines import Engine, LoadedModel
from headrace.server.lifecycle.discovery import Discovered, discover
from headrace.server.lifecycle.loading import Loader
from headrace.server.lifecycle.versions import Version, VersionStatus, unloadable
from headrace.server.metrics import Metrics
from headrace.store.model_list import ModelConfig, ServingConfig

log = logging.getLogger(__name__)

_AVAILABLE = VersionState.AVAILABLE


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """``problem``: why a version is missing or incomplete."""

    name: str
    versions: tuple[VersionStatus, ...]
    labels: Mapping[str, int]
    default_version: int | None
    problem: str | None = None

    @property
    def state(self) -> str:
        """AVAILABLE when a version is; else the state of the newest."""
        if self.default_version is not None:
            return _AVAILABLE.name
        return self.versions[0].state.name if self.versions else "UNKNOWN"


@dataclass(slots=True, eq=False)
class _Model:
    """``config`` is None once the model is no longer configured; its unloaded versions stay, to
    answer status requests."""

    name: str
    config: ModelConfig | None = None
    versions: dict[int, Version] = field(default_factory=dict)
    paths: Mapping[int, Path] = field(default_factory=dict)
    is_scanned: bool = False
    problem: str | None = None

    @property
    def labels(self) -> Mapping[str, int]:
        return self.config.labels if self.config else {}

    def latest(self) -> Version | None:
        """The highest version that is available: it answers calls that name none."""
        latest = None
        for version in self.versions.values():
            if version.state is _AVAILABLE and (latest is None or version.number > latest.number):
                latest = version
        return latest

    def statuses(self) -> tuple[VersionStatus, ...]:
        """The highest version first."""
        return tuple(self.versions[number].status for number in sorted(self.versions, reverse=True))


class ServableHandle:
    """Keeps a version loaded while a call uses it. The use counts from the handle's creation, so it
    must be entered at once."""

    __slots__ = ("_loaded", "_repository", "_version")

    def __init__(self, repository: Repository, version: Version, loaded: LoadedModel) -> None:
        self._repository = repository
        self._version = version
        self._loaded = loaded

    def __enter__(self) -> tuple[int, LoadedModel]:
        return self._version.number, self._loaded

    def __exit__(self, *_: object) -> None:
        version = self._version
        repository = self._repository
        with repository._lock:
            version.uses -= 1
            if version.uses == 0 and version.state is not _AVAILABLE:
                repository._changed.notify_all()


class Repository:
    """Private methods need the caller to hold the lock, but for ``_load`` and ``_unload``, which
    have threads of their own, and ``_set_state``, which these call."""

    def __init__(
        self,
        engine: Engine,
        *,
        models_root: str | None = None,
        bare_models: bool = False,
        load_retries: int = 5,
        retry_interval_s: float = 60.0,
        loads_at_once: int = 0,
        allow_labels_for_unavailable: bool = False,
        metrics: Metrics | None = None,
    ) -> None:
        self._models_root = models_root
        self._bare_models = bare_models
        self._allow_labels = allow_labels_for_unavailable
        self._models: dict[str, _Model] = {}
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._scanning = threading.Lock()
        slots = loads_at_once if loads_at_once > 0 else max(2, CPUS)
        self._loader = Loader(
            engine,
            self._changed,
            threading.BoundedSemaphore(slots),
            load_retries,
            retry_interval_s,
            metrics or Metrics(),
        )
        self._closed = False

    # What calls need.

    def use(self, spec: ModelSpec) -> ServableHandle:
        """The version that a call is for, kept loaded until the call has ended."""
        with self._lock:
            version = self._find(spec)
            loaded = version.loaded
            # An AVAILABLE version is loaded.
            assert loaded is not None
            version.uses += 1
        return ServableHandle(self, version, loaded)

    def status(self, name: str, version: int | None = None) -> tuple[VersionStatus, ...]:
        """All versions there have been, the highest first; or only the given one."""
        with self._lock:
            model = self._models.get(name)
            statuses = model.statuses() if model else ()
            problem = model.problem if model and model.config else None
        if not statuses:
            reason = f": {problem}" if problem else ""
            raise NotFound(f"Could not find any versions of model {name}{reason}")
        if version is None:
            return statuses
        statuses = tuple(status for status in statuses if status.version == version)
        if not statuses:
            raise NotFound(f"Could not find version {version} of model {name}")
        return statuses

    def models(self) -> list[ModelStatus]:
        """The configured models by name."""
        statuses = []
        with self._lock:
            for _, model in sorted(self._models.items()):
                if model.config is None:
                    continue
                latest = model.latest()
                default_version = latest.number if latest else None
                status = ModelStatus(
                    model.name,
                    model.statuses(),
                    dict(model.labels),
                    default_version,
                    model.problem,
                )
                statuses.append(status)
        return statuses

    def _find(self, spec: ModelSpec) -> Version:
        if not spec.name:
            raise InvalidArgument("ModelSpec has no name specified.")
        model = self._models.get(spec.name)
        number = spec.version
        if spec.label is not None:
            number = model.labels.get(spec.label) if model else None
            if number is None:
                raise InvalidArgument(f"Unrecognized servable version label: {spec.label}")
        if number is None:
            latest = model.latest() if model else None
            if latest is None:
                raise NotFound(f"Servable not found for request: Latest({spec.name})")
            return latest
        version = model.versions.get(number) if model else None
        if version is None or version.state is not _AVAILABLE:
            raise NotFound(f"Servable not found for request: Specific({spec.name}, {number})")
        return version

    # The config and the folders.

    def apply(self, config: ServingConfig, *, instead_of: ServingConfig | None = None) -> None:
        """Applies the config, or raises and changes nothing. Versions load in the background.

        When ``instead_of`` is given, it must be the current config.
        """
        with self._changed:
            if instead_of is not None and self.configured() != instead_of.by_name():
                raise Aborted("Another config has come meanwhile, and is what holds")
            self._check(config, ())
            for model_config in config.models:
                model = self._models.setdefault(model_config.name, _Model(model_config.name))
                model.is_scanned = False
            for model in self._models.values():
                new_config = config.model(model.name)
                if new_config == model.config:
                    continue
                model.config = new_config
                for version in model.versions.values():
                    version.may_retry = version.may_retry or version.has_failed
        self.scan()

    def check(self, config: ServingConfig, *, also: Collection[str] = ()) -> None:
        """Raises what apply() would, and changes nothing. The labels of models named in ``also``
        must point to available versions."""
        with self._lock:
            self._check(config, also)

    def configured(self) -> ServingConfig:
        """The current config, in order of name."""
        with self._lock:
            configs = [model.config for _, model in sorted(self._models.items())]
            return ServingConfig(tuple(config for config in configs if config))

    def failures(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """For each of these models that has no version available: what failed, the model or each
        version, and why."""
        failures = []
        with self._lock:
            for name in sorted(names):
                model = self._models.get(name, _Model(name))
                if model.latest() is not None:
                    continue
                statuses = model.statuses()
                for status in statuses:
                    version = f"{{name: {name} version: {status.version}}}"
                    failures.append((version, status.error_message))
                if not statuses:
                    reason = model.problem or "nothing of it is there"
                    failures.append((f"{{name: {name}}}", reason))
        return failures

    def scan(self) -> None:
        """Looks for versions that have come or gone, and starts the loads and unloads that
        follow."""
        with self._scanning:
            with self._lock:
                configs = {name: model.config for name, model in self._models.items()}
                known = {name: _complete(model) for name, model in self._models.items()}
            discovered = {
                name: discover(config, self._models_root, known[name], bare=self._bare_models)
                for name, config in configs.items()
            }
            with self._changed:
                for name, versions in discovered.items():
                    model = self._models[name]
                    # If another config has come meanwhile, its own scan updates the model.
                    if model.config is configs[name]:
                        self._update(model, versions)
                self._changed.notify_all()

    def wait_until_settled(
        self, timeout_s: float | None = None, *, names: Collection[str] | None = None
    ) -> bool:
        """Whether, within the time, every version of the configured models, or of those named, has
        loaded or failed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._is_settled(names), timeout_s)
            return not self._closed and self._is_settled(names)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Unloads everything after the calls under way; whether that ended in time."""
        with self._changed:
            self._closed = True
            for model in self._models.values():
                model.config = None
                self._update(model, Discovered())
            self._changed.notify_all()
            return self._changed.wait_for(self._is_empty, timeout_s)

    def _check(self, config: ServingConfig, also: Collection[str]) -> None:
        for model_config in config.models:
            self._check_labels(model_config, must_be_available=model_config.name in also)

    def _check_labels(self, config: ModelConfig, *, must_be_available: bool) -> None:
        model = self._models.get(config.name)
        if model is None or model.config is None:
            # No version of a new model can be available yet; until one is, its labels are unknown.
            return
        for label, number in config.labels.items():
            version = model.versions.get(number)
            if version is not None and version.state is _AVAILABLE:
                continue
            is_same = model.labels.get(label) == number
            if is_same and not must_be_available:
                continue
            if self._allow_labels and (must_be_available or label not in model.labels):
                continue
            raise FailedPrecondition(
                f"Request to assign label to version {number} of model {config.name}, "
                "which is not currently available for inference"
            )

    def _update(self, model: _Model, discovered: Discovered) -> None:
        problem = discovered.problem
        # A problem is logged once, not at every scan.
        if problem and problem != model.problem:
            event = "version is waited for" if discovered.paths else "model cannot be served"
            log.warning(event, extra={"model": model.name, "reason": problem})
        model.problem = problem
        model.is_scanned = True
        if discovered.paths is not None:
            model.paths = discovered.paths
        _set_aspired_versions(model)
        self._start_transitions(model)

    def _start_transitions(self, model: _Model) -> None:
        """Starts the loads that are due, the highest version first, and the unloads that leave no
        gap."""
        for number in sorted(model.versions, reverse=True):
            version = model.versions[number]
            if not version.is_aspired:
                continue
            if version.state is VersionState.END and not version.has_failed:
                version = model.versions[number] = Version(model.name, number, version.path)
            if version.state is VersionState.START and not self._closed:
                version.state = VersionState.LOADING
                _start_thread(self._load, version)
        for version in unloadable(model.versions.values()):
            version.state = VersionState.UNLOADING
            _start_thread(self._unload, version)

    def _load(self, version: Version) -> None:
        """A thread."""
        fields: dict[str, object] = {"model": version.model, "version": version.number}
        started = time.monotonic()
        try:
            loaded = self._loader.load(version)
        except HeadraceError as error:
            failure = {"code": error.status_name, "reason": error.message}
            log.error("version failed to load", extra=fields | failure)
            self._set_state(version, VersionState.END, error=error)
            return
        log.info("version available", extra=fields | {"seconds": time.monotonic() - started})
        self._set_state(version, _AVAILABLE, loaded=loaded)

    def _unload(self, version: Version) -> None:
        """A thread."""
        with self._changed:
            self._changed.wait_for(lambda: version.uses == 0)
            loaded, version.loaded = version.loaded, None
        fields: dict[str, object] = {"model": version.model, "version": version.number}
        try:
            if loaded:
                loaded.close()
            log.info("version unloaded", extra=fields)
        except HeadraceError as error:
            log.error("version did not close", extra=fields | {"reason": error.message})
        self._set_state(version, VersionState.END)

    def _set_state(
        self,
        version: Version,
        state: VersionState,
        *,
        loaded: LoadedModel | None = None,
        error: HeadraceError | None = None,
    ) -> None:
        with self._changed:
            version.state = state
            version.loaded = loaded
            version.error = error
            model = self._models[version.model]
            if error:
                # The next best version takes the place of the failed one.
                _set_aspired_versions(model)
            self._start_transitions(model)
            self._changed.notify_all()

    def _is_settled(self, names: Collection[str] | None) -> bool:
        for model in self._models.values():
            if model.config is None or (names is not None and model.name not in names):
                continue
            if not model.is_scanned or any(v.is_coming for v in model.versions.values()):
                return False
        return True

    def _is_empty(self) -> bool:
        for model in self._models.values():
            if any(version.state is not VersionState.END for version in model.versions.values()):
                return False
        return True


def _complete(model: _Model) -> frozenset[int]:
    """Versions that were complete once: they are loaded, or failed for another reason."""
    return frozenset(
        number
        for number, version in model.versions.items()
        if version.state is not VersionState.END or version.error
    )


def _set_aspired_versions(model: _Model) -> None:
    """Marks the versions that the policy selects from those on disk. A version that failed stays
    aspired, and the next best is aspired in its place."""
    paths = model.paths
    policy = model.config.policy if model.config else Specific(())
    failed = set()
    for number, version in model.versions.items():
        if number not in paths:
            version.may_retry = True
        if version.has_failed:
            failed.add(number)
    working = version_policy.select(policy, paths.keys() - failed)
    aspired = {*version_policy.select(policy, paths), *working}
    for number, version in model.versions.items():
        version.is_aspired = number in aspired
    for number in working:
        path = paths[number]
        version = model.versions.setdefault(number, Version(model.name, number, path))
        version.path = path


def _start_thread(work: Callable[[Version], None], version: Version) -> None:
    name = f"{version.model}/{version.number}"
    threading.Thread(target=work, args=(version,), name=name, daemon=True).start()
