"""Counters and histograms, and the page that Prometheus reads."""

from __future__ import annotations

import bisect
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

Labels = tuple[str, ...]

_NOT_IN_A_LABEL_NAME = re.compile(r"[^a-zA-Z0-9]")


@dataclass(slots=True)
class Counter:
    """A number for each combination of label values."""

    name: str
    labels: Sequence[str]
    _values: dict[Labels, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def inc(self, *labels: str, by: int = 1) -> None:
        with self._lock:
            value = self._values.get(labels, 0)
            self._values[labels] = value + by

    def value(self, *labels: str) -> int:
        return self._values.get(labels, 0)

    def total(self) -> int:
        with self._lock:
            return sum(self._values.values())

    def lines(self) -> Iterator[str]:
        yield f"# TYPE {self.name} counter"
        with self._lock:
            values = sorted(self._values.items())
        for labels, value in values:
            pairs = _pairs(self.labels, labels)
            yield f"{self.name}{{{pairs}}} {value}"


@dataclass(slots=True)
class _Buckets:
    counts: list[int]
    total: float = 0.0


@dataclass(slots=True)
class Histogram:
    """How often a value fell into each bucket, for each combination of label values.

    ``limits`` are the buckets' upper limits; a value that equals one belongs to the bucket above.
    """

    name: str
    labels: Sequence[str]
    limits: Sequence[float]
    _buckets: dict[Labels, _Buckets] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def observe(self, value: float, *labels: str) -> None:
        with self._lock:
            buckets = self._buckets.get(labels)
            if buckets is None:
                counts = [0] * (len(self.limits) + 1)
                buckets = _Buckets(counts)
                self._buckets[labels] = buckets
            index = bisect.bisect_right(self.limits, value)
            buckets.counts[index] += 1
            buckets.total += value

    def count(self, *labels: str) -> int:
        buckets = self._buckets.get(labels)
        if buckets is None:
            return 0
        return sum(buckets.counts)

    def lines(self) -> Iterator[str]:
        yield f"# TYPE {self.name} histogram"
        rows = []
        with self._lock:
            items = sorted(self._buckets.items())
            for labels, buckets in items:
                pairs = _pairs(self.labels, labels)
                counts = list(buckets.counts)
                rows.append((pairs, counts, buckets.total))

        limits = [f"{limit:g}" for limit in self.limits]
        limits.append("+Inf")
        for pairs, counts, total in rows:
            prefix = ""
            if pairs:
                prefix = f"{pairs},"
            below = 0
            for limit, count in zip(limits, counts, strict=True):
                below += count
                yield f'{self.name}_bucket{{{prefix}le="{limit}"}} {below}'
            yield f"{self.name}_sum{{{pairs}}} {total:g}"
            yield f"{self.name}_count{{{pairs}}} {below}"


def page(metrics: Iterable[Counter | Histogram]) -> str:
    """Prometheus' text format, laid out as TensorFlow Serving does."""
    lines: list[str] = []
    for metric in metrics:
        lines.extend(metric.lines())
    return "\n".join(lines) + "\n"


def _pairs(names: Sequence[str], values: Labels) -> str:
    pairs = []
    for name, value in zip(names, values, strict=True):
        label = _NOT_IN_A_LABEL_NAME.sub("_", name)
        pairs.append(f'{label}="{_escaped(value)}"')
    return ",".join(pairs)


def _escaped(value: str) -> str:
    text = value.replace("\\", "\\\\")
    text = text.replace('"', '\\"')
    text = text.replace("\n", "\\n")
    return text.encode("utf-8", "replace").decode()
