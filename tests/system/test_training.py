"""`make train` and `make tensorboard` of a stack in containers run in the trainer's image, as the
containers' user."""

from __future__ import annotations

import signal
import subprocess
import sys

import requests

from tests.ports import hold_ports
from tests.system.project import ROOT, Compose, wait_for


def test_a_training_is_published_and_its_curves_are_seen(stack: Compose) -> None:
    environ = stack.environ | {"RUNTIME": "compose"}
    newest = stack.versions("linear_model")[-1]
    words = [sys.executable, "-m", "deploy"]
    train = subprocess.run(
        [*words, "train", "linear_model", "--quick", "--force"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
    )
    assert train.returncode == 0, train.stdout + train.stderr
    version = stack.store / "linear_model" / str(newest + 1)
    settings = stack.stack().settings
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in (version, *version.rglob("*"))}
    assert owners == {(settings.uid, settings.gid)}
    (port,) = hold_ports(1)
    with subprocess.Popen(
        [*words, "tensorboard", "--port", str(port)], cwd=ROOT, env=environ
    ) as board:
        try:
            runs = f"http://127.0.0.1:{port}/data/runs"
            seen = wait_for(
                lambda: requests.get(runs, timeout=5).json(),
                within_s=60,
                what="TensorBoard shows runs",
            )
        finally:
            board.send_signal(signal.SIGINT)
            board.wait(60)
    assert any(run.startswith("linear_model/") and run.endswith("train") for run in seen)
