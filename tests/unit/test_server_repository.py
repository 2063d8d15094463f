"""The repository's state machine, with an engine that loads what its files say."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from headrace.protocol.errors import (
    DataLoss,
    FailedPrecondition,
    HeadraceError,
    InvalidArgument,
    NotFound,
)
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.version_policy import All, Latest, Specific, VersionPolicy
from headrace.server.lifecycle.repository import Repository
from headrace.store.model_list import ModelConfig, ServingConfig
from tests.live import until


@dataclass
class FakeModel:
    folder: Path
    closed: bool = False
    signatures: dict[str, Any] = field(default_factory=dict)
    signature_defs: dict[str, Any] = field(default_factory=dict)

    def run(self, *_: Any, **__: Any) -> dict[str, Any]:
        raise AssertionError("not run here")

    def close(self) -> None:
        assert not self.closed
        self.closed = True


class FakeEngine:
    """A saved_model.pb that says "broken" fails to load; ``hold`` keeps loads waiting until it is
    set."""

    def __init__(self) -> None:
        self.attempts: list[str] = []
        self.models: dict[str, FakeModel] = {}
        self.hold = threading.Event()
        self.hold.set()

    def load(self, folder: Path) -> FakeModel:
        name = f"{folder.parent.name}/{folder.name}"
        self.attempts.append(name)
        assert self.hold.wait(10)
        if (folder / "saved_model.pb").read_text() == "broken":
            raise DataLoss("Read less bytes than requested")
        if (folder / "saved_model.pb").read_text() == "mistake":
            raise ValueError("a programmer's")
        self.models[name] = FakeModel(folder)
        return self.models[name]


class World:
    """A store on disk and a repository over it."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.root = root
        self.engine = FakeEngine()
        self.repository = Repository(
            self.engine, **{"load_retries": 0, "retry_interval_s": 0.01, **settings}
        )

    def publish(self, name: str, version: int | str, content: str = "good") -> None:
        folder = self.root / name / str(version)
        folder.mkdir(parents=True)
        (folder / "saved_model.pb").write_text(content)

    def withdraw(self, name: str, version: int) -> None:
        folder = self.root / name / str(version)
        (folder / "saved_model.pb").unlink()
        folder.rmdir()

    def configure(
        self, *names: str, policy: VersionPolicy | None = None, labels: dict[str, int] | None = None
    ) -> None:
        models = (
            ModelConfig(n, f"{self.root}/{n}", policy=policy or Latest(1), labels=labels or {})
            for n in names
        )
        self.repository.apply(ServingConfig(tuple(models)))

    def states(self, name: str) -> dict[int, str]:
        try:
            return {row.version: row.state.name for row in self.repository.status(name)}
        except NotFound:
            return {}

    def become(self, name: str, states: dict[int, str]) -> None:
        until(lambda: self.states(name) == states, 10, lambda: f"{name}: {self.states(name)}")

    def answers(self, name: str, **spec: Any) -> int:
        with self.repository.use(ModelSpec(name, **spec)) as (version, _):
            return version


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.engine.hold.set()
    assert world.repository.close()


def test_the_latest_version_is_loaded_and_answers(world: World) -> None:
    world.publish("m", 1)
    world.publish("m", 2)

    world.configure("m")

    world.become("m", {2: "AVAILABLE"})
    assert world.answers("m") == 2


def test_a_new_version_is_available_before_the_old_one_goes(world: World) -> None:
    world.publish("m", 1)
    world.configure("m")
    world.become("m", {1: "AVAILABLE"})
    world.engine.hold.clear()
    world.publish("m", 2)

    world.repository.scan()

    world.become("m", {2: "LOADING", 1: "AVAILABLE"})
    assert world.answers("m") == 1
    world.engine.hold.set()
    world.become("m", {2: "AVAILABLE", 1: "END"})
    assert world.engine.models["m/1"].closed
    assert world.answers("m") == 2


def test_a_version_in_use_is_not_closed_until_the_call_has_ended(world: World) -> None:
    world.publish("m", 1)
    world.configure("m")
    world.become("m", {1: "AVAILABLE"})

    with world.repository.use(ModelSpec("m")):
        world.publish("m", 2)
        world.repository.scan()
        world.become("m", {2: "AVAILABLE", 1: "UNLOADING"})
        assert not world.engine.models["m/1"].closed

    world.become("m", {2: "AVAILABLE", 1: "END"})
    assert world.engine.models["m/1"].closed


def test_a_version_that_fails_leaves_the_old_one_serving_and_says_why(world: World) -> None:
    world.publish("m", 1)
    world.configure("m")
    world.become("m", {1: "AVAILABLE"})

    world.publish("m", 2, "broken")
    world.repository.scan()

    world.become("m", {2: "END", 1: "AVAILABLE"})
    row = world.repository.status("m", 2)[0]
    assert (row.error_name, row.error_message) == ("DATA_LOSS", "Read less bytes than requested")
    world.repository.scan()
    assert world.engine.attempts.count("m/2") == 1
    assert world.answers("m") == 1


