"""The one road of a call through the core: check, send pinned, and once more after a refresh."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.contracts.catalog import Catalog, Contract
from gateway.core import Core
from headrace.protocol.errors import InvalidArgument, NotFound, Unavailable
from headrace.protocol.model_spec import ModelSpec
from tests.unit.gateway_backend import FakeBackend, Version, model_list, settings, signature

NOT_SERVED = NotFound("Servable not found for request: Specific(half, 1)")


class Call:
    """Resolves and answers with the version; ``failures`` are raised by the first sends."""

    def __init__(self, name: str = "half", *, is_big: bool = False) -> None:
        self.spec = ModelSpec(name)
        self.is_big = is_big
        self.failures: list[Exception] = []
        self.threads: list[threading.Thread] = []
        self.contract: Contract

    def check(self, catalog: Catalog) -> None:
        self.threads.append(threading.current_thread())
        self.contract = catalog.resolve(self.spec)

    async def send(self) -> int:
        if self.failures:
            raise self.failures.pop(0)
        return self.contract.version


@pytest.fixture
def backend() -> FakeBackend:
    signatures = {"half": {"serving_default": signature({"x": (1, [-1])})}}
    return FakeBackend({"half": {1: Version()}}, signatures)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "multimodel.config"
    path.write_text(model_list("half"))
    return path


def run(backend: FakeBackend, config: Path, work: Callable[[Core], Awaitable[int]]) -> int:
    async def inside() -> int:
        # No refresh but the first and those that calls cause.
        s = settings(config, refresh_s=60, probe_s=60)
        async with Core(s, rest=backend, grpc=backend) as core:
            await core.registry.refresh()
            return await work(core)

    return asyncio.run(inside())


def test_a_call_is_checked_once_and_sent(backend: FakeBackend, config: Path) -> None:
    call = Call()
    assert run(backend, config, lambda core: core.run(call)) == 1
    assert call.threads == [threading.main_thread()]


def test_a_big_call_is_checked_in_a_thread(backend: FakeBackend, config: Path) -> None:
    call = Call(is_big=True)
    assert run(backend, config, lambda core: core.run(call)) == 1
    assert threading.main_thread() not in call.threads


def test_a_model_the_catalog_lacks_is_looked_up_once_more(
    backend: FakeBackend, config: Path
) -> None:
    async def add_and_call(core: Core) -> int:
        backend.models["late"] = {5: Version()}
        backend.signatures["late"] = backend.signatures["half"]
        config.write_text(model_list("half", "late"))
        return await core.run(Call("late"))

    assert run(backend, config, add_and_call) == 5


def test_a_version_the_backend_lost_is_looked_up_and_the_call_sent_once_more(
    backend: FakeBackend, config: Path
) -> None:
    call = Call()
    call.failures = [NOT_SERVED]

    async def swap_and_call(core: Core) -> int:
        backend.models["half"] = {2: Version()}
        return await core.run(call)

    assert run(backend, config, swap_and_call) == 2
    assert len(call.threads) == 2


@pytest.mark.parametrize(
    "failures",
    [[NOT_SERVED, NOT_SERVED], [NotFound("a table has no such key")], [InvalidArgument("x")]],
    ids=["lost twice", "of the graph", "another error"],
)
def test_any_other_failure_is_the_callers(
    backend: FakeBackend, config: Path, failures: list[Exception]
) -> None:
    call = Call()
    call.failures = list(failures)
    with pytest.raises(type(failures[-1])):
        run(backend, config, lambda core: core.run(call))
    assert not call.failures


def test_where_the_backend_is_down_the_reason_is_said(backend: FakeBackend, config: Path) -> None:
    backend.down = True
    with pytest.raises(Unavailable, match=r"does not answer: .* connection refused"):
        run(backend, config, lambda core: core.run(Call()))
