from __future__ import annotations

import asyncio
import os

import pytest

from gateway.contracts.registry import Registry
from gateway.upstream.backend_health import BackendHealth
from gateway.upstream.replicas import Replica, Replicas
from headrace.protocol import messages
from headrace.protocol.errors import InvalidArgument, NotFound, Unavailable
from headrace.protocol.model_spec import ModelSpec
from tests.unit.gateway_backend import FakeBackend, Version, model_list, signature

X = {"serving_default": signature({"x": (1, [-1])})}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "multimodel.config"
    path.write_text(model_list("half", labels={"half": {"stable": 1, "canary": 2}}))
    return path


@pytest.fixture
def backend():
    return FakeBackend(
        models={"half": {1: Version(), 2: Version()}}, signatures={"half": X, "late": X}
    )


def refreshed(registry: Registry) -> None:
    asyncio.run(registry.refresh())


def registry_of(backend, config, **more) -> Registry:
    registry = Registry(
        Replicas([Replica(backend, backend, backend, BackendHealth())]), config, **more
    )
    refreshed(registry)
    return registry


def test_an_unversioned_call_means_the_highest_available_version(backend, config):
    backend.models["half"][3] = Version("LOADING")
    registry = registry_of(backend, config)
    assert registry.catalog.resolve(ModelSpec("half")).version == 2
    assert registry.catalog.resolve(ModelSpec("half", version=1)).version == 1


def test_labels_come_from_the_config(backend, config):
    catalog = registry_of(backend, config).catalog
    assert catalog.resolve(ModelSpec("half", label="stable")).version == 1
    with pytest.raises(
        InvalidArgument, match='no version label "prod"; its labels: canary, stable'
    ):
        catalog.resolve(ModelSpec("half", label="prod"))


def test_unknown_models_and_versions_are_told_what_there_is(backend, config):
    catalog = registry_of(backend, config).catalog
    with pytest.raises(
        NotFound,
        match=r'model "halt" is not served here .did you mean half\?.; the models are: half',
    ):
        catalog.resolve(ModelSpec("halt"))
    with pytest.raises(NotFound, match='model "half" has no version 7 here; available: 1, 2'):
        catalog.resolve(ModelSpec("half", version=7))


def test_a_model_nobody_answered_about_is_unavailable_not_unknown(backend, config):
    backend.down = True
    with pytest.raises(Unavailable, match="has not answered about it yet"):
        registry_of(backend, config).catalog.resolve(ModelSpec("half"))


def test_a_failed_model_says_why(backend, config):
    backend.models["half"] = {1: Version("END", "saved_model.pb is cut short")}
    model = registry_of(backend, config).catalog.models["half"]
    assert (model.state, model.reason, model.loading) == (
        "END",
        "version 1 failed: saved_model.pb is cut short",
        False,
    )


def test_a_newest_version_that_failed_is_told_while_an_older_one_serves(backend, config):
    config.write_text(model_list("half"))
    backend.models["half"] = {1: Version(), 2: Version("END", "Read less bytes than requested")}
    registry = registry_of(backend, config)
    model = registry.catalog.models["half"]
    reason = "version 2 failed: its saved_model.pb is damaged; version 1 serves"
    assert (model.state, model.reason) == ("AVAILABLE", reason)
    assert registry.catalog.failed_versions == [("half", 2)]
    backend.models["half"][3] = Version()
    refreshed(registry)
    assert (registry.catalog.models["half"].reason, registry.catalog.failed_versions) == (None, [])


def test_a_failed_version_that_is_not_asked_for_is_not_told(backend, config, tmp_path):
    backend.models["half"] = {1: Version(), 2: Version("END", "corrupt")}
    pin = "model_version_policy { specific { versions: 1 } } model_platform"
    config.write_text(model_list("half").replace("model_platform", pin))
    assert registry_of(backend, config).catalog.models["half"].reason is None
    config.write_text(model_list("half"))
    (tmp_path / "half" / "1").mkdir(
        parents=True
    )  # the store is seen, and 2 has been deleted from it
    assert registry_of(backend, config).catalog.models["half"].reason is None


def test_signatures_are_asked_for_once_a_version(backend, config):
    registry = registry_of(backend, config)
    refreshed(registry)
    assert backend.asked.count(messages.GET_MODEL_METADATA.path) == 2
    asyncio.run(registry.refresh(reread_signatures=True))
    assert backend.asked.count(messages.GET_MODEL_METADATA.path) == 4


def test_a_version_that_is_gone_no_longer_resolves(backend, config):
    registry = registry_of(backend, config)
    del backend.models["half"][2]
    refreshed(registry)
    assert registry.catalog.resolve(ModelSpec("half")).version == 1


def test_a_broken_config_keeps_the_last_good_one_and_says_where(backend, config):
    registry = registry_of(backend, config)
    config.write_text("model_config_list {\n  config { name: }\n}\n")
    refreshed(registry)
    assert registry.catalog.resolve(ModelSpec("half")).version == 2
    assert f"{config}:2:" in registry.catalog.config_error
    config.write_text("")
    refreshed(registry)
    assert registry.catalog.resolve(ModelSpec("half")).version == 2
    assert f"{config}:1:1: no model_config_list" in registry.catalog.config_error
    os.unlink(config)
    refreshed(registry)
    assert "half" in registry.catalog.models and "cannot be read" in registry.catalog.config_error


def test_a_mended_config_is_taken_up_whole(backend, config):
    registry = registry_of(backend, config)
    config.write_text("nonsense")
    refreshed(registry)
    config.write_text(model_list("late"))
    backend.models["late"] = {5: Version()}
    refreshed(registry)
    assert registry.catalog.config_error is None
    assert set(registry.catalog.models) == {"late"}
    assert registry.catalog.resolve(ModelSpec("late")).version == 5


def test_junk_names_do_not_buy_a_look_each(backend, config):
    registry = registry_of(backend, config)
    before = len(backend.asked)

    async def misses() -> None:
        await asyncio.gather(*(registry.look_up("half") for _ in range(50)))

    asyncio.run(misses())
    assert len(backend.asked) == before + 1


def test_looks_at_one_model_are_shared_by_those_who_wait(backend, config):
    registry = registry_of(backend, config)
    before = len(backend.asked)

    async def looks() -> None:
        await asyncio.gather(*(registry.refresh_model("half") for _ in range(20)))

    asyncio.run(looks())
    assert len(backend.asked) == before + 1


def test_a_lenient_model_keeps_names_and_dtypes_but_no_shapes(backend, config):
    contract = registry_of(backend, config, lenient=("half",)).catalog.resolve(ModelSpec("half"))
    assert contract.signatures["serving_default"].inputs["x"].shape == (-1,)
    assert contract.checked_signatures["serving_default"].inputs["x"].shape is None


def test_the_pin_sets_the_version_and_leaves_the_rest(backend, config):
    contract = registry_of(backend, config).catalog.resolve(ModelSpec("half", label="canary"))
    request = messages.PredictRequest()
    request.model_spec.name, request.model_spec.version_label = "half", "canary"
    request.model_spec.signature_name = "s"
    request.inputs["x"].float_val.append(1.0)
    pinned = messages.PredictRequest.FromString(request.SerializeToString() + contract.grpc_pin)
    assert pinned.model_spec.version.value == 2
    assert (pinned.model_spec.name, pinned.model_spec.signature_name) == ("half", "s")
    assert pinned.inputs["x"].float_val == [1.0]