def test_a_mistake_in_an_engine_costs_one_version_only(world: World) -> None:
    world.publish("m", 1)
    world.publish("m", 2, "mistake")

    world.configure("m")

    world.become("m", {2: "END", 1: "AVAILABLE"})
    row = world.repository.status("m", 2)[0]
    assert (row.error_name, row.error_message) == ("INTERNAL", "ValueError: a programmer's")


def test_after_a_restart_too_a_version_that_fails_is_passed_over(world: World) -> None:
    world.publish("m", 1)
    world.publish("m", 2, "broken")

    world.configure("m")

    world.become("m", {2: "END", 1: "AVAILABLE"})
    world.repository.scan()
    assert world.engine.attempts == ["m/2", "m/1"]


def test_versions_that_all_fail_are_tried_once_each(world: World) -> None:
    world.publish("m", 1, "broken")
    world.publish("m", 2, "broken")

    world.configure("m")

    world.become("m", {2: "END", 1: "END"})
    world.repository.scan()
    world.repository.scan()
    assert world.repository.wait_until_settled(10)
    assert world.engine.attempts == ["m/2", "m/1"]


def test_a_failed_specific_version_takes_no_other_away(world: World) -> None:
    world.publish("m", 1)
    world.configure("m")
    world.become("m", {1: "AVAILABLE"})
    world.publish("m", 2, "broken")

    world.configure("m", policy=Specific((2,)))

    world.become("m", {2: "END", 1: "AVAILABLE"})


def test_a_failed_version_is_tried_again_once_its_folder_has_been_away(world: World) -> None:
    world.publish("m", 1, "broken")
    world.configure("m")
    world.become("m", {1: "END"})

    world.withdraw("m", 1)
    world.repository.scan()
    world.publish("m", 1)
    world.repository.scan()

    world.become("m", {1: "AVAILABLE"})


def test_a_load_is_retried_as_often_as_told(tmp_path: Path) -> None:
    world = World(tmp_path, load_retries=2)
    world.publish("m", 1, "broken")

    world.configure("m")

    world.become("m", {1: "END"})
    assert world.engine.attempts == ["m/1"] * 3
    assert world.repository.close()


def test_a_waiting_retry_ends_when_nobody_wants_the_version_any_more(tmp_path: Path) -> None:
    world = World(tmp_path, load_retries=5, retry_interval_s=60)
    world.publish("m", 1, "broken")
    world.configure("m")
    until(lambda: world.engine.attempts == ["m/1"], 10)

    world.configure()

    world.become("m", {1: "END"})
    assert world.repository.status("m")[0].error_name == "CANCELLED"
    assert world.repository.close()


def test_one_model_without_a_folder_keeps_no_other_from_serving(world: World) -> None:
    world.publish("good", 1)
    (world.root / "empty").mkdir()

    world.configure("missing", "empty", "good")

    world.become("good", {1: "AVAILABLE"})
    assert world.repository.wait_until_settled(10)
    with pytest.raises(NotFound, match=r"Servable not found for request: Latest\(missing\)"):
        world.answers("missing")


def test_an_incomplete_version_is_left_alone_until_it_is_whole(world: World) -> None:
    world.publish("m", 1)
    (world.root / "m" / "2").mkdir()
    world.configure("m")
    world.become("m", {1: "AVAILABLE"})

    (world.root / "m" / "2" / "saved_model.pb").write_text("good")
    world.repository.scan()

    world.become("m", {2: "AVAILABLE", 1: "END"})
    assert world.engine.attempts == ["m/1", "m/2"]


def test_a_version_whose_folder_goes_gives_way_to_the_next_lower(world: World) -> None:
    world.publish("m", 1)
    world.publish("m", 2)
    world.configure("m")
    world.become("m", {2: "AVAILABLE"})

    world.withdraw("m", 2)
    world.repository.scan()
    world.become("m", {2: "END", 1: "AVAILABLE"})
    world.withdraw("m", 1)
    world.repository.scan()

    world.become("m", {2: "END", 1: "END"})


def test_a_base_path_that_disappears_keeps_what_is_loaded(world: World) -> None:
    world.publish("m", 1)
    world.configure("m")
    world.become("m", {1: "AVAILABLE"})

    (world.root / "m").rename(world.root / "elsewhere")
    world.repository.scan()

    assert world.states("m") == {1: "AVAILABLE"}


def test_a_model_no_longer_configured_is_unloaded_and_remembered(world: World) -> None:
    world.publish("m", 1)
    world.configure("m")
    world.become("m", {1: "AVAILABLE"})

    world.configure()

    world.become("m", {1: "END"})
    assert world.repository.models() == []


def test_rolling_back_by_specific_serves_the_old_one_before_the_new_one_goes(world: World) -> None:
    world.publish("m", 1)
    world.publish("m", 2)
    world.configure("m")
    world.become("m", {2: "AVAILABLE"})

    world.configure("m", policy=Specific((1,)))

    world.become("m", {2: "END", 1: "AVAILABLE"})
    assert world.answers("m") == 1


