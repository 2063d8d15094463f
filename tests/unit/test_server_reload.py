"""A reload by gRPC is one step: all of it, or nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.protocol import messages
from headrace.protocol.errors import (
    Aborted,
    DeadlineExceeded,
    FailedPrecondition,
    HeadraceError,
    InvalidArgument,
    NotFound,
    Unknown,
)
from headrace.protocol.model_spec import ModelSpec
from headrace.server.lifecycle.reload import Reloader
from headrace.store import model_list
from tests.live import until
from tests.unit.test_server_repository import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Model a is served, with version 1; b and broken are there, and asked for by nobody."""
    world = World(tmp_path)
    for name, content in (("a", "good"), ("b", "good"), ("broken", "broken")):
        world.publish(name, 1, content)
    world.configure("a")
    world.become("a", {1: "AVAILABLE"})
    yield world
    world.engine.hold.set()
    assert world.repository.close()


def wanted(world: World, *names: str, **more: Any) -> Any:
    """A ModelServerConfig of these models; ``more`` is set on the last."""
    entries = [
        {"name": n, "base_path": str(world.root / n), "model_platform": "tensorflow"} for n in names
    ]
    entries[-1] |= more
    return messages.ModelServerConfig(model_config_list={"config": entries})


def reload(world: World, message: Any, *, timeout_s: float | None = 10) -> None:
    Reloader(world.repository).reload(
        message, None if timeout_s is None else time.monotonic() + timeout_s
    )


def answers(world: World, name: str) -> bool:
    try:
        with world.repository.use(ModelSpec(name)):
            return True
    except NotFound:
        return False


def test_it_returns_when_what_is_new_is_available(world: World) -> None:
    reload(world, wanted(world, "a", "b"))

    assert answers(world, "a") and answers(world, "b")


def test_what_goes_goes_after_what_comes_has_come(world: World) -> None:
    world.engine.hold.clear()
    under_way = threading.Thread(target=reload, args=(world, wanted(world, "b")))
    under_way.start()
    until(lambda: "b/1" in world.engine.attempts, 10)
    assert answers(world, "a")

    world.engine.hold.set()
    under_way.join(10)

    assert answers(world, "b")
    until(lambda: not answers(world, "a"), 10)


def test_an_empty_list_unloads_everything(world: World) -> None:
    message = messages.ModelServerConfig()
    message.model_config_list.SetInParent()

    reload(world, message)

    until(lambda: not answers(world, "a"), 10)


def test_a_model_that_fails_to_load_leaves_all_as_it_was(world: World) -> None:
    before = world.repository.configured()

    with pytest.raises(Unknown) as refusal:
        reload(world, wanted(world, "b", "broken"))

    assert refusal.value.message == (
        "1 model(s) did not become available: "
        "{{{name: broken version: 1} due to error: Read less bytes than requested}, }"
    )
    assert world.repository.configured() == before
    assert answers(world, "a")
    until(lambda: not answers(world, "b"), 10)


def test_a_model_without_a_folder_is_told_at_once(world: World) -> None:
    with pytest.raises(
        Unknown, match=r"1 model\(s\) did not become available: .*nowhere.*does not exist"
    ):
        reload(world, wanted(world, "a", "nowhere"), timeout_s=None)

    assert answers(world, "a")


def test_past_its_deadline_nothing_has_changed(world: World) -> None:
    before = world.repository.configured()
    world.engine.hold.clear()
    try:
        with pytest.raises(DeadlineExceeded):
            reload(world, wanted(world, "b"), timeout_s=0.1)
    finally:
        world.engine.hold.set()

    assert world.repository.configured() == before
    assert answers(world, "a")


def test_a_label_of_a_new_model_must_lead_somewhere_once_it_has_loaded(world: World) -> None:
    reload(world, wanted(world, "a", "b", version_labels={"stable": 1}))
    with world.repository.use(ModelSpec("b", label="stable")) as (version, _):
        assert version == 1

    reload(world, wanted(world, "a"))
    until(lambda: not answers(world, "b"), 10)
    text = (
        "Request to assign label to version 9 of model b, which is not currently available for "
        "inference"
    )
    with pytest.raises(FailedPrecondition, match=text):
        reload(world, wanted(world, "a", "b", version_labels={"stable": 9}))
    assert [model.name for model in world.repository.configured().models] == ["a"]


def test_a_config_that_came_by_file_meanwhile_is_what_holds(world: World) -> None:
    world.engine.hold.clear()
    failures: list[HeadraceError] = []

    def call() -> None:
        try:
            reload(world, wanted(world, "b"))
        except HeadraceError as error:
            failures.append(error)

    under_way = threading.Thread(target=call)
    under_way.start()
    until(lambda: "b/1" in world.engine.attempts, 10)
    world.repository.apply(model_list.from_message(wanted(world, "a", "broken")))
    world.engine.hold.set()
    under_way.join(10)

    assert [error.status_name for error in failures] == ["ABORTED"]
    assert [model.name for model in world.repository.configured().models] == ["a", "broken"]


def test_a_config_that_came_by_file_just_before_the_reload_took_effect_is_what_holds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured = world.repository.configured

    def overtaken() -> Any:
        monkeypatch.undo()
        seen = configured()
        world.repository.apply(model_list.from_message(wanted(world, "a", "broken")))
        return seen

    monkeypatch.setattr(world.repository, "configured", overtaken)
    with pytest.raises(Aborted):
        reload(world, wanted(world, "b"))

    assert [model.name for model in world.repository.configured().models] == ["a", "broken"]


Change = Callable[[Any], object]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda m: m.ClearField("model_config_list"),
            "ServerModelConfig type not supported by HandleReloadConfigRequest. "
            "Only ModelConfigList is currently supported",
        ),
        (
            lambda m: m.custom_model_config.SetInParent(),
            "ServerModelConfig type not supported by HandleReloadConfigRequest. "
            "Only ModelConfigList is currently supported",
        ),
        (
            lambda m: m.model_config_list.config[0].ClearField("model_platform"),
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform, model name is b",
        ),
        (
            lambda m: setattr(m.model_config_list.config[0], "model_platform", "pytorch"),
            "Model b requests unsupported platform pytorch",
        ),
        (
            lambda m: m.model_config_list.config.append(m.model_config_list.config[0]),
            "Illegal to list model b multiple times in config list",
        ),
        (
            lambda m: setattr(m.model_config_list.config[0], "base_path", "b"),
            "Expected model b to have an absolute path or URI; got base_path()=b",
        ),
        (
            lambda m: setattr(
                m.model_config_list.config[0].logging_config.log_collector_config, "type", "file"
            ),
            "No request-logger-creator provided.",
        ),
    ],
    ids=["nothing", "custom", "no platform", "platform", "twice", "relative", "logging"],
)
def test_what_is_wrong_is_said_in_tf_servings_words_and_changes_nothing(
    world: World, change: Change, text: str
) -> None:
    message = wanted(world, "b")
    change(message)

    with pytest.raises(InvalidArgument) as refusal:
        reload(world, message)

    assert refusal.value.message == text
    assert [model.name for model in world.repository.configured().models] == ["a"]
    reload(world, wanted(world, "b"))  # and leaves no trace
    assert answers(world, "b")
