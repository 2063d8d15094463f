"""The engine in a child process: what ends it, ends it alone, and it is back in a moment."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.protocol.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from headrace.server.engines import frames, isolated
from headrace.server.engines.child import Child
from headrace.server.engines.frames import Frames
from headrace.server.engines.isolated import IsolatedEngine, IsolatedModel
from headrace.server.engines.tensorflow import TensorFlowEngine
from tests.live import LiveServer, until


@pytest.fixture(scope="module")
def engine() -> Iterator[IsolatedEngine]:
    with IsolatedEngine(TensorFlowEngine()) as engine:
        yield engine


def ask(
    model: Any, alias: str, array: np.ndarray, *, timeout_s: float | None = 30
) -> dict[str, np.ndarray]:
    signature = model.signatures["serving_default"]
    answer: dict[str, np.ndarray] = model.run(
        signature, {alias: array}, list(signature.outputs), timeout_s=timeout_s
    )
    return answer


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("ident_float", np.float32([[1, 2], [3, np.nan]])),
        ("ident_bool", np.array([True, False])),
        ("ident_complex64", np.complex64([1 + 2j])),
        ("ident_string", np.array([b"a\0b", b"", b"\xff"], object)),
        ("ident_int64", np.empty((0, 3), np.int64)),
    ],
)
def test_answers_are_those_of_the_engine(
    engine: IsolatedEngine, contract_models: Path, name: str, array: np.ndarray
) -> None:
    model = engine.load(contract_models / name / "1")
    try:
        answer = ask(model, "x", array)["y"]
    finally:
        model.close()
    assert (answer.dtype, answer.shape) == (array.dtype, array.shape)
    assert (
        answer.tobytes() == array.tobytes()
        if array.dtype != object
        else answer.tolist() == array.tolist()
    )


def test_errors_are_those_of_the_engine(
    engine: IsolatedEngine, contract_models: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match="Could not find SavedModel"):
        engine.load(tmp_path)
    model = engine.load(contract_models / "mnist_cnn" / "1")
    with pytest.raises(InvalidArgument, match="expected") as caught:
        ask(model, "x", np.zeros((1, 3), np.float32))
    assert caught.value.fault is not None
    assert caught.value.fault.kind == "input_shape"
    model.close()


def test_a_deadline_ends_a_run_in_the_child(engine: IsolatedEngine, contract_models: Path) -> None:
    model = engine.load(contract_models / "slow" / "1")
    with pytest.raises(DeadlineExceeded):
        ask(model, "x", np.float32([5e8]), timeout_s=0.2)
    assert ask(model, "x", np.float32([5]))["y"].tolist() == [10.0]
    model.close()


def test_when_the_child_dies_callers_are_told_and_the_next_one_has_the_models(
    contract_models: Path,
) -> None:
    with IsolatedEngine(TensorFlowEngine()) as engine:
        half, slow = (
            engine.load(contract_models / name) for name in ("half_plus_two/123", "slow/1")
        )
        first = engine.pid
        told: list[Exception] = []

        def waits() -> None:
            try:
                ask(slow, "x", np.float32([5e8]))
            except Unavailable as error:
                told.append(error)

        waiter = threading.Thread(target=waits)
        waiter.start()
        until(lambda: bool(slow._child and slow._child._waiting), 10)

        os.kill(first, signal.SIGKILL)
        waiter.join(10)

        assert "being restarted" in str(told[0])
        until(
            lambda: (
                engine.pid not in (0, first) and half._child is not None and half._child.is_alive
            ),
            30,
        )
        assert ask(half, "x", np.float32([[2.0]]))["y"].tolist() == [[3.0]]


def test_a_version_that_is_gone_at_the_restart_says_so_and_keeps_no_other_away(
    contract_models: Path, tmp_path: Path
) -> None:
    shutil.copytree(contract_models / "half_plus_two" / "123", tmp_path / "gone")
    with IsolatedEngine(TensorFlowEngine()) as engine:
        gone, half = (
            engine.load(tmp_path / "gone"),
            engine.load(contract_models / "half_plus_two" / "123"),
        )
        shutil.rmtree(tmp_path / "gone")
        os.kill(engine.pid, signal.SIGKILL)

        def answers() -> bool:
            try:
                return ask(half, "x", np.float32([[2.0]]))["y"].tolist() == [[3.0]]
            except Unavailable:
                return False

        until(answers, 30)
        with pytest.raises(Unavailable, match="could not be loaded again"):
            ask(gone, "x", np.float32([[2.0]]))


def test_a_child_that_cannot_be_started_at_once_is_tried_again(
    contract_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, failed = isolated.ChildProcess, list[str]()

    def has_no_room_at_first(options: str) -> Any:
        if not failed:
            failed.append(options)
            raise BlockingIOError("Resource temporarily unavailable")
        return start(options)

    monkeypatch.setattr(isolated, "_RESTART_INTERVAL_S", 0.01)
    with IsolatedEngine(TensorFlowEngine()) as engine:
        half = engine.load(contract_models / "half_plus_two" / "123")
        first = engine.pid
        monkeypatch.setattr(isolated, "ChildProcess", has_no_room_at_first)
        os.kill(first, signal.SIGKILL)
        until(
            lambda: (
                engine.pid not in (0, first) and half._child is not None and half._child.is_alive
            ),
            30,
        )
    assert failed


def test_a_version_closed_while_it_is_loaded_again_is_closed_there_too() -> None:
    class Child:
        is_alive = True

        def __init__(self) -> None:
            self.requests: list[str] = []

        def request(self, head: Any) -> Any:
            self.requests.append(head["do"])
            if head["do"] == "load":
                model.close()
            return {}, {}

    child: Any = Child()
    model = IsolatedModel(
        IsolatedEngine(TensorFlowEngine()),
        1,
        Path("m"),
        child,
        {"signature_defs": {}, "not_row_wise": {}},
    )
    model.load_again(child)
    assert child.requests == ["load", "close"]


def test_outputs_that_no_message_can_hold_are_told_of() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(10)

        class Model:
            def close(self) -> None:
                return

        class Overflowing(Frames):
            def send(self, head: Any, arrays: Any = None) -> None:
                if "code" not in head:
                    raise ValueError("exceeds maximum protobuf size of 2GB")
                super().send(head, arrays)

        served: Any = Child(Overflowing(theirs), TensorFlowEngine())
        served._models[1] = Model()
        served._answer({"do": "close", "model": 1, "id": 7}, {})
        head, _ = Frames(ours).receive()
    assert head["id"] == 7
    with pytest.raises(Internal, match="cannot be handed over: ValueError: exceeds"):
        raise frames.to_error(head)


def test_the_child_ends_with_its_parent(contract_models: Path) -> None:
    engine = IsolatedEngine(TensorFlowEngine())
    with engine:
        engine.load(contract_models / "half_plus_two" / "123")
        child = engine._child
        assert child is not None
    assert child._process.returncode == 0


def test_the_server_survives_the_end_of_its_child(
    contract_models: Path, launch: LiveServer.Launcher
) -> None:
    server = launch(model_name="m", model_base_path=contract_models / "half_plus_two", isolate=True)
    server.wait_until_available("m")
    assert server.predict("m", {"instances": [[1.0]]}).json == {"predictions": [[2.5]]}

    refused: list[tuple[int, str]] = []

    def back() -> bool:
        answer = server.predict("m", {"instances": [[1.0]]})
        if answer.status != 200:
            refused.append((answer.status, answer.json["error"]))
        return answer.status == 200

    for _ in range(2):
        os.kill(child_of(server.process.pid), signal.SIGKILL)
        until(back, 30)
    assert all(status == 503 and "being restarted" in text for status, text in refused)
    assert server.process.poll() is None


def test_versions_swap_in_an_isolated_engine(
    contract_models: Path, tmp_path: Path, launch: LiveServer.Launcher
) -> None:
    source = contract_models / "half_plus_two" / "123"
    shutil.copytree(source, tmp_path / "m" / "1")
    server = launch(
        model_name="m",
        model_base_path=tmp_path / "m",
        isolate=True,
        file_system_poll_wait_seconds=0.05,
    )
    server.wait_until_available("m")
    shutil.copytree(source, tmp_path / "m" / ".2")
    (tmp_path / "m" / ".2").rename(tmp_path / "m" / "2")
    until(lambda: server.states("m") == {1: "END", 2: "AVAILABLE"}, 30, server.said)
    assert server.predict("m", {"instances": [[1.0]]}).json == {"predictions": [[2.5]]}


def child_of(pid: int) -> int:
    """The only one, once it is there."""
    found: list[int] = []

    def there() -> bool:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(
                FileNotFoundError, ProcessLookupError
            ):  # a thread may end meanwhile
                found.extend(map(int, (task / "children").read_text().split()))
        return bool(found)

    until(there, 10)
    return found[0]