def test_labels_stand_on_versions_and_move(world: World) -> None:
    world.publish("m", 1)
    world.publish("m", 2)
    world.configure("m", policy=All(), labels={"stable": 1})
    world.become("m", {2: "AVAILABLE", 1: "AVAILABLE"})

    assert world.answers("m", label="stable") == 1
    world.configure("m", policy=All(), labels={"stable": 2})

    assert world.answers("m", label="stable") == 2
    with pytest.raises(InvalidArgument, match="Unrecognized servable version label: canary"):
        world.answers("m", label="canary")


def test_a_label_on_a_version_that_is_not_there_refuses_the_whole_config(world: World) -> None:
    world.publish("m", 1)
    world.publish("other", 1)
    world.configure("m")
    world.become("m", {1: "AVAILABLE"})

    with pytest.raises(
        FailedPrecondition, match="assign label to version 9 of model m, which is not currently"
    ):
        world.configure("m", "other", labels={"stable": 9})

    assert [model.name for model in world.repository.models()] == ["m"]
    assert world.states("other") == {}


def test_the_flag_lets_a_new_label_wait_for_its_version(tmp_path: Path) -> None:
    world = World(tmp_path, allow_labels_for_unavailable=True)
    world.publish("m", 1)
    world.configure("m")
    world.become("m", {1: "AVAILABLE"})

    world.configure("m", labels={"next": 2})

    with pytest.raises(NotFound, match=r"Specific\(m, 2\)"):
        world.answers("m", label="next")
    with pytest.raises(FailedPrecondition):
        world.configure("m", labels={"next": 3})
    assert world.repository.close()


@pytest.mark.parametrize(
    ("ask", "error", "text"),
    [
        (lambda r: r.status("no"), NotFound, "Could not find any versions of model no"),
        (lambda r: r.status("m", 9), NotFound, "Could not find version 9 of model m"),
        (
            lambda r: r.use(ModelSpec("")).__enter__(),
            InvalidArgument,
            "ModelSpec has no name specified.",
        ),
        (
            lambda r: r.use(ModelSpec("no")).__enter__(),
            NotFound,
            "Servable not found for request: Latest(no)",
        ),
        (
            lambda r: r.use(ModelSpec("m", 9)).__enter__(),
            NotFound,
            "Servable not found for request: Specific(m, 9)",
        ),
    ],
    ids=["status", "status of a version", "nameless", "latest", "specific"],
)
def test_what_is_not_there(
    world: World, ask: Callable[[Repository], object], error: type[HeadraceError], text: str
) -> None:
    world.publish("m", 1)
    world.configure("m")
    world.become("m", {1: "AVAILABLE"})

    with pytest.raises(error) as refusal:
        ask(world.repository)

    assert refusal.value.message == text


def test_loads_run_side_by_side(world: World) -> None:
    world.publish("a", 1)
    world.publish("b", 1)
    world.engine.hold.clear()

    world.configure("a", "b")

    until(lambda: len(world.engine.attempts) == 2, 10)
    assert not world.repository.wait_until_settled(0)
    world.engine.hold.set()
    assert world.repository.wait_until_settled(10)


def test_close_unloads_what_is_loaded(world: World) -> None:
    world.publish("m", 1)
    world.configure("m")
    world.become("m", {1: "AVAILABLE"})

    assert world.repository.close()

    assert world.engine.models["m/1"].closed


def test_close_says_when_a_call_outlives_it(world: World) -> None:
    world.publish("m", 1)
    world.configure("m")
    world.become("m", {1: "AVAILABLE"})

    with world.repository.use(ModelSpec("m")):
        assert not world.repository.close(timeout_s=0.05)
        assert not world.engine.models["m/1"].closed


def test_no_more_versions_load_side_by_side_than_told(tmp_path: Path) -> None:
    world = World(tmp_path, loads_at_once=1)
    for name in ("a", "b", "c"):
        world.publish(name, 1)
    world.engine.hold.clear()
    world.configure("a", "b", "c")
    until(lambda: bool(world.engine.attempts), 10)
    assert len(world.engine.attempts) == 1

    world.engine.hold.set()

    for name in ("a", "b", "c"):
        world.become(name, {1: "AVAILABLE"})
    assert world.repository.close()


def test_the_status_of_a_model_without_a_version_says_what_stands_in_its_way(world: World) -> None:
    (world.root / "half" / "3").mkdir(parents=True)
    (world.root / "empty").mkdir()
    world.configure("half", "empty", "missing")

    reasons = {model.name: model.problem for model in world.repository.models()}
    assert reasons["half"] == "version 3 is incomplete: no saved_model.pb yet"
    assert reasons["empty"].startswith(f"no version under base path {world.root / 'empty'}")
    assert reasons["missing"].startswith(
        f"base path {world.root / 'missing'} does not exist; expected a folder"
    )
    with pytest.raises(
        NotFound, match=r"^Could not find any versions of model half: version 3 is incomplete"
    ):
        world.repository.status("half")
