"""What is configured and what of it is loaded: the models, their versions and labels.

A config is checked whole, then taken whole. A new version is AVAILABLE before the one it replaces
goes, and a version goes only when the last call on it has ended. A model that cannot be served
keeps no other from being served.
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
from headrace.server.lifecycle import discovery, versions
from headrace.server.lifecycle.discovery import Found
from headrace.server.lifecycle.loading import Loader
from headrace.server.lifecycle.versions import Version, VersionStatus
from headrace.server.metrics import Metrics
from headrace.store.model_list import ModelConfig, ServingConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelStatus:
    name: str
    versions: tuple[VersionStatus, ...]
    labels: Mapping[str, int]
    default_version: int | None
    # What stands in the way of a version that is not there, or not whole.
    trouble: str = ""

    @property
    def state(self) -> str:
        """AVAILABLE when a version is; else that of the newest."""
        if self.default_version is not None:
            return VersionState.AVAILABLE.name
        return self.versions[0].state.name if self.versions else "UNKNOWN"


@dataclass(slots=True, eq=False)
class _Model:
    """``config`` is None once the model is no longer configured; its versions' END rows stay."""

    name: str
    config: ModelConfig | None = None
    versions: dict[int, Version] = field(default_factory=dict)
    paths: Mapping[int, Path] = field(default_factory=dict)
    scanned: bool = False
    trouble: str = ""

    @property
    def labels(self) -> Mapping[str, int]:
        return self.config.labels if self.config else {}

    def latest(self) -> Version | None:
        """The highest version that is available: whom a call without a version is for."""
        return max(
            (v for v in self.versions.values() if v.state is VersionState.AVAILABLE),
            key=_number,
            default=None,
        )

    def statuses(self) -> tuple[VersionStatus, ...]:
        return tuple(v.status for v in sorted(self.versions.values(), key=_number, reverse=True))


class _Use:
    """Counted as begun when it is made, so it must be entered at once."""

    __slots__ = ("_loaded", "_repository", "_version")

    def __init__(self, repository: Repository, version: Version, loaded: LoadedModel) -> None:
        self._repository = repository
        self._version = version
        self._loaded = loaded

    def __enter__(self) -> tuple[int, LoadedModel]:
        return self._version.number, self._loaded

    def __exit__(self, *_: object) -> None:
        self._repository._used(self._version)


