"""Half an hour of calls by both protocols while versions come and go: none fails, and nothing
grows."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from headrace import Client
from tests.forks import Forked
from tests.integration.conftest import Stack, running, wait_for

SWAP_EVERY_S = 5.0
MIXED = ("half_plus_two", "mnist_cnn", "ident_string")


@pytest.mark.parametrize(
    "minutes", [pytest.param(1, marks=pytest.mark.long), pytest.param(30, marks=pytest.mark.full)]
)
def test_calls_while_versions_come_and_go_all_succeed_and_memory_stays(
    tmp_path: Path, contract_models: Path, minutes: int
) -> None:
    with running(tmp_path, contract_models, MIXED, TIMEOUT_S="10") as stack:
        source = contract_models / "half_plus_two" / "123"
        with callers(stack) as seen:
            swap_for(stack, source, 20)  # buffers, pools and caches are as large as they get
            before = memory(stack)
            swap_for(stack, source, 60 * minutes)
            after = memory(stack)
    assert set(seen) == {"right"}, seen
    assert seen["right"] > 100 * minutes
    for name, size in after.items():
        assert size < 1.1 * before[name] + 10 * 1024, (
            f"{name}: {before[name]} KiB, {size} KiB after {minutes} min"
        )


def swap_for(stack: Stack, source: Path, seconds: float) -> None:
    """A new version every few seconds, the one before it removed once the new one answers."""
    folder = stack.store / "half_plus_two"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        version = max(int(path.name) for path in folder.iterdir() if path.name.isdigit()) + 1
        stack.publish("half_plus_two", source, version)
        with Client(stack.http) as client:
            wait_for(
                lambda c=client, v=version: served(c) == [v],
                within_s=30,
                what=f"version {version} is served",
            )
        shutil.rmtree(folder / str(version - 1))
        time.sleep(SWAP_EVERY_S)


def served(client: Client) -> list[int]:
    return [
        version.version
        for version in client.status("half_plus_two")
        if version.state == "AVAILABLE"
    ]


@contextmanager
def callers(stack: Stack) -> Iterator[Counter[str]]:
    """Every outcome of a few callers of both protocols, counted."""
    over, seen = threading.Event(), Counter[str]()
    image = np.zeros((1, 28, 28, 1), np.float32)

    def ask(url: str) -> None:
        with Client(url) as client:
            expected = client.predict("mnist_cnn", image)
            while not over.is_set():
                try:
                    is_right = (
                        client.predict("half_plus_two", [[1.0]]).tolist() == [[2.5]]
                        and client.predict("ident_string", ["river"]).tolist() == [b"river"]
                        and np.allclose(client.predict("mnist_cnn", image), expected, atol=1e-6)
                    )
                    seen["right" if is_right else "wrong"] += 1
                except Exception as error:  # counted, and told by the assertion
                    seen[repr(error)] += 1
                time.sleep(0.05)

    with ThreadPoolExecutor(4) as pool:
        running_callers = [
            pool.submit(ask, url) for url in (stack.http, f"grpc://{stack.grpc}") * 2
        ]
        try:
            yield seen
        finally:
            over.set()
        for caller in running_callers:
            caller.result()


def memory(stack: Stack) -> dict[str, int]:
    """KiB that each process holds for itself."""
    return {child.name: anonymous_kib(child.process) for child in (stack.serving, stack.gateway)}


def anonymous_kib(process: Forked | None) -> int:
    assert process is not None
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise AssertionError("no RssAnon")
