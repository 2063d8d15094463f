"""The backend is killed, paused, slowed and garbled under load: every answer is right or a clean
refusal."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest
import requests
import uvloop

from gateway.upstream.address import Address
from gateway.upstream.http1 import Pool
from headrace.protocol import messages, tensors
from tests.integration.conftest import Stack, running, wait_for

TIMEOUT_S = 2.0
SLACK_S = 0.5  # of two busy cores: between the gateway's deadline and the caller's clock
CLEAN = {502, 503, 504}


class Proxy:
    """TCP between gateway and serving; ``mode`` says what it does to the answers."""

    def __init__(self, target: int) -> None:
        self.mode = "clear"
        self.port = 0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._count = 0
        opened = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(opened,), daemon=True)
        self._thread.start()
        assert opened.wait(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._server.close()
        talks = asyncio.all_tasks(self._loop)
        for task in talks:
            task.cancel()

        async def ended() -> None:
            await asyncio.gather(*talks, return_exceptions=True)
            await asyncio.sleep(0.01)  # a turn for every aborted transport to close its socket

        self._loop.run_until_complete(ended())
        self._loop.close()

    def _run(self, opened: threading.Event) -> None:
        async def open_() -> None:
            self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
            self.port = int(self._server.sockets[0].getsockname()[1])

        self._loop.run_until_complete(open_())
        opened.set()
        self._loop.run_forever()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transports = [writer.transport]
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
            transports.append(up_writer.transport)
            await asyncio.gather(
                self._pipe(reader, up_writer), self._pipe(up_reader, writer, is_answer=True)
            )
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for transport in transports:
                transport.abort()

    async def _pipe(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool = False
    ) -> None:
        while data := await reader.read(2**16):
            if is_answer:
                if self.mode == "slow":
                    await asyncio.sleep(0.3)
                data = self._garbled(data)
            writer.write(data)
            await writer.drain()
            if is_answer and self.mode == "garble" and self._count % 5 == 1:
                break
        raise ConnectionResetError

    def _garbled(self, data: bytes) -> bytes:
        """Every answer broken in another way; all of them can be seen on the wire."""
        if self.mode != "garble":
            return data
        self._count += 1
        match self._count % 5:
            case 0:
                return b"\x00\xff" + data
            case 1:
                return data[:-5]  # and then the connection is closed
            case 2:
                return data.replace(b"HTTP/1.1 200", b"HTTP/1.1 2x0")
            case 3:
                return data.replace(b"\r\n\r\n", b"\r\ncontent-length: 7\r\n\r\n", 1)
            case _:
                return b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999\r\n\r\n" + data


@dataclass
class Seen:
    statuses: Counter[tuple[str, int | str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


class Callers:
    """Sends at a fixed rate, whatever comes back; each call has an answer of its own."""

    def __init__(self, stack: Stack, per_second: int) -> None:
        self.phase = "calm"
        self._per_second = per_second
        self.seen = Seen()
        self._http, self._grpc = stack.gateway.ports["http"], stack.grpc
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._run()))

    def __enter__(self) -> Callers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    async def _run(self) -> None:
        pool = Pool(Address("127.0.0.1", self._http), connections=1000, connect_timeout_s=5)
        async with grpc.aio.insecure_channel(self._grpc) as channel:
            stub = channel.unary_unary(messages.PREDICT.path)
            calls: set[asyncio.Task[None]] = set()
            started, sent = time.monotonic(), 0
            while not self._stop.is_set():
                while sent < (time.monotonic() - started) * self._per_second:
                    sent += 1
                    call = self._by_grpc(stub, sent) if sent % 4 == 0 else self._by_rest(pool, sent)
                    task = asyncio.create_task(self._judged(call, sent))
                    calls.add(task)
                    task.add_done_callback(calls.discard)
                await asyncio.sleep(0.005)
            await asyncio.gather(*calls)
        await pool.close()

    async def _judged(self, call: Awaitable[tuple[int | str, object]], x: int) -> None:
        phase, started = self.phase, time.monotonic()
        try:
            status, value = await call
        except Exception as e:
            self.seen.wrong.append(f"{phase}: {type(e).__name__} {e}")
            return
        took = time.monotonic() - started
        self.seen.slowest_s = max(self.seen.slowest_s, took)
        self.seen.statuses[phase, status] += 1
        if took > TIMEOUT_S + SLACK_S:
            self.seen.wrong.append(f"{phase}: {status} after {took:.2f} s")
        elif status in (200, "OK"):
            if value != x / 2 + 2:
                self.seen.wrong.append(f"{phase}: f({x}) = {value}")
        elif status not in CLEAN | {"UNAVAILABLE", "DEADLINE_EXCEEDED"} or not value:
            self.seen.wrong.append(f"{phase}: {status} {value}")

    async def _by_rest(self, pool: Pool, x: int) -> tuple[int | str, object]:
        body = b'{"instances": [[%d]]}' % x
        reply = await pool.send("POST", "/v1/models/half_plus_two:predict", body, timeout_s=30)
        told = json.loads(reply.body)
        return reply.status, told["predictions"][0][0] if reply.status == 200 else told["error"]

    async def _by_grpc(self, stub: object, x: int) -> tuple[int | str, object]:
        request = messages.PredictRequest()
        request.model_spec.name = "half_plus_two"
        request.inputs["x"].CopyFrom(tensors.to_proto(np.array([[x]], np.float32)))
        try:
            reply = await stub(request.SerializeToString(), timeout=30)  # type: ignore[operator]
        except grpc.aio.AioRpcError as e:
            return e.code().name, e.details()
        return "OK", float(
            tensors.from_proto(messages.PredictResponse.FromString(reply).outputs["y"])[0, 0]
        )


@pytest.fixture
def proxied(tmp_path: Path, contract_models: Path) -> Iterator[tuple[Stack, Proxy]]:
    proxies: list[Proxy] = []
    try:
        with running(
            tmp_path, contract_models, ("half_plus_two",), TIMEOUT_S=str(TIMEOUT_S)
        ) as stack:
            proxies.append(Proxy(stack.serving.ports["rest"]))
            stack.gateway.kill()
            stack.gateway.environ["HEADRACE_UPSTREAM_REST"] = f"http://127.0.0.1:{proxies[0].port}"
            stack.gateway.start()
            wait_for(stack.ready, within_s=30, what="the gateway is ready")
            yield stack, proxies[0]
    finally:
        for proxy in proxies:
            proxy.close()


@pytest.mark.parametrize("per_second", [50, pytest.param(200, marks=pytest.mark.long)])
def test_whatever_happens_to_the_backend_answers_are_right_or_clean_refusals_in_time(
    proxied, per_second
):
    stack, proxy = proxied
    with Callers(stack, per_second) as callers:
        with phase(callers, "calm"):
            time.sleep(1)
        with phase(callers, "killed"):
            stack.serving.kill()
            wait_for(lambda: not stack.ready(), within_s=1, what="not ready after the death")
            stack.serving.start()
            wait_for(lambda: _available(stack), within_s=30, what="serving is back")
            wait_for(stack.ready, within_s=1, what="ready after the return")
        with phase(callers, "paused"):
            stack.serving.signal(signal.SIGSTOP)
            wait_for(lambda: not stack.ready(), within_s=1, what="not ready while paused")
            time.sleep(1.5)
            stack.serving.signal(signal.SIGCONT)
            wait_for(stack.ready, within_s=1, what="ready after the pause")
        with phase(callers, "slow"):
            proxy.mode = "slow"
            time.sleep(2)
            proxy.mode = "clear"
        with phase(callers, "garbled"):
            proxy.mode = "garble"
            time.sleep(2)
            proxy.mode = "clear"
            wait_for(stack.ready, within_s=1, what="ready after the garbling")
            time.sleep(0.5)  # of a probe that was garbled too
        with phase(callers, "calm again"):
            time.sleep(1)
    seen = callers.seen
    assert not seen.wrong, "\n".join(map(str, Counter(seen.wrong).most_common(10)))
    told = dict(seen.statuses)
    for name in ("calm", "calm again"):
        assert {status for p, status in told if p == name} == {200, "OK"}, told
    assert told["slow", 200] > 0.5 * per_second, told
    for name in ("killed", "paused", "garbled"):
        assert any(p == name and status in CLEAN for p, status in told), told
    assert sum(told.values()) > 0.8 * per_second * 8
    assert stack.gateway.process is not None and stack.gateway.process.poll() is None
    assert "Traceback" not in stack.gateway.log


@contextmanager
def phase(callers: Callers, name: str) -> Iterator[None]:
    """Calls begun from here on bear this name; those of the phase before get a moment to end in
    peace."""
    callers.phase = name
    time.sleep(0.5)
    yield


def _available(stack: Stack) -> bool:
    answer = requests.get(f"{stack.direct}/v1/models/half_plus_two", timeout=5)
    return answer.ok and "AVAILABLE" in answer.text
