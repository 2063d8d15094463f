"""A parent and its workers, which here are small programs."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from headrace.http.workers import Workers
from headrace.protocol.errors import Unavailable

# Reads its order from the link, whose descriptor is its last argument.
PROGRAM = """
import json, os, signal, socket, sys, time
link = socket.socket(fileno=int(sys.argv[1]))
order = json.loads(link.recv(65536))
"""
IS_UP = "link.send(b'{}\\n')\n"
STAYS = "link.recv(1)\n"


def workers(program: str, count: int = 1, *, drain_s: float = 5) -> Workers:
    command = (sys.executable, "-c", PROGRAM + program)
    return Workers(
        command,
        count=count,
        order={"number": 7},
        descriptors=[],
        environ=os.environ,
        drain_s=drain_s,
    )


def terminate_me_soon() -> None:
    def terminate() -> None:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate, daemon=True).start()


def test_a_worker_that_cannot_start_is_never_taken_for_one_that_is_up() -> None:
    """It says so before it ends, and the parent may look in between."""
    program = 'link.send(b\'{"error": "no room"}\\n\'); time.sleep(0.3)'
    with pytest.raises(Unavailable, match="no room"), workers(program) as parent:
        parent.wait_until_up()


def test_a_worker_that_ends_before_it_is_up_is_reported_with_its_code() -> None:
    with pytest.raises(Unavailable, match="ended with 3"), workers("sys.exit(3)") as parent:
        parent.wait_until_up()


def test_each_worker_gets_the_order() -> None:
    program = 'assert order == {"number": 7, "is_replacement": False}\n' + IS_UP + STAYS
    with workers(program, 2) as parent:
        assert parent.wait_until_up()


def test_a_worker_that_ends_is_replaced_until_a_signal_comes() -> None:
    program = IS_UP + "if not order['is_replacement']: time.sleep(0.2); sys.exit(1)\n" + STAYS
    with workers(program) as parent:
        assert parent.wait_until_up()
        ended = []
        for pid in parent.watch():
            ended.append(pid)
            terminate_me_soon()
    assert len(ended) == 1


def test_a_signal_before_all_are_up_ends_the_waiting() -> None:
    terminate_me_soon()
    with workers(STAYS) as parent:
        assert not parent.wait_until_up()
        assert list(parent.watch()) == []


def test_a_worker_that_does_not_drain_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.http.workers._AFTER_DRAIN_S", 0.1)
    ignores = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    started = time.monotonic()
    with workers(ignores + IS_UP + "time.sleep(60)", drain_s=0.1) as parent:
        assert parent.wait_until_up()
    assert time.monotonic() - started < 20


def test_the_handlers_of_signals_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with workers(IS_UP + STAYS) as parent:
        parent.wait_until_up()
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
