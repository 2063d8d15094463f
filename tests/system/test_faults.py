"""Each container restarted, killed, paused and cut off, and what the client sees meanwhile and
after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import requests
from docker.models.containers import Container

from tests.system.project import CALL_TIMEOUT_S, PROJECT, Compose, wait_for

HEALS_S = 60


def kill(container: Container) -> None:
    """SIGKILL to all but init, as a crash would: init ends with them, and the restart policy
    acts."""
    container.exec_run(["sh", "-c", "kill -9 -1"])


@contextmanager
def paused(container: Container) -> Iterator[None]:
    container.pause()
    try:
        yield
    finally:
        container.unpause()


@contextmanager
def cut_off(stack: Compose, service: str, network: str) -> Iterator[None]:
    container = stack.container(service)
    found = stack.client.networks.get(f"{PROJECT}_{network}")
    found.disconnect(container)
    try:
        yield
    finally:
        found.connect(container, aliases=[service])


def refused(stack: Compose) -> requests.Response:
    """The gateway's answer once it says no: in TF Serving's shape and within its deadline."""

    def no() -> list[requests.Response]:  # a list, since an answer of 503 is false
        answer = stack.half_plus_two(timeout_s=CALL_TIMEOUT_S + 3)
        return [answer] if answer.status_code != 200 else []

    (answer,) = wait_for(no, within_s=CALL_TIMEOUT_S + 4, what="the gateway says no")
    assert set(answer.json()) >= {"error"}
    assert requests.get(f"{stack.url}/livez", timeout=5).status_code == 200
    return answer


def not_ready(stack: Compose) -> None:
    ready = f"{stack.url}/readyz"
    wait_for(
        lambda: requests.get(ready, timeout=5).status_code == 503,
        within_s=10,
        what="/readyz tells the truth",
    )


def well_again(stack: Compose) -> None:
    wait_for(lambda: stack.ready() and stack.predicts(), within_s=HEALS_S, what="well again")


def test_serving_restarted(stack: Compose) -> None:
    stack.container("serving").restart(timeout=9)
    well_again(stack)


def test_serving_stopped_is_503_and_ready_tells(stack: Compose) -> None:
    stack.container("serving").stop(timeout=9)
    answer = refused(stack)
    assert answer.status_code == 503
    assert "backend" in answer.json()["error"].lower()
    not_ready(stack)


def test_serving_killed_heals_by_itself(stack: Compose) -> None:
    serving = stack.container("serving")
    before = serving.attrs["RestartCount"]
    kill(serving)
    answer = refused(stack)
    assert answer.status_code == 503
    well_again(stack)
    serving.reload()
    assert serving.attrs["RestartCount"] > before


def test_serving_paused_is_504_at_the_deadline_and_goes_on(stack: Compose) -> None:
    with paused(stack.container("serving")):
        assert refused(stack).status_code == 504
        not_ready(stack)
    well_again(stack)


def test_serving_cut_off_is_refused_until_it_is_back(stack: Compose) -> None:
    with cut_off(stack, "serving", "internal"):
        assert refused(stack).status_code in (
            503,
            504,
        )  # 504 where a connection was open, 503 for a new one
        not_ready(stack)
    well_again(stack)


def test_gateway_restarted(stack: Compose) -> None:
    stack.container("gateway").restart(timeout=9)
    well_again(stack)


def test_gateway_killed_heals_by_itself(stack: Compose) -> None:
    gateway = stack.container("gateway")
    before = gateway.attrs["RestartCount"]
    kill(gateway)
    wait_for(
        lambda: gateway.reload() or gateway.attrs["RestartCount"] > before,
        within_s=20,
        what="it is started again",
    )
    well_again(stack)


def test_gateway_paused_answers_late_or_not_at_all(stack: Compose) -> None:
    with paused(stack.container("gateway")), pytest.raises(requests.Timeout):
        stack.half_plus_two(timeout_s=1)
    well_again(stack)


def test_gateway_cut_off_from_serving_says_so(stack: Compose) -> None:
    with cut_off(stack, "gateway", "internal"):
        assert refused(stack).status_code in (503, 504)
        not_ready(stack)
    well_again(stack)


def test_gateway_cut_off_from_the_host_cannot_be_reached(stack: Compose) -> None:
    url = f"{stack.url}/livez"
    with cut_off(stack, "gateway", "edge"), pytest.raises(requests.RequestException):
        requests.get(url, timeout=2)
    well_again(stack)


@pytest.mark.parametrize("fault", [kill, Container.pause], ids=["killed", "paused"])
def test_trainer_in_trouble_harms_nobody(
    stack: Compose, fault: Callable[[Container], None]
) -> None:
    before = stack.versions("mnist_cnn")
    trainer = start_training(stack)
    try:
        fault(trainer)
        assert stack.predicts()
    finally:
        trainer.remove(force=True, v=True)
    assert stack.versions("mnist_cnn") == before
    assert stack.ready()


def test_trainer_cut_off_serves_what_there_is(stack: Compose) -> None:
    """Offline: `ensure` names what it cannot have and ends well, since there is a version."""
    done = stack.client.containers.run(
        stack.container("trainer").image,
        ["ensure"],
        network_mode="none",
        remove=True,
        stderr=True,
        user=stack.container("trainer").attrs["Config"]["User"],
        volumes=[f"{stack.store}:/models", f"{stack.config.parent}:/workspace:ro"],
    )
    assert b"half_plus_two: version 1 is there" in done
    assert stack.predicts()


def test_trainer_killed_for_memory_leaves_the_store_sound(stack: Compose) -> None:
    before = stack.versions("mnist_cnn")
    trainer = start_training(stack, mem_limit="260m", memswap_limit="260m", wait_for_words="")
    try:
        ended = trainer.wait(timeout=120)
        trainer.reload()
        assert trainer.attrs["State"]["OOMKilled"] or ended["StatusCode"] == 137
    finally:
        trainer.remove(force=True, v=True)
    assert stack.versions("mnist_cnn") == before
    assert stack.ready() and stack.predicts()
    # The lock is free and the next training goes through.
    stack.run("run", "--rm", "--no-deps", "--no-TTY", "trainer", "train", "half_plus_two")
    newest = stack.versions("half_plus_two")[-1]
    wait_for(
        lambda: newest in served_versions(stack), within_s=20, what="the new version is served"
    )


def start_training(stack: Compose, *, wait_for_words: str = "epoch", **limits: str) -> Container:
    """A training of mnist_cnn under way, with the trainer's own mounts."""
    trainer = stack.container("trainer")
    mounts = [
        f"{m['Source'] if m['Type'] == 'bind' else m['Name']}:{m['Destination']}"
        for m in trainer.attrs["Mounts"]
    ]
    container: Container = stack.client.containers.run(
        trainer.image,
        ["train", "mnist_cnn"],
        detach=True,
        init=True,
        read_only=True,
        tmpfs={"/tmp": "mode=1777"},
        user=trainer.attrs["Config"]["User"],
        volumes=mounts,
        environment=trainer.attrs["Config"]["Env"],
        network=f"{PROJECT}_outside",
        **limits,
    )
    if wait_for_words:
        wait_for(
            lambda: wait_for_words in container.logs().decode(),
            within_s=60,
            what="the training is under way",
        )
    return container


def served_versions(stack: Compose) -> list[int]:
    models = requests.get(f"{stack.url}/v1/models", timeout=5).json()["models"]
    (half,) = [model for model in models if model["name"] == "half_plus_two"]
    return [v["version"] for v in half["versions"] if v["state"] == "AVAILABLE"]
