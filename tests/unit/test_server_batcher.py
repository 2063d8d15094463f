"""Adaptive batching: idle runs now, busy gathers; poison, leavers, deadlines and full queues hurt
only themselves."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from headrace.protocol import dtypes, messages, tensors
from headrace.protocol.errors import (
    Cancelled,
    DeadlineExceeded,
    HeadraceError,
    InvalidArgument,
    Unavailable,
)
from headrace.protocol.signatures import Signature, TensorSpec
from headrace.server.batching.adaptive import AdaptiveModel
from headrace.server.batching.batcher import Limits
from headrace.server.batching.thread_batcher import CALLER, Caller
from headrace.server.runner import Runner, blocking
from tests.live import LiveServer, until

Arrays = Mapping[str, np.ndarray]

DOUBLE = Signature(
    "serving_default",
    {"x": TensorSpec("x", "x:0", dtypes.FLOAT, (-1, -1))},
    {"y": TensorSpec("y", "y:0", dtypes.FLOAT, (-1, -1))},
)
POISON = -1.0


@dataclass
class FakeModel:
    """y = 2x, a negative x is refused. Runs wait while ``hold`` is cleared."""

    seen: list[list[float]] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)
    started: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    threads: list[str] = field(default_factory=list)
    signatures: dict[str, Signature] = field(default_factory=lambda: {DOUBLE.name: DOUBLE})
    signature_defs: dict[str, Any] = field(default_factory=dict)
    not_row_wise: dict[str, str | None] = field(default_factory=lambda: {DOUBLE.name: None})
    takes_s: float = 0.0

    def run(
        self, signature: Signature, inputs: Arrays, outputs: Sequence[str], **_: Any
    ) -> dict[str, np.ndarray]:
        self.started.release()
        assert self.hold.wait(10)
        self.seen.append(inputs["x"][:, 0].tolist())
        self.threads.append(threading.current_thread().name)
        if (inputs["x"] == POISON).any():
            raise InvalidArgument("poison")
        return {"y": inputs["x"] * 2}

    def expected_s(self, signature: Signature, requests: Any) -> float:
        return self.takes_s

    def close(self) -> None:
        return


class World:
    """Calls from threads, or from an event loop of their own."""

    def __init__(self, **limits: Any) -> None:
        self.inner = FakeModel()
        self.inner.hold.set()
        self.model = AdaptiveModel(self.inner, [DOUBLE.name], Limits(**limits), name="fake")
        self.batcher = self.model.batchers[DOUBLE.name]
        self.runner = Runner(threads=4)
        self.pool = ThreadPoolExecutor(32)

    def call(
        self,
        *rows: float,
        width: int = 1,
        timeout_s: float | None = 10,
        caller: Caller | None = None,
    ) -> Any:
        CALLER.set(caller)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        x = np.repeat(np.array([rows], np.float32).T, width, axis=1)
        try:
            run = self.runner.run(
                self.model, DOUBLE, {"x": x}, ["y"], deadline=deadline, may_block=True
            )
            return blocking(run)["y"][:, 0].tolist()
        except HeadraceError as error:
            return error

    def busy(self) -> None:
        self.inner.hold.clear()
        self.pool.submit(self.call, 0.0)
        assert self.inner.started.acquire(timeout=10)

    def queue(self, *calls: Callable[[], Any]) -> list[Any]:
        """Each waits before the next one is made."""
        futures = []
        for call in calls:
            before = len(self.batcher._waiting)
            futures.append(self.pool.submit(call))
            until(
                lambda before=before, f=futures[-1]: (
                    f.done() or len(self.batcher._waiting) > before
                ),
                10,
            )
        return futures


@pytest.fixture
def world() -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(**limits: Any) -> World:
        made.append(World(**limits))
        return made[-1]

    yield make
    for one in made:
        one.inner.hold.set()
        one.pool.shutdown()
        one.runner.close()


def together(one: World, *calls: Callable[[], Any]) -> list[Any]:
    one.busy()
    futures = one.queue(*calls)
    one.inner.hold.set()
    return [future.result(10) for future in futures]


def test_a_call_alone_runs_at_once_in_its_own_thread(world: Callable[..., World]) -> None:
    one = world()
    assert one.call(1.0, 2.0) == [2.0, 4.0]
    assert one.inner.threads == [threading.current_thread().name]


def test_what_comes_while_one_runs_is_run_together(world: Callable[..., World]) -> None:
    one = world()
    assert together(
        one, lambda: one.call(1.0), lambda: one.call(2.0, 3.0), lambda: one.call(4.0)
    ) == [
        [2.0],
        [4.0, 6.0],
        [8.0],
    ]
    assert one.inner.seen == [[0.0], [1.0, 2.0, 3.0, 4.0]]


def test_a_batch_has_no_more_rows_than_allowed_and_keeps_the_order(
    world: Callable[..., World],
) -> None:
    one = world(max_rows=3)
    answers = together(
        one, lambda: one.call(1.0, 2.0), lambda: one.call(3.0, 4.0), lambda: one.call(5.0)
    )
    assert answers == [[2.0, 4.0], [6.0, 8.0], [10.0]]
    assert one.inner.seen == [[0.0], [1.0, 2.0], [3.0, 4.0, 5.0]]


def test_a_call_with_more_rows_than_a_batch_runs_alone(world: Callable[..., World]) -> None:
    one = world(max_rows=2)
    one.busy()
    large = one.pool.submit(one.call, 1.0, 2.0, 3.0)
    assert one.inner.started.acquire(timeout=10)  # it does not wait for the other
    one.inner.hold.set()
    assert large.result(10) == [2.0, 4.0, 6.0]


def test_different_inner_shapes_are_not_mixed(world: Callable[..., World]) -> None:
    one = world()
    answers = together(
        one,
        lambda: one.call(1.0),
        lambda: one.call(2.0, width=3),
        lambda: one.call(3.0),
        lambda: one.call(4.0, width=3),
    )
    assert answers == [[2.0], [4.0], [6.0], [8.0]]
    assert one.inner.seen == [[0.0], [1.0, 3.0], [2.0, 4.0]]


def test_a_loop_and_a_pool_that_have_closed_leave_nobody_waiting(
    world: Callable[..., World],
) -> None:
    """At the server's end: calls of the loop were given up, those of threads are still under
    way."""
    one = world()
    one.busy()
    loop = asyncio.new_event_loop()
    x = {"x": np.float32([[1.0]])}
    task = loop.create_task(one.runner.run(one.model, DOUBLE, x, ["y"], deadline=None))
    until(lambda: bool(loop.run_until_complete(asyncio.sleep(0)) or one.batcher._waiting), 10)
    (thread,) = one.queue(lambda: one.call(2.0))
    one.runner.close()
    loop.close()
    one.inner.hold.set()
    assert thread.result(10) == [4.0]
    assert one.call(3.0) == [6.0]
    del task


def test_a_poisoned_request_fails_alone(world: Callable[..., World]) -> None:
    one = world()
    good, poisoned, other = together(
        one, lambda: one.call(1.0), lambda: one.call(POISON), lambda: one.call(2.0)
    )
    assert (good, other) == ([2.0], [4.0])
    assert isinstance(poisoned, InvalidArgument)
    assert poisoned.message == "poison"


def test_a_full_queue_is_told_and_takes_again_when_there_is_room(
    world: Callable[..., World],
) -> None:
    one = world(max_waiting=2)
    first, second, refused = together(
        one, lambda: one.call(1.0), lambda: one.call(2.0), lambda: one.call(3.0)
    )
    assert (first, second) == ([2.0], [4.0])
    assert isinstance(refused, Unavailable)
    assert (
        refused.message
        == "The queue of fake:serving_default is full: 2 requests wait already; try again later"
    )
    assert one.call(3.0) == [6.0]


def test_who_waits_hears_at_the_deadline_and_is_not_run(world: Callable[..., World]) -> None:
    one = world()
    one.busy()
    late = one.call(1.0, timeout_s=0.05)
    assert isinstance(late, DeadlineExceeded)
    assert not one.batcher._waiting
    one.inner.hold.set()
    assert one.call(2.0) == [4.0]
    assert [1.0] not in one.inner.seen


def test_who_leaves_frees_its_place_and_is_not_run(world: Callable[..., World]) -> None:
    one = world(max_waiting=1)
    one.busy()
    caller = Caller()
    (gone,) = one.queue(lambda: one.call(1.0, timeout_s=None, caller=caller))
    caller.leave()
    assert isinstance(gone.result(10), Cancelled)
    (next_,) = one.queue(lambda: one.call(2.0))
    one.inner.hold.set()
    assert next_.result(10) == [4.0]
    assert one.inner.seen == [[0.0], [2.0]]


def test_models_do_not_wait_for_each_other(world: Callable[..., World]) -> None:
    one, other = world(), world()
    one.busy()
    other.runner = one.runner
    assert other.call(1.0) == [2.0]


def test_every_call_is_answered_once_under_many_threads(world: Callable[..., World]) -> None:
    one = world(max_rows=7)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda n: one.call(*map(float, range(n, n + n % 4 + 1))), range(500)))
    assert found == [[2.0 * k for k in range(n, n + n % 4 + 1)] for n in range(500)]
    assert not one.batcher._waiting
    assert one.batcher._running == 0


def in_one_round(
    one: World, *calls: tuple[float, ...], deadline_s: float = 10, **more: Any
) -> list[Any]:
    """All asked for in the same round of an event loop."""

    async def ask(rows: tuple[float, ...]) -> Any:
        x = np.array([rows], np.float32).T
        deadline = time.monotonic() + deadline_s
        try:
            found = await one.runner.run(
                one.model, DOUBLE, {"x": x}, ["y"], deadline=deadline, **more
            )
        except HeadraceError as error:
            return error
        return found["y"][:, 0].tolist()

    async def all_() -> list[Any]:
        return list(await asyncio.gather(*map(ask, calls)))

    one.runner._async_batcher = None  # it belongs to one loop
    return asyncio.run(all_())


def test_what_a_loop_reads_in_one_round_runs_together_and_in_the_loop(
    world: Callable[..., World],
) -> None:
    one = world()
    assert in_one_round(one, (1.0,), (2.0, 3.0), (4.0,)) == [[2.0], [4.0, 6.0], [8.0]]
    assert one.inner.seen == [[1.0, 2.0, 3.0, 4.0]]
    assert one.inner.threads == [threading.current_thread().name]


def test_a_run_that_may_take_long_does_not_happen_in_the_loop(world: Callable[..., World]) -> None:
    one = world()
    one.inner.takes_s = 0.1
    assert in_one_round(one, (1.0,), (2.0,)) == [[2.0], [4.0]]
    assert all(name.startswith("call") for name in one.inner.threads)


def test_poison_fails_alone_in_a_loop_too(world: Callable[..., World]) -> None:
    one = world()
    good, poisoned = in_one_round(one, (1.0,), (POISON,))
    assert good == [2.0]
    assert isinstance(poisoned, InvalidArgument)


def test_a_loops_caller_hears_at_the_deadline_while_its_run_goes_on(
    world: Callable[..., World],
) -> None:
    one = world()
    one.inner.takes_s = 1.0
    one.inner.hold.clear()
    threading.Timer(0.5, one.inner.hold.set).start()
    (late,) = in_one_round(one, (1.0,), deadline_s=0.05)
    assert isinstance(late, DeadlineExceeded)


def test_a_loops_caller_who_left_is_not_run(world: Callable[..., World]) -> None:
    one = world()
    (gone,) = in_one_round(one, (1.0,), is_gone=lambda: True)
    assert isinstance(gone, Cancelled)
    assert not one.inner.seen


def test_threads_and_a_loop_share_a_batch(world: Callable[..., World]) -> None:
    one = world()
    one.busy()
    (thread,) = one.queue(lambda: one.call(1.0))
    loop = one.pool.submit(in_one_round, one, (2.0,))
    until(lambda: len(one.batcher._waiting) == 2, 10)
    one.inner.hold.set()
    assert (thread.result(10), loop.result(10)) == ([2.0], [[4.0]])
    assert one.inner.seen[1] == [1.0, 2.0]


@pytest.fixture(scope="module")
def live(contract_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    names = ("half_plus_two", "mnist_cnn", "slow")
    folder = tmp_path_factory.mktemp("adaptive")
    config = folder / "models.config"
    entries = "".join(
        f'config {{ name: "{n}" base_path: "/models/{n}" model_platform: "tensorflow" }}'
        for n in names
    )
    config.write_text(f"model_config_list {{ {entries} }}")
    monitoring = folder / "monitoring"
    monitoring.write_text("prometheus_config { enable: true }")
    with LiveServer.launcher(folder) as launch:
        server = launch(
            model_config_file=config, models_root=contract_models, monitoring_config_file=monitoring
        )
        server.wait_until_available(*names)
        yield server


def batched(live: LiveServer) -> tuple[int, int]:
    """Requests that went through a batcher, and the batches they ran in."""
    page = live.get("/monitoring/prometheus/metrics").body.decode()
    lines = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    batching = ":tensorflow:serving:batching_session:"
    queued = lines.get(f'{batching}queuing_latency_count{{thread_pool_name="adaptive"}}', "0")
    return int(queued), int(lines.get(f"{batching}wrapped_run_count{{}}", "0"))


def test_rest_and_grpc_calls_are_gathered_and_each_gets_its_own_answer(live: LiveServer) -> None:
    send = live.channel.unary_unary(
        messages.PREDICT.path, response_deserializer=messages.PredictResponse.FromString
    )

    def rest(x: float) -> float:
        return float(live.predict("half_plus_two", {"instances": [[x]]}).json["predictions"][0][0])

    def over_grpc(x: float) -> float:
        request = messages.PredictRequest(model_spec={"name": "half_plus_two"})
        request.inputs["x"].CopyFrom(tensors.to_proto(np.float32([[x]])))
        return float(
            tensors.from_proto(send(request.SerializeToString(), timeout=30).outputs["y"])[0, 0]
        )

    before, _ = batched(live)
    with (
        socket.create_connection((live.host, live.rest_port)),
        ThreadPoolExecutor(24) as pool,
    ):  # so nobody is alone
        answers = list(pool.map(lambda n: (rest if n % 2 else over_grpc)(float(n)), range(240)))
    assert answers == [n / 2 + 2 for n in range(240)]
    after, runs = batched(live)
    assert after - before == 240
    assert runs <= after


def test_the_only_connection_is_answered_as_if_there_were_no_batching(live: LiveServer) -> None:
    with contextlib.closing(
        http.client.HTTPConnection(live.host, live.rest_port, timeout=30)
    ) as only:

        def ask(n: int) -> bytes:
            only.request(
                "POST", "/v1/models/half_plus_two:predict", json.dumps({"instances": [[n]]})
            )
            return only.getresponse().read()

        def counted() -> list[str]:
            only.request("GET", "/monitoring/prometheus/metrics")
            lines = only.getresponse().read().decode().splitlines()
            return [line for line in lines if "batching_session" in line]

        ask(0)  # others' connections have ended then, and it is known to be quick
        before = counted()
        for n in range(20):
            assert json.loads(ask(n)) == {"predictions": [[n / 2 + 2]]}
        assert counted() == before
        with socket.create_connection((live.host, live.rest_port)):
            live.predict("half_plus_two", {"instances": [[1.0]]})
        assert counted() != before


def test_the_list_of_models_says_what_is_batched(live: LiveServer) -> None:
    models = {m["name"]: m["versions"][0]["batched"] for m in live.get("/v1/models").json["models"]}
    assert models == {
        "half_plus_two": ["regress_x2_to_y3", "serving_default"],
        "mnist_cnn": ["serving_default"],
        "slow": [],
    }


def test_adaptive_batching_can_be_turned_off(
    contract_models: Path, launch: LiveServer.Launcher
) -> None:
    server = launch(
        model_name="m", model_base_path=contract_models / "half_plus_two", adaptive_batching=False
    )
    server.wait_until_available("m")
    assert server.predict("m", {"instances": [[1.0]]}).json == {"predictions": [[2.5]]}
    assert server.get("/v1/models").json["models"][0]["versions"][0]["batched"] == []


def test_a_cancelled_grpc_call_leaves_the_server_free(live: LiveServer) -> None:
    send = live.channel.unary_unary(messages.PREDICT.path)
    request = messages.PredictRequest(model_spec={"name": "half_plus_two"})
    request.inputs["x"].CopyFrom(tensors.to_proto(np.float32([[1.0]])))
    for _ in range(200):
        send.future(request.SerializeToString(), timeout=30).cancel()
    assert send(request.SerializeToString(), timeout=30)
    with pytest.raises(grpc.RpcError):
        send(b"\xff", timeout=30)
