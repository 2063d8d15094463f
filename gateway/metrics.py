"""What /metrics shows. Labels come from the catalog alone: a model it lacks counts as "unknown"."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """One gateway's, in a registry of its own: several gateways can live in one process.

    Workers of one gateway share a ``folder``, which PROMETHEUS_MULTIPROC_DIR must name when they
    start. Each counts in files of its own there, and any of them shows the sum, with the counts of
    workers that have ended.
    """

    def __init__(self, *, enabled: bool, folder: str = "") -> None:
        self.enabled = enabled
        self._folder = folder
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "headrace_gateway_requests",
            "Calls answered, by door, model, version, signature and code (HTTP status or gRPC "
            "code name).",
            ("door", "model", "version", "signature", "code"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "headrace_gateway_request_seconds",
            "Seconds from the call's arrival to its answer.",
            ("door", "model"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._backend_up = Gauge(
            "headrace_gateway_backend_up",
            "1 when the serving backend answers, else 0.",
            multiprocess_mode="livemin",
            registry=self.registry,
        )
        # A plain number, because it changes in one thread only.
        self.in_flight = 0
        self._in_flight_gauge = Gauge(
            "headrace_gateway_in_flight",
            "Calls under way in both doors.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        # Read from the catalog, which is the same in every worker: not summed over them.
        self.failures = _FailedVersions()
        if not folder:
            self.registry.register(self.failures)
            self._in_flight_gauge.set_function(lambda: self.in_flight)
        # labels() takes a lock and builds a key on every call; what it returns never changes.
        self._children: dict[tuple[str, ...], tuple[Any, Any]] = {}

    def began(self) -> None:
        self.in_flight += 1
        if self._folder:
            self._in_flight_gauge.set(self.in_flight)

    def ended(self) -> None:
        self.in_flight -= 1
        if self._folder:
            self._in_flight_gauge.set(self.in_flight)

    def answered(
        self, door: str, model: str, version: str, signature: str, code: str, *, seconds: float
    ) -> None:
        if not self.enabled:
            return
        key = (door, model, version, signature, code)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = (
                self._requests.labels(*key),
                self._seconds.labels(door, model),
            )
        child[0].inc()
        child[1].observe(seconds)

    def backend(self, *, up: bool) -> None:
        self._backend_up.set(1 if up else 0)

    def render(self) -> bytes:
        if not self._folder:
            return generate_latest(self.registry)
        all_workers = CollectorRegistry()
        multiprocess.MultiProcessCollector(all_workers, path=self._folder)  # type: ignore[no-untyped-call]
        all_workers.register(self.failures)
        return generate_latest(all_workers)


class _FailedVersions(Collector):
    """``read`` gives model and version of each that has failed now."""

    def __init__(self) -> None:
        self.read: Callable[[], Iterable[tuple[str, int]]] = tuple

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(
            "headrace_gateway_version_failed",
            "1 for each version that the model list asks for and that could not be loaded.",
            labels=("model", "version"),
        )
        for model, version in self.read():
            family.add_metric((model, str(version)), 1)
        yield family
