"""What the parent of the gateway's workers makes of what they say."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from gateway.process import workers
from gateway.process.workers import Workers
from gateway.settings import Settings
from headrace.protocol.errors import Unavailable


def test_a_worker_in_trouble_is_never_taken_for_one_that_is_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It says so before it ends, and the parent may look in between."""
    says = "import socket, sys, time; s = socket.socket(fileno=int(sys.argv[1])); s.recv(65536); "
    says += 's.send(b\'{"trouble": "no room"}\\n\'); time.sleep(0.3)'
    start = subprocess.Popen

    def started(command: list[str], **options: Any) -> Any:
        return start([sys.executable, "-c", says, command[-1]], **options)

    monkeypatch.setattr(workers.subprocess, "Popen", started)
    with pytest.raises(Unavailable, match="no room"):
        Workers(Settings(http_port=0, grpc_port=0, metrics=False), 1).run()
