"""What the server counts, under TensorFlow Serving's names, and the page that Prometheus reads."""

from __future__ import annotations

import bisect
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

PATH = "/monitoring/prometheus/metrics"

Labels = tuple[str, ...]

_SERVING = ":tensorflow:serving:"
# Limits of buckets: of times in microseconds, up to 20 minutes; of numbers of examples.
_TIMES = tuple(10 * 1.8**i for i in range(33))
_COUNTS = tuple(2.0**i for i in range(15))
_NAME = re.compile(r"[^a-zA-Z0-9]")


@dataclass(slots=True)
class Counter:
    """A number for each combination of label values."""

    name: str
    labels: Sequence[str]
    kind: str = "counter"
    _values: dict[Labels, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *labels: str, by: int = 1) -> None:
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + by

    def value(self, *labels: str) -> int:
        return self._values.get(labels, 0)

    def total(self) -> int:
        with self._lock:
            return sum(self._values.values())

    def lines(self) -> Iterator[str]:
        yield f"# TYPE {self.name} {self.kind}"
        with self._lock:
            values = sorted(self._values.items())
        for labels, value in values:
            yield f"{self.name}{{{_pairs(self.labels, labels)}}} {value}"


@dataclass(slots=True)
class _Cell:
    counts: list[int]
    total: float = 0.0


@dataclass(slots=True)
class Histogram:
    """How often a value fell into each bucket, for each combination of label values."""

    name: str
    labels: Sequence[str]
    limits: Sequence[float] = _TIMES
    _cells: dict[Labels, _Cell] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, value: float, *labels: str) -> None:
        with self._lock:
            cell = self._cells.get(labels)
            if cell is None:
                cell = self._cells[labels] = _Cell([0] * (len(self.limits) + 1))
            # A value that is a limit belongs to the bucket above it.
            cell.counts[bisect.bisect_right(self.limits, value)] += 1
            cell.total += value

    def count(self, *labels: str) -> int:
        cell = self._cells.get(labels)
        return sum(cell.counts) if cell else 0

    def lines(self) -> Iterator[str]:
        yield f"# TYPE {self.name} histogram"
        with self._lock:
            cells = [
                (labels, list(cell.counts), cell.total)
                for labels, cell in sorted(self._cells.items())
            ]
        limits = [*(f"{limit:g}" for limit in self.limits), "+Inf"]
        for labels, counts, total in cells:
            pairs = _pairs(self.labels, labels)
            comma = "," if pairs else ""
            below = 0
            for limit, count in zip(limits, counts, strict=True):
                below += count
                yield f'{self.name}_bucket{{{pairs}{comma}le="{limit}"}} {below}'
            yield f"{self.name}_sum{{{pairs}}} {total:g}"
            yield f"{self.name}_count{{{pairs}}} {below}"


class Metrics:
    """One server's. Cheap enough to count always; shown only where a monitoring config asks for it.

    Names that callers make up must not fill the memory: past a number of unknown models, a model
    counts as "".
    """

    def __init__(self) -> None:
        load = ":tensorflow:cc:saved_model:"
        self.load_attempts = Counter(f"{load}load_attempt_count", ("model_path", "status"))
        self.load_latency = Counter(f"{load}load_latency", ("model_path",))
        self.warmup_latency = Histogram(f"{_SERVING}model_warmup_latency", ("model_path", "status"))
        self.warmup_records = Counter(
            f"{_SERVING}model_warmup_records_read", ("model_path", "status")
        )
        self.requests = Counter(f"{_SERVING}request_count", ("model_name", "status"))
        self.examples = Counter(f"{_SERVING}request_example_count_total", ("model",))
        self.example_counts = Histogram(f"{_SERVING}request_example_counts", ("model",), _COUNTS)
        self.latency = Histogram(f"{_SERVING}request_latency", ("model_name", "API", "entrypoint"))
        self.runtime = Histogram(f"{_SERVING}runtime_latency", ("model_name", "API", "runtime"))
        batching = f"{_SERVING}batching_session:"
        self.queuing = Histogram(f"{batching}queuing_latency", ("thread_pool_name",))
        self.wrapped_runs = Counter(f"{batching}wrapped_run_count", ())
        self.padding = Histogram(f"{batching}padding_size", ("execution_batch_size",), _COUNTS)
        self.input_sizes = Histogram(f"{batching}input_batch_size", (), _COUNTS)
        self.processed_sizes = Histogram(f"{batching}processed_batch_size", (), _COUNTS)
        self._seen: set[str] = set()

    def request(self, model: str, status: str) -> None:
        """A call that was answered, by its canonical status."""
        self.requests.add(self._known(model, status == "OK"), status)

    def answered(self, model: str, api: str, entrypoint: str, seconds: float) -> None:
        """A call that was answered well."""
        self.latency.add(seconds * 1e6, model, api, entrypoint)

    def ran(self, model: str, api: str, seconds: float) -> None:
        self.runtime.add(seconds * 1e6, model, api, "TF1")

    def examples_read(self, model: str, count: int) -> None:
        self.examples.add(model, by=count)
        self.example_counts.add(count, model)

    def loaded(self, path: str, status: str, seconds: float) -> None:
        """An attempt to load a version; ``status`` is success or fail."""
        self.load_attempts.add(path, status)
        self.load_latency.add(path, by=round(seconds * 1e6))

    def warmed(self, path: str, status: str, seconds: float, records: int) -> None:
        """``status`` is a canonical one."""
        self.warmup_latency.add(seconds * 1e6, path, status)
        self.warmup_records.add(path, status, by=records)

    def waited(self, thread_pool: str, seconds: float, *, rows: int) -> None:
        """A request that left its queue to be run with others."""
        self.queuing.add(seconds * 1e6, thread_pool)
        self.input_sizes.add(rows)

    def batched(self, rows: int, padded: int) -> None:
        """A batch of so many rows, padded to so many, that is run."""
        self.wrapped_runs.add()
        self.padding.add(padded - rows, str(padded))
        self.processed_sizes.add(padded)

    def page(self) -> str:
        """Prometheus' text format, as TensorFlow Serving writes it."""
        return "\n".join(line for metric in self._all() for line in metric.lines()) + "\n"

    def total(self, name: str) -> int:
        """A counter's sum over all its labels, by the name of the page or as a path; 0 for what is
        no counter."""
        name = name.replace("/", ":")
        return sum(
            metric.total()
            for metric in self._all()
            if isinstance(metric, Counter) and metric.name == name
        )

    def _all(self) -> tuple[Counter | Histogram, ...]:
        return (
            *(self.load_attempts, self.load_latency, self.warmup_latency, self.warmup_records),
            *(self.requests, self.examples, self.example_counts, self.latency, self.runtime),
            *(
                self.queuing,
                self.wrapped_runs,
                self.padding,
                self.input_sizes,
                self.processed_sizes,
            ),
        )

    def _known(self, model: str, is_served: bool) -> str:
        if model in self._seen:
            return model
        if not is_served and len(self._seen) >= _MOST_NAMES:
            return ""
        self._seen.add(model)
        return model


_MOST_NAMES = 1000


def _pairs(names: Sequence[str], values: Labels) -> str:
    return ",".join(
        f'{_NAME.sub("_", name)}="{_escaped(value)}"'
        for name, value in zip(names, values, strict=True)
    )


def _escaped(value: str) -> str:
    text = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return text.encode("utf-8", "replace").decode()
