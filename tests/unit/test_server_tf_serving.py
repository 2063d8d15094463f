"""TensorFlow Serving's batching: how requests are put together, when they run, and what is said no
to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.protocol import dtypes
from headrace.protocol.errors import (
    ConfigError,
    DeadlineExceeded,
    FailedPrecondition,
    HeadraceError,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from headrace.protocol.signatures import Signature, TensorSpec
from headrace.server.batching.batch_scheduler import BatchScheduler
from headrace.server.batching.parameters import BatchingParameters
from headrace.server.batching.tf_serving import BatchedModel, BatchingEngine
from headrace.server.metrics import Metrics
from tests.live import LiveServer, until

Arrays = Mapping[str, np.ndarray]


def spec(alias: str, shape: tuple[int, ...] | None = None) -> TensorSpec:
    return TensorSpec(alias, f"{alias}:0", dtypes.FLOAT, shape)


DOUBLE = Signature("serving_default", {"x": spec("x", (-1,))}, {"y": spec("y")})
PAIR = Signature("pair", {"a": spec("a"), "b": spec("b")}, {"sum": spec("sum"), "a": spec("a")})


@dataclass
class FakeModel:
    """y = 2x. Runs wait while ``hold`` is cleared; ``seen`` is what each run was given."""

    seen: list[Arrays] = field(default_factory=list)
    answer: Callable[[Arrays], dict[str, Any]] = lambda inputs: {"y": inputs["x"] * 2}
    hold: threading.Event = field(default_factory=threading.Event)
    started: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    signatures: dict[str, Signature] = field(
        default_factory=lambda: {s.name: s for s in (DOUBLE, PAIR)}
    )
    signature_defs: dict[str, Any] = field(default_factory=dict)
    not_row_wise: dict[str, str] = field(default_factory=dict)
    closed: bool = False

    def run(
        self, signature: Signature, inputs: Arrays, outputs: Sequence[str], **_: Any
    ) -> dict[str, Any]:
        self.started.release()
        assert self.hold.wait(10)
        self.seen.append(dict(inputs))
        return self.answer(inputs)

    def expected_s(self, signature: Signature, requests: Any) -> float:
        return 0.0

    def close(self) -> None:
        self.closed = True


class World:
    def __init__(self, threads: int = 1, **parameters: Any) -> None:
        self.model = FakeModel()
        self.model.hold.set()
        self.metrics = Metrics()
        self.scheduler = BatchScheduler(threads, self.metrics)
        self.batched = BatchedModel(self.model, self.scheduler, BatchingParameters(**parameters))

    def call(self, x: Any, *, timeout_s: float | None = 10) -> np.ndarray:
        return self.batched.run(
            DOUBLE, {"x": np.asarray(x, np.float32)}, ["y"], timeout_s=timeout_s
        )["y"]

    def together(self, *calls: Any) -> list[Any]:
        """Answers or errors of calls that all wait while the only thread is kept busy by one of one
        row."""
        self.model.hold.clear()
        busy = threading.Thread(target=self.call, args=([0.0],))
        busy.start()
        assert self.model.started.acquire(timeout=10)
        answers: list[Any] = [None] * len(calls)

        def one(at: int) -> None:
            try:
                answers[at] = self.call(calls[at]).tolist()
            except HeadraceError as error:
                answers[at] = error

        threads = []
        for at in range(len(calls)):
            waiting = sum(len(b.tasks) for q in self.scheduler._queues for b in q.batches)
            threads.append(threading.Thread(target=one, args=(at,)))
            threads[-1].start()
            until(
                lambda before=waiting, at=at: (
                    answers[at] is not None
                    or sum(len(b.tasks) for q in self.scheduler._queues for b in q.batches) > before
                ),
                10,
            )
        self.model.hold.set()
        for thread in [busy, *threads]:
            thread.join(10)
        return answers

    def sizes(self) -> list[int]:
        return [len(inputs["x"]) for inputs in self.model.seen]


@pytest.fixture
def world() -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(**settings: Any) -> World:
        made.append(World(**settings))
        return made[-1]

    yield make
    for one in made:
        one.model.hold.set()
        one.batched.close()
        assert one.model.closed
        one.scheduler.close()


def test_a_call_alone_runs_at_once_without_a_timeout(world: Callable[..., World]) -> None:
    one = world()
    assert one.call([1.0, 2.0]).tolist() == [2.0, 4.0]


def test_calls_that_wait_run_as_one_batch_and_each_gets_its_rows(
    world: Callable[..., World],
) -> None:
    one = world()
    assert one.together([1.0], [2.0, 3.0], [4.0]) == [[2.0], [4.0, 6.0], [8.0]]
    assert one.sizes() == [1, 4]


def test_a_batch_grows_up_to_its_size(world: Callable[..., World]) -> None:
    one = world(max_batch_size=3, max_execution_batch_size=3)
    one.together([1.0, 2.0], [3.0, 4.0], [5.0])
    assert one.sizes() == [1, 2, 3]


def test_a_partial_batch_waits_for_the_timeout_and_a_full_one_does_not(
    world: Callable[..., World],
) -> None:
    one = world(batch_timeout_s=0.3, max_batch_size=2, max_execution_batch_size=2)
    started = time.monotonic()
    one.call([1.0, 2.0])
    assert time.monotonic() - started < 0.25
    one.call([1.0])
    assert time.monotonic() - started >= 0.3


def test_a_call_larger_than_a_batch_is_refused(world: Callable[..., World]) -> None:
    one = world(max_batch_size=3, max_execution_batch_size=3)
    with pytest.raises(
        InvalidArgument, match=r"^Task size 4 is larger than maximum input batch size 3$"
    ):
        one.call([1.0] * 4)


def test_or_split_where_that_is_allowed(world: Callable[..., World]) -> None:
    one = world(max_batch_size=10, max_execution_batch_size=3, enable_large_batch_splitting=True)
    assert one.call([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]).tolist() == [
        2.0,
        4.0,
        6.0,
        8.0,
        10.0,
        12.0,
        14.0,
    ]
    assert one.sizes() == [3, 3, 1]


def test_sizes_are_padded_to_the_allowed_ones_with_the_last_calls_first_row(
    world: Callable[..., World],
) -> None:
    one = world(max_batch_size=8, max_execution_batch_size=8, allowed_batch_sizes=(4, 8))
    assert one.together([1.0], [2.0, 3.0]) == [[2.0], [4.0, 6.0]]
    assert one.model.seen[1]["x"].tolist() == [1.0, 2.0, 3.0, 2.0]


def test_batches_are_counted_under_tensorflow_servings_names(world: Callable[..., World]) -> None:
    one = world(
        max_batch_size=8,
        max_execution_batch_size=8,
        allowed_batch_sizes=(4, 8),
        thread_pool_name="mine",
    )
    one.together([1.0], [2.0, 3.0])  # after one of one row, which keeps the thread busy
    page = one.metrics.page().splitlines()
    batching = ":tensorflow:serving:batching_session:"
    assert f"{batching}wrapped_run_count{{}} 2" in page
    assert f'{batching}queuing_latency_count{{thread_pool_name="mine"}} 3' in page
    assert f"{batching}input_batch_size_sum{{}} 4" in page
    assert f"{batching}processed_batch_size_sum{{}} 8" in page
    assert f'{batching}padding_size_sum{{execution_batch_size="4"}} 4' in page


def test_a_full_queue_is_unavailable(world: Callable[..., World]) -> None:
    one = world(max_batch_size=1, max_execution_batch_size=1, max_enqueued_batches=2)
    *good, refused = one.together([1.0], [2.0], [3.0])
    assert good == [[2.0], [4.0]]
    assert isinstance(refused, Unavailable)
    assert refused.message == (
        "The batch scheduling queue to which this task was submitted is full; currently 2 batches "
        "enqueued and "
        "max_enqueued_batches is 2"
    )


def test_mixed_shapes_fail_the_batch_unless_they_are_padded(world: Callable[..., World]) -> None:
    for error in world().together([[1.0, 2.0]], [[1.0, 2.0, 3.0]]):
        assert isinstance(error, FailedPrecondition)
        assert error.message.startswith(
            "Tensors with name 'x:0' from different tasks have different shapes and padding"
        )

    padded = world(pad_variable_length_inputs=True)
    assert padded.together([[5.0, 2.0]], [[1.0, 2.0, 3.0]]) == [
        [[10.0, 4.0, 10.0]],
        [[2.0, 4.0, 6.0]],
    ]


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({}, "Batching Run() must have at least one input tensor"),
        (
            {"a": np.float32(1), "b": np.float32([1])},
            "Batching Run() input tensors must have at least one dimension",
        ),
        (
            {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)},
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
    ],
    ids=["none", "scalar", "unequal"],
)
def test_inputs_that_are_no_batch_are_refused(
    world: Callable[..., World], inputs: Arrays, text: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        world().batched.run(PAIR, inputs, ["sum", "a"])
    assert caught.value.message == text


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (np.float32(1), "Batched output tensor has 0 dimensions"),
        (
            np.ones(5, np.float32),
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension",
        ),
    ],
    ids=["scalar", "other size"],
)
def test_outputs_that_are_no_batch_are_told(
    world: Callable[..., World], answer: Any, text: str
) -> None:
    one = world()
    one.model.answer = lambda _: {"y": answer}
    with pytest.raises(FailedPrecondition, match=f"^{text}"):
        one.call([1.0])


def test_a_call_of_another_dtype_or_other_outputs_runs_alone(world: Callable[..., World]) -> None:
    one = world(batch_timeout_s=5)
    one.batched.run(DOUBLE, {"x": np.array([1], np.int32)}, ["y"])
    one.model.answer = lambda inputs: {"a": inputs["a"]}
    one.batched.run(PAIR, {"a": np.ones(1, np.float32), "b": np.ones(1, np.float32)}, ["a"])
    assert len(one.model.seen) == 2


def test_a_call_of_another_shape_than_the_signatures_spoils_nobodys_batch(
    world: Callable[..., World],
) -> None:
    one = world()
    assert one.together([1.0], [[2.0, 3.0]], [4.0]) == [[2.0], [[4.0, 6.0]], [8.0]]
    assert sorted(one.sizes()) == [1, 1, 2]


def test_a_caller_hears_at_its_deadline(world: Callable[..., World]) -> None:
    one = world(batch_timeout_s=30)
    with pytest.raises(DeadlineExceeded):
        one.call([1.0], timeout_s=0.05)


def test_what_goes_wrong_in_a_run_is_told_to_all_of_its_batch(world: Callable[..., World]) -> None:
    one = world()

    def broken(inputs: Arrays) -> dict[str, Any]:
        if len(inputs["x"]) > 1:
            raise ZeroDivisionError("a mistake")
        return {"y": inputs["x"]}

    one.model.answer = broken
    assert [error.message for error in one.together([1.0], [2.0])] == [
        "ZeroDivisionError: a mistake"
    ] * 2


PARAMETERS = {
    "empty": ("", BatchingParameters()),
    "all": (
        "max_batch_size { value: 8 } batch_timeout_micros { value: 2500 } max_enqueued_batches { "
        "value: 3 } "
        "num_batch_threads { value: 2 } thread_pool_name { value: 'x' } allowed_batch_sizes: 4 "
        "allowed_batch_sizes: 8 "
        "pad_variable_length_inputs: true",
        BatchingParameters(8, 0.0025, 3, 2, (4, 8), True, False, 8, "x"),
    ),
    "splitting": (
        "max_batch_size { value: 8 } enable_large_batch_splitting { value: true } "
        "max_execution_batch_size { value: 4 } allowed_batch_sizes: 4",
        BatchingParameters(
            8,
            allowed_batch_sizes=(4,),
            enable_large_batch_splitting=True,
            max_execution_batch_size=4,
        ),
    ),
}


@pytest.mark.parametrize(("text", "parameters"), PARAMETERS.values(), ids=PARAMETERS)
def test_the_parameters_file_is_read(
    tmp_path: Path, text: str, parameters: BatchingParameters
) -> None:
    (tmp_path / "p").write_text(text)
    assert BatchingParameters.load(str(tmp_path / "p")) == parameters


WRONG = {
    "last size": (
        "max_batch_size { value: 8 } allowed_batch_sizes: 4",
        "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8",
    ),
    "last size of the default": ("allowed_batch_sizes: 4", "last entry was 4; expected 1000"),
    "order": (
        "max_batch_size { value: 4 } allowed_batch_sizes: 8 allowed_batch_sizes: 4",
        "monotonically increasing",
    ),
    "threads": ("num_batch_threads { value: 0 }", "num_batch_threads must be positive; was 0"),
    "timeout": (
        "batch_timeout_micros { value: -1 }",
        "batch_timeout_micros must be non-negative; was -1",
    ),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_wrong_parameters_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "p").write_text(text)
    with pytest.raises(InvalidArgument, match=said):
        BatchingParameters.load(str(tmp_path / "p"))


def test_a_parameters_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="No such file"):
        BatchingParameters.load(str(tmp_path / "none"))
    (tmp_path / "p").write_text("max_batch_size: 8")
    with pytest.raises(ConfigError):
        BatchingParameters.load(str(tmp_path / "p"))


def test_a_version_brings_its_own_parameters_or_is_not_batched(tmp_path: Path) -> None:
    class Engine:
        def load(self, folder: Path) -> FakeModel:
            return FakeModel()

    scheduler = BatchScheduler(1)
    engine = BatchingEngine(Engine(), scheduler)
    assert isinstance(engine.load(tmp_path), FakeModel)

    (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: 3 }")
    batched = engine.load(tmp_path)
    assert isinstance(batched, BatchedModel)
    batched.close()
    scheduler.close()


def test_the_server_batches_when_told(
    contract_models: Path, tmp_path: Path, launch: Callable[..., LiveServer]
) -> None:
    (tmp_path / "batching").write_text(
        "max_batch_size { value: 4 } batch_timeout_micros { value: 1000 }"
    )
    server = launch(
        model_name="m",
        model_base_path=contract_models / "half_plus_two",
        enable_batching=True,
        batching_parameters_file=tmp_path / "batching",
    )
    server.wait_until_available("m")

    answers: dict[float, Any] = {}
    callers = [
        threading.Thread(
            target=lambda x=x: answers.update({x: server.predict("m", {"instances": [x]}).json})
        )
        for x in map(float, range(16))
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()

    assert answers == {x: {"predictions": [x / 2 + 2]} for x in map(float, range(16))}
    refused = server.predict("m", {"instances": [1.0] * 5})
    assert (refused.status, refused.json) == (
        400,
        {"error": "Task size 5 is larger than maximum input batch size 4"},
    )
