"""From nothing to a prediction and back: cold start, the trainer's order, down, and what stays."""

from __future__ import annotations

import threading
import time
from typing import Any

import requests

from headrace.store import model_list
from tests.system.project import PROJECT, SERVICES, Compose, wait_for


def test_cold_start_ends_in_a_right_prediction(started: tuple[Compose, float]) -> None:
    compose, seconds = started
    print(f"cold start to first prediction, images built, nothing trained: {seconds:.1f} s")
    assert compose.predicts()
    served = {
        m["name"] for m in requests.get(f"{compose.url}/v1/models", timeout=5).json()["models"]
    }
    assert served == {model.name for model in model_list.load(compose.config).models}
    assert seconds < 240  # what is promised of a fresh machine with two cores


def test_each_waited_for_the_one_before(stack: Compose) -> None:
    trainer, serving, gateway = (stack.container(name).attrs["State"] for name in SERVICES)
    assert trainer["ExitCode"] == 0
    assert trainer["FinishedAt"] < serving["StartedAt"] < gateway["StartedAt"]
    assert serving["Health"]["Status"] == "healthy"


def test_down_is_quick_and_clean_and_the_models_stay(stack: Compose) -> None:
    before = {path: path.stat().st_mtime_ns for path in stack.store.rglob("saved_model.pb")}
    assert len(before) >= 6
    codes = exit_codes_during(stack, lambda: stack.run("down"))
    assert set(codes) == {"serving", "gateway"}
    assert set(codes.values()) == {0}
    assert all(not stack.containers(name) for name in SERVICES)
    stack.run("up", "--detach", "--no-build")
    wait_for(stack.predicts, within_s=60, what="predictions after down and up")
    assert {path: path.stat().st_mtime_ns for path in stack.store.rglob("saved_model.pb")} == before


def exit_codes_during(stack: Compose, act: Any) -> dict[str, int]:
    """The exit code of each service's container that ends in the meantime; fails when it takes
    longer than 10 s."""
    codes: dict[str, int] = {}
    events = stack.client.events(
        decode=True, filters={"event": "die", "label": f"com.docker.compose.project={PROJECT}"}
    )

    def listen() -> None:
        for event in events:
            attributes = event["Actor"]["Attributes"]
            codes[attributes["com.docker.compose.service"]] = int(attributes["exitCode"])

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        began = time.monotonic()
        act()
        seconds = time.monotonic() - began
        wait_for(lambda: len(codes) >= 2, within_s=5, what="both ends are told")
    finally:
        events.close()
        listener.join()
    print(f"docker compose down: {seconds:.1f} s")
    assert seconds <= 10
    return codes