class Repository:
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
        places = threading.BoundedSemaphore(loads_at_once if loads_at_once > 0 else max(2, CPUS))
        self._loader = Loader(
            engine, self._changed, places, load_retries, retry_interval_s, metrics or Metrics()
        )
        self._closed = False

    # Calls

    def use(self, spec: ModelSpec) -> _Use:
        """The version a call is for, kept loaded until the call has ended."""
        with self._lock:
            version = self._find(spec)
            # As long as it is AVAILABLE.
            assert version.loaded is not None
            version.uses += 1
        return _Use(self, version, version.loaded)

    def _used(self, version: Version) -> None:
        with self._lock:
            version.uses -= 1
            if version.uses == 0 and version.state is not VersionState.AVAILABLE:
                self._changed.notify_all()

    def status(self, name: str, version: int | None = None) -> tuple[VersionStatus, ...]:
        """Every version ever seen, the highest first; or the one asked for."""
        with self._changed:
            model = self._models.get(name)
            rows = model.statuses() if model else ()
            trouble = f": {model.trouble}" if model and model.config and model.trouble else ""
        if not rows:
            raise NotFound(f"Could not find any versions of model {name}{trouble}")
        if version is not None:
            rows = tuple(row for row in rows if row.version == version)
        if not rows:
            raise NotFound(f"Could not find version {version} of model {name}")
        return rows

    def models(self) -> list[ModelStatus]:
        """The configured models by name."""
        with self._changed:
            known = [model for _, model in sorted(self._models.items()) if model.config]
            latest = {model.name: model.latest() for model in known}
            return [
                ModelStatus(
                    m.name,
                    m.statuses(),
                    dict(m.labels),
                    v.number if (v := latest[m.name]) else None,
                    m.trouble,
                )
                for m in known
            ]

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
        if version is None or version.state is not VersionState.AVAILABLE:
            raise NotFound(f"Servable not found for request: Specific({spec.name}, {number})")
        return version

    # Config and folders

    def apply(self, config: ServingConfig, *, instead_of: ServingConfig | None = None) -> None:
        """Takes the config, or raises and changes nothing. What it asks for is loaded in the
        background.

        Given ``instead_of``, that config must be the one that holds.
        """
        with self._changed:
            if instead_of is not None and self.configured() != instead_of.by_name():
                raise Aborted("Another config has come meanwhile, and is what holds")
            self._check(config, ())
            for wanted in config.models:
                self._models.setdefault(wanted.name, _Model(wanted.name)).scanned = False
            for model in self._models.values():
                wish = config.model(model.name)
                if wish != model.config:
                    model.config = wish
                    for version in model.versions.values():
                        version.retry = version.retry or version.has_failed
        self.scan()

    def check(self, config: ServingConfig, *, also: Collection[str] = ()) -> None:
        """Raises what apply() would, and changes nothing. Labels of models ``also`` named must lead
        somewhere now."""
        with self._changed:
            self._check(config, also)

    def configured(self) -> ServingConfig:
        """What was last applied, in order of name."""
        with self._changed:
            known = (model.config for _, model in sorted(self._models.items()))
            return ServingConfig(tuple(config for config in known if config))

    def failures(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """Of these models, those with no version available: the version or the model, and what went
        wrong."""
        found = []
        with self._changed:
            for name in sorted(names):
                model = self._models.get(name, _Model(name))
                if model.latest() is not None:
                    continue
                failed = [
                    (f"{{name: {name} version: {v.version}}}", v.error_message)
                    for v in model.statuses()
                ]
                found += failed or [
                    (f"{{name: {name}}}", model.trouble or "nothing of it is there")
                ]
        return found

    def scan(self) -> None:
        """Looks for versions that have come or gone, and starts what follows from it."""
        with self._scanning:
            with self._changed:
                seen = {m.name: (m.config, _looked_into(m)) for m in self._models.values()}
            found = {
                name: discovery.look(config, self._models_root, known, bare=self._bare_models)
                for name, (config, known) in seen.items()
            }
            with self._changed:
                for name, here in found.items():
                    model = self._models[name]
                    if model.config is seen[name][0]:
                        # Else another config has come, and its own scan will.
                        self._take(model, here)
                self._changed.notify_all()

    def wait_until_settled(
        self, timeout_s: float | None = None, *, names: Collection[str] | None = None
    ) -> bool:
        """Whether, within the time, every configured model, or those named, got its first decision:
        nothing loads."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._is_settled(names), timeout_s)
            return not self._closed and self._is_settled(names)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Unloads everything, calls under way first; whether that was all done in time."""
        with self._changed:
            self._closed = True
            for model in self._models.values():
                model.config = None
                self._take(model, Found())
            self._changed.notify_all()
            return self._changed.wait_for(self._is_empty, timeout_s)

    # From here on the lock is held, but for what the threads of _load and _unload do outside of it.

    def _check(self, config: ServingConfig, also: Collection[str]) -> None:
        for wanted in config.models:
            self._check_labels(wanted, must_lead=wanted.name in also)

    def _check_labels(self, wanted: ModelConfig, *, must_lead: bool) -> None:
        model = self._models.get(wanted.name)
        if model is None or model.config is None:
            # A new model: nothing of it can be available yet, and its labels lead nowhere until it
            # is.
            return
        available = {v.number for v in model.versions.values() if v.state is VersionState.AVAILABLE}
        for label, number in wanted.labels.items():
            is_same = model.labels.get(label) == number and not must_lead
            is_allowed = self._allow_labels and (must_lead or label not in model.labels)
            if number not in available and not is_same and not is_allowed:
                raise FailedPrecondition(
                    f"Request to assign label to version {number} of model {wanted.name}, "
                    "which is not currently available for inference"
                )

    def _take(self, model: _Model, found: Found) -> None:
        # Once, not at every look.
        if found.trouble and found.trouble != model.trouble:
            event = "version is waited for" if found.paths else "model cannot be served"
            log.warning(event, extra={"model": model.name, "reason": found.trouble})
        model.trouble = found.trouble
        model.scanned = True
        if found.paths is not None:
            model.paths = found.paths
        _aspire(model, model.paths)
        self._proceed(model)

    def _proceed(self, model: _Model) -> None:
        """Starts the loads that are due, the highest version first, and the unloads that leave no
        gap."""
        for number in sorted(model.versions, reverse=True):
            version = model.versions[number]
            if version.aspired and version.state is VersionState.END and not version.has_failed:
                version = model.versions[number] = Version(model.name, number, version.path)
            if version.aspired and version.state is VersionState.START and not self._closed:
                version.state = VersionState.LOADING
                _start(self._load, version)
        for version in versions.superfluous(model.versions.values()):
            version.state = VersionState.UNLOADING
            _start(self._unload, version)

    def _load(self, version: Version) -> None:
        fields: dict[str, object] = {"model": version.model, "version": version.number}
        started = time.monotonic()
        try:
            loaded = self._loader.load(version)
        except HeadraceError as error:
            log.error(
                "version failed to load",
                extra=fields | {"code": error.status_name, "reason": error.message},
            )
            self._settle(version, VersionState.END, error=error)
            return
        log.info("version available", extra=fields | {"seconds": time.monotonic() - started})
        self._settle(version, VersionState.AVAILABLE, loaded=loaded)

    def _unload(self, version: Version) -> None:
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
        self._settle(version, VersionState.END)

    def _settle(
        self,
        version: Version,
        state: VersionState,
        *,
        loaded: LoadedModel | None = None,
        error: HeadraceError | None = None,
    ) -> None:
        with self._changed:
            version.state, version.loaded, version.error = state, loaded, error
            model = self._models[version.model]
            if error:
                # To the next best.
                _aspire(model, model.paths)
            self._proceed(model)
            self._changed.notify_all()

    def _is_settled(self, names: Collection[str] | None = None) -> bool:
        return all(
            model.scanned and not any(v.is_coming for v in model.versions.values())
            for model in self._models.values()
            if model.config and (names is None or model.name in names)
        )

    def _is_empty(self) -> bool:
        return all(
            v.state is VersionState.END
            for model in self._models.values()
            for v in model.versions.values()
        )


def _looked_into(model: _Model) -> frozenset[int]:
    """Versions that were complete once: they are loaded, or failed for another reason."""
    return frozenset(
        n for n, v in model.versions.items() if v.state is not VersionState.END or v.error
    )


def _aspire(model: _Model, paths: Mapping[int, Path]) -> None:
    """Marks what the policy wants of what is there: also what failed, and instead of that the next
    best."""
    policy = model.config.policy if model.config else Specific(())
    for number, version in model.versions.items():
        version.retry = version.retry or number not in paths
    failed = {number for number, version in model.versions.items() if version.has_failed}
    working = version_policy.select(policy, paths.keys() - failed)
    aspired = {*version_policy.select(policy, paths), *working}
    for number, version in model.versions.items():
        version.aspired = number in aspired
    for number in working:
        model.versions.setdefault(number, Version(model.name, number, paths[number])).path = paths[
            number
        ]


def _number(version: Version) -> int:
    return version.number


def _start(work: Callable[[Version], None], version: Version) -> None:
    threading.Thread(
        target=work, args=(version,), name=f"{version.model}/{version.number}", daemon=True
    ).start()
