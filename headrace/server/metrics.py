"""What the server counts, under TensorFlow Serving's names."""

from __future__ import annotations

from headrace.http import metrics
from headrace.http.metrics import Counter, Histogram

PATH = "/monitoring/prometheus/metrics"

_LOADING = ":tensorflow:cc:saved_model:"
_SERVING = ":tensorflow:serving:"
_BATCHING = f"{_SERVING}batching_session:"
# Upper limits of buckets: microseconds, up to 20 minutes; and numbers of examples.
_MICROSECONDS = tuple(10 * 1.8**i for i in range(33))
_EXAMPLES = tuple(2.0**i for i in range(15))
_MAX_MODELS = 1000


class Metrics:
    """One server's. Cheap enough to count always; shown only where a monitoring config asks for it.

    Names that callers make up must not fill the memory: past a number of unknown models, a model
    counts as "".
    """

    def __init__(self) -> None:
        self._all: list[Counter | Histogram] = []
        self._models: set[str] = set()
        self._add_loading()
        self._add_requests()
        self._add_batching()

    def _add_loading(self) -> None:
        self.load_attempts = self._counter(
            f"{_LOADING}load_attempt_count",
            "model_path",
            "status",
        )
        self.load_latency = self._counter(
            f"{_LOADING}load_latency",
            "model_path",
        )
        self.warmup_latency = self._times(
            f"{_SERVING}model_warmup_latency",
            "model_path",
            "status",
        )
        self.warmup_records = self._counter(
            f"{_SERVING}model_warmup_records_read",
            "model_path",
            "status",
        )

    def _add_requests(self) -> None:
        self.requests = self._counter(
            f"{_SERVING}request_count",
            "model_name",
            "status",
        )
        self.examples = self._counter(
            f"{_SERVING}request_example_count_total",
            "model",
        )
        self.example_counts = self._sizes(
            f"{_SERVING}request_example_counts",
            "model",
        )
        self.latency = self._times(
            f"{_SERVING}request_latency",
            "model_name",
            "API",
            "entrypoint",
        )
        self.runtime = self._times(
            f"{_SERVING}runtime_latency",
            "model_name",
            "API",
            "runtime",
        )

    def _add_batching(self) -> None:
        self.queuing = self._times(
            f"{_BATCHING}queuing_latency",
            "thread_pool_name",
        )
        self.wrapped_runs = self._counter(f"{_BATCHING}wrapped_run_count")
        self.padding = self._sizes(
            f"{_BATCHING}padding_size",
            "execution_batch_size",
        )
        self.input_sizes = self._sizes(f"{_BATCHING}input_batch_size")
        self.processed_sizes = self._sizes(f"{_BATCHING}processed_batch_size")

    def request(self, model: str, status: str) -> None:
        """A call that was answered, by its canonical status."""
        name = self._known(model, is_served=status == "OK")
        self.requests.inc(name, status)

    def answered(self, model: str, api: str, entrypoint: str, seconds: float) -> None:
        """A call that was answered well."""
        self.latency.observe(seconds * 1e6, model, api, entrypoint)

    def ran(self, model: str, api: str, seconds: float) -> None:
        self.runtime.observe(seconds * 1e6, model, api, "TF1")

    def examples_read(self, model: str, count: int) -> None:
        self.examples.inc(model, by=count)
        self.example_counts.observe(count, model)

    def loaded(self, path: str, status: str, seconds: float) -> None:
        """An attempt to load a version; ``status`` is success or fail."""
        self.load_attempts.inc(path, status)
        self.load_latency.inc(path, by=round(seconds * 1e6))

    def warmed(self, path: str, status: str, seconds: float, records: int) -> None:
        """``status`` is a canonical one."""
        self.warmup_latency.observe(seconds * 1e6, path, status)
        self.warmup_records.inc(path, status, by=records)

    def waited(self, thread_pool: str, seconds: float, *, rows: int) -> None:
        """A request that left its queue to be run with others."""
        self.queuing.observe(seconds * 1e6, thread_pool)
        self.input_sizes.observe(rows)

    def batched(self, rows: int, padded: int) -> None:
        """A batch is run: its number of rows, and to how many it was padded."""
        self.wrapped_runs.inc()
        self.padding.observe(padded - rows, str(padded))
        self.processed_sizes.observe(padded)

    def page(self) -> str:
        return metrics.page(self._all)

    def total(self, name: str) -> int:
        """A counter's sum over all its labels, by the name of the page or as a path; 0 for what is
        no counter."""
        name = name.replace("/", ":")
        for metric in self._all:
            if isinstance(metric, Counter) and metric.name == name:
                return metric.total()
        return 0

    def _counter(self, name: str, *labels: str) -> Counter:
        counter = Counter(name, labels)
        self._all.append(counter)
        return counter

    def _times(self, name: str, *labels: str) -> Histogram:
        return self._histogram(name, labels, _MICROSECONDS)

    def _sizes(self, name: str, *labels: str) -> Histogram:
        return self._histogram(name, labels, _EXAMPLES)

    def _histogram(
        self, name: str, labels: tuple[str, ...], limits: tuple[float, ...]
    ) -> Histogram:
        histogram = Histogram(name, labels, limits)
        self._all.append(histogram)
        return histogram

    def _known(self, model: str, *, is_served: bool) -> str:
        if model in self._models:
            return model
        if not is_served and len(self._models) >= _MAX_MODELS:
            return ""
        self._models.add(model)
        return model
