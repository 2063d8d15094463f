"""Several replicas: who gets a call, who is left alone, and what is never sent twice."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from gateway.errors import BackendDown
from gateway.upstream.backend_health import BackendHealth
from gateway.upstream.base import CutOff, Reply
from gateway.upstream.replicas import Replica, Replicas
from headrace.protocol import messages
from headrace.protocol.errors import HeadraceError, InvalidArgument, NotFound, Unavailable


@dataclass
class Serving:
    """Says what it was told to say, once ``go`` is set; counts what it was asked."""

    says: Reply | HeadraceError = field(
        default_factory=lambda: Reply(200, "application/json", b"ok")
    )
    asked: int = 0
    go: asyncio.Event | None = None

    async def send(self, method, path, body, *, timeout_s, request_id="", content_type=""):
        self.asked += 1
        if self.go is not None:
            await self.go.wait()
        if isinstance(self.says, HeadraceError):
            raise self.says
        return self.says

    async def call(self, path, request, *, timeout_s, request_id=""):
        return (await self.send("", path, request, timeout_s=timeout_s)).body

    async def close(self): ...


def fleet(*servings: Serving) -> Replicas:
    return Replicas([Replica(s, s, s, BackendHealth()) for s in servings])


def predict(replicas: Replicas):
    return replicas.send("POST", "/v1/models/a:predict", b"{}", timeout_s=5)


def test_the_least_busy_gets_the_call():
    async def main():
        go = asyncio.Event()
        servings = Serving(go=go), Serving(go=go), Serving(go=go)
        replicas = fleet(*servings)
        calls = [asyncio.create_task(predict(replicas)) for _ in range(6)]
        await asyncio.sleep(0)
        assert [s.asked for s in servings] == [2, 2, 2]
        go.set()
        await asyncio.gather(*calls)
        assert all(r.in_flight == 0 for r in replicas.all)

    asyncio.run(main())


@pytest.mark.parametrize("door", ["rest", "grpc"])
def test_what_was_never_sent_goes_to_another_and_the_silent_one_gets_no_more(door):
    async def main():
        gone, there = Serving(BackendDown("refused")), Serving()
        replicas = fleet(gone, there)
        for _ in range(4):
            if door == "rest":
                assert (await predict(replicas)).status == 200
            else:
                assert await replicas.call(messages.PREDICT.path, b"", timeout_s=5) == b"ok"
        assert (gone.asked, there.asked) == (1, 4)

    asyncio.run(main())


@pytest.mark.parametrize("door", ["rest", "grpc"])
def test_what_may_have_run_is_never_sent_again(door):
    async def main():
        servings = Serving(CutOff("cut")), Serving(CutOff("cut"))
        replicas = fleet(*servings)
        with pytest.raises(CutOff):
            await (
                predict(replicas)
                if door == "rest"
                else replicas.call(messages.PREDICT.path, b"", timeout_s=5)
            )
        assert sum(s.asked for s in servings) == 1

    asyncio.run(main())


def test_questions_about_state_may_be_asked_again():
    async def main():
        servings = Serving(CutOff("cut")), Serving()
        replicas = fleet(*servings)
        for _ in range(2):
            assert (await replicas.send("GET", "/v1/models/a", None, timeout_s=5)).status == 200
            assert await replicas.call(messages.GET_MODEL_STATUS.path, b"", timeout_s=5) == b"ok"

    asyncio.run(main())


def test_a_version_that_only_one_replica_has_is_found_there():
    async def main():
        text = b'{"error": "Servable not found for request: Specific(a, 2)"}'
        replicas = fleet(Serving(Reply(404, "application/json", text)), Serving())
        for _ in range(4):
            assert (await predict(replicas)).status == 200
        replicas = fleet(
            Serving(NotFound("Servable not found for request: Specific(a, 2)")), Serving()
        )
        for _ in range(4):
            assert await replicas.call(messages.PREDICT.path, b"", timeout_s=5) == b"ok"

    asyncio.run(main())


def test_not_found_from_inside_a_graph_may_have_run():
    async def main():
        servings = (Serving(Reply(404, "application/json", b'{"error": "Table not found"}')),) * 2
        assert (await predict(fleet(*servings))).status == 404
        assert servings[0].asked == 1

    asyncio.run(main())


def test_one_that_keeps_cutting_calls_off_rests_while_another_works():
    async def main():
        cutting, good = Serving(CutOff("cut")), Serving()
        replicas = fleet(cutting, good)
        for _ in range(30):
            try:
                await predict(replicas)
            except CutOff:
                pass
        assert cutting.asked == 3
        cutting.says = good.says
        replicas.all[0].avoided_until = 0
        for _ in range(4):
            await predict(replicas)
        assert cutting.asked > 3

    asyncio.run(main())


def test_while_all_are_known_to_be_silent_nothing_waits():
    async def main():
        replicas = fleet(Serving(), Serving())
        for replica in replicas.all:
            replica.health.failed("no answer within 0.5 s")
        with pytest.raises(Unavailable, match="does not answer: no answer within"):
            await predict(replicas)
        assert not any(r.rest.asked for r in replicas.all)

    asyncio.run(main())


def test_an_error_the_backend_worded_is_its_answer():
    async def main():
        refused = Serving(InvalidArgument("no"))
        replicas = fleet(refused)
        with pytest.raises(InvalidArgument):
            await replicas.call(messages.PREDICT.path, b"", timeout_s=5)
        assert replicas.all[0].health.up

    asyncio.run(main())
