from __future__ import annotations

import time

import pytest

from gateway.contracts.catalog import Catalog, Contract, Model, VersionStatus
from gateway.health import Health
from gateway.upstream.backend_health import BackendHealth
from headrace.protocol.errors import NotFound


def available(name: str) -> Model:
    contract = Contract(name, 1, {}, False, "", b"")
    return Model(name, {}, (VersionStatus(1, "AVAILABLE"),), {1: contract}, has_status=True)


def failed(name: str) -> Model:
    return Model(name, {}, (VersionStatus(1, "END", "corrupt"),), has_status=True)


def loading(name: str) -> Model:
    return Model(name, {}, (VersionStatus(1, "LOADING"),), has_status=True)


def catalog(*models: Model) -> Catalog:
    return Catalog({m.name: m for m in models})


def answering() -> Health:
    replica = BackendHealth()
    replica.answered()
    return Health(replica)


def test_not_ready_before_the_backend_answered():
    readiness = Health(BackendHealth()).readiness(catalog(available("a")))
    assert not readiness.ready and "does not answer: not asked yet" in readiness.reason


def test_the_first_time_waits_for_every_model_to_stop_loading():
    health = answering()
    readiness = health.readiness(catalog(available("a"), loading("b")))
    assert (readiness.ready, readiness.reason) == (False, "still loading: b")
    assert health.readiness(catalog(available("a"), available("b"))).ready


def test_a_model_nobody_answered_about_counts_as_loading_the_first_time():
    assert not answering().readiness(catalog(available("a"), Model("b"))).ready


def test_once_ready_a_loading_model_takes_nobody_out():
    health = answering()
    assert health.readiness(catalog(available("a"))).ready
    assert health.readiness(catalog(available("a"), loading("b"))).ready


def test_a_failed_model_does_not_take_the_others_out_and_is_listed_with_its_reason():
    readiness = answering().readiness(catalog(available("a"), failed("b")))
    assert readiness.ready
    assert readiness.as_json()["models"] == [
        {"name": "a", "state": "AVAILABLE", "reason": ""},
        {"name": "b", "state": "END", "reason": "corrupt"},
    ]


@pytest.mark.parametrize(
    ("models", "reason"),
    [([], "no model is configured"), ([failed("a")], "no model is AVAILABLE")],
    ids=["none configured", "none available"],
)
def test_not_ready_without_an_available_model(models, reason):
    readiness = answering().readiness(catalog(*models))
    assert (readiness.ready, readiness.reason) == (False, reason)


def test_latched_readiness_still_needs_the_backend_and_one_model():
    health = answering()
    assert health.readiness(catalog(available("a"))).ready
    assert not health.readiness(catalog(loading("a"))).ready
    health.replicas[0].failed("connection refused")
    readiness = health.readiness(catalog(available("a")))
    assert (readiness.ready, readiness.reason) == (
        False,
        "the serving backend does not answer: connection refused",
    )


def test_one_models_own_truth():
    readiness = answering().readiness(catalog(available("a"), failed("b")))
    assert readiness.of_model("a") == (
        True,
        {"ready": True, "name": "a", "state": "AVAILABLE", "reason": ""},
    )
    assert readiness.of_model("b") == (
        False,
        {"ready": False, "name": "b", "state": "END", "reason": "corrupt"},
    )
    with pytest.raises(NotFound):
        readiness.of_model("c")


def test_a_slow_probe_does_not_outvote_an_answer_that_came_meanwhile():
    replica = BackendHealth()
    probed_at = time.monotonic()
    replica.answered()
    replica.failed("timed out", probed_at=probed_at)
    assert replica.up
    replica.failed("timed out", probed_at=time.monotonic())
    assert replica.down


def test_coming_back_is_announced_once_and_the_first_answer_is_no_return():
    returns: list[int] = []
    replica = BackendHealth(on_recovery=lambda: returns.append(1))
    replica.answered()
    assert not returns
    for _ in range(2):
        replica.failed("gone")
        replica.answered()
        replica.answered()
    assert len(returns) == 2


def test_after_a_return_nothing_is_ready_until_the_models_were_looked_at():
    replica = BackendHealth(on_recovery=lambda: health.replica_recovered())
    health = Health(replica)
    replica.answered()
    assert health.readiness(catalog(available("a"))).ready
    replica.failed("gone")
    replica.answered()
    readiness = health.readiness(catalog(available("a")))
    assert (readiness.ready, readiness.reason) == (
        False,
        "the serving backend has come back, its models are being looked at",
    )
    assert readiness.of_model("a")[0] is False
    health.models_are_stale = False
    assert health.readiness(catalog(available("a"))).of_model("a")[0] is True


def test_a_return_beside_one_that_was_there_all_the_time_keeps_models_ready():
    replicas = [BackendHealth(on_recovery=lambda: health.replica_recovered()) for _ in range(2)]
    health = Health(*replicas)
    for replica in replicas:
        replica.answered()
    replicas[0].failed("gone")
    replicas[0].answered()
    assert health.readiness(catalog(available("a"))).ready


def test_one_replica_that_answers_is_enough():
    there, gone = BackendHealth(), BackendHealth()
    health = Health(there, gone)
    assert not health.up and not gone.down
    there.answered()
    gone.failed("refused")
    readiness = health.readiness(catalog(available("a")))
    assert readiness.ready
    assert readiness.as_json()["backend"] == {
        "answers": True,
        "reason": "refused",
        "replicas": {"up": 1, "of": 2},
    }
    there.failed("timed out")
    assert not health.readiness(catalog(available("a"))).ready


def test_an_answer_counts_as_life_from_its_moment_on_and_only_while_up():
    replica, before = BackendHealth(), time.monotonic() - 1
    assert not replica.answered_since(before)
    replica.answered()
    assert replica.answered_since(before) and not replica.answered_since(time.monotonic())
    replica.failed("gone")
    assert not replica.answered_since(before)
