"""Whether the gateway is ready, and waiting for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from deploy import readiness
from deploy.readiness import is_settled
from deploy.terminal import Step, Stop


@pytest.mark.parametrize(
    ("reason", "settled"),
    [
        ("no model is configured", True),
        ("no model is AVAILABLE", True),
        ("still loading: m", False),
    ],
)
def test_more_time_is_advised_where_it_helps(reason, settled):
    assert is_settled(reason) is settled


class Gateway(BaseHTTPRequestHandler):
    """Answers /readyz with 503 until it was asked often enough."""

    asked = 0

    def do_GET(self) -> None:
        Gateway.asked += 1
        is_ready = Gateway.asked > 2
        body = {"models": [{"name": "m", "state": "AVAILABLE", "reason": "version 2 failed"}]}
        if not is_ready:
            body = {"reason": "still loading: m"}
        self.send_response(200 if is_ready else 503)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[str]:
    Gateway.asked = 0
    with HTTPServer(("127.0.0.1", 0), Gateway) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def wait(gateway: str | None, *, timeout_s: float) -> None:
    with Step("waiting") as step:
        readiness.wait_until_ready(
            lambda: gateway,
            step,
            timeout_s=timeout_s,
            stop_if_failing=lambda: None,
            last_words=lambda: "last words",
        )


def test_a_gateway_is_waited_for_and_its_models_are_printed(gateway, capsys):
    wait(gateway, timeout_s=30)
    assert readiness.print_status(gateway) is True
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        "  m                    AVAILABLE  version 2 failed",
        f"ready at {gateway}",
    ]


def test_a_gateway_that_never_answers_stops_with_the_last_words(capsys):
    message = "Not ready after 0 s: the gateway does not answer yet.\nlast words\nHEADRACE_START_"
    with pytest.raises(Stop, match=message):
        wait(None, timeout_s=0)
    assert readiness.print_status(None) is False
    assert "not ready: the gateway does not answer" in capsys.readouterr().out
