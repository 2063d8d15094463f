"""The lives of versions in a real server: what stands in the way of one is told and holds up no
other."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.live import LiveServer, until

Launch = Callable[..., LiveServer]
POLLS = {"file_system_poll_wait_seconds": 0.1, "model_config_file_poll_wait_seconds": 0.1}


def entry(name: str, more: str = "") -> str:
    return (
        f'  config {{ name: "{name}" base_path: "/models/{name}" model_platform: "tensorflow" '
        f"{more} }}\n"
    )


def write(path: Path, *entries: str) -> None:
    aside = path.with_suffix(".new")
    aside.write_text("model_config_list {\n" + "".join(entries) + "}\n")
    os.replace(aside, path)


def rows(server: LiveServer, model: str) -> dict[int, tuple[str, str, str]]:
    """Version -> state, code, message."""
    answer = server.get(f"/v1/models/{model}").json
    return {
        int(row["version"]): (
            row["state"],
            row["status"]["error_code"],
            row["status"]["error_message"],
        )
        for row in answer["model_version_status"]
    }


@pytest.fixture
def store(contract_models: Path, tmp_path: Path) -> Path:
    root = tmp_path / "store"
    shutil.copytree(contract_models / "half_plus_two", root / "good")
    return root


def test_of_four_models_the_good_one_answers_at_once_and_the_status_tells_the_rest(
    launch: Launch, store: Path, contract_models: Path
) -> None:
    corrupt = (
        shutil.copytree(contract_models / "mnist_cnn", store / "corrupt") / "1" / "saved_model.pb"
    )
    corrupt.write_bytes(corrupt.read_bytes()[:1000])
    half = shutil.copytree(contract_models / "mnist_cnn", store / "half") / "1" / "variables"
    data = half / "variables.data-00000-of-00001"
    whole = data.read_bytes()
    data.write_bytes(whole[:100])
    write(store / "models.config", entry("corrupt"), entry("missing"), entry("half"), entry("good"))

    started = time.monotonic()
    server = launch(
        model_config_file=store / "models.config",
        models_root=store,
        max_num_load_retries=0,
        **POLLS,
    )
    until(lambda: server.predict("good", {"instances": [1.0]}).status == 200, 10, server.said)
    took = time.monotonic() - started

    assert took <= 2 * slowness(), f"{took:.2f} s"
    until(lambda: rows(server, "corrupt")[1][0] == "END", 10)
    _, code, message = rows(server, "corrupt")[1]
    assert code != "OK" and message
    assert server.get("/v1/models/missing").json == {
        "error": f"Could not find any versions of model missing: base path {store / 'missing'} "
        "does not exist; "
        f"expected a folder with versions, such as {store / 'missing' / '1'}"
    }
    assert server.get("/v1/models/half").json == {
        "error": "Could not find any versions of model half: version 1 is incomplete: "
        f"{data.name} has 100 of {len(whole)} bytes yet"
    }

    data.write_bytes(whole)  # the copy goes on, and ends
    until(lambda: server.states("half") == {1: "AVAILABLE"}, 10, server.said)


def slowness() -> float:
    """How much longer things take here than on an idle machine: as the load on its cores."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1) + 0.5)


class Callers:
    """Predict without pause, over connections of their own, and note who answered what and when."""

    def __init__(self, server: LiveServer, target: str, count: int) -> None:
        self.answers: list[tuple[float, int, Any]] = []
        self._done = threading.Event()
        self._threads = [
            threading.Thread(target=self._call, args=(server, target)) for _ in range(count)
        ]

    def _call(self, server: LiveServer, target: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
        while not self._done.is_set():
            connection.request("POST", target, b'{"instances": [1.0, 2.0]}')
            response = connection.getresponse()
            self.answers.append((time.monotonic(), response.status, json.loads(response.read())))
        connection.close()

    @contextmanager
    def calling(self) -> Iterator[Callers]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._done.set()
            for thread in self._threads:
                thread.join()


def test_a_reload_under_load_is_one_step_and_fails_nobody(
    launch: Launch, store: Path, contract_models: Path
) -> None:
    """The trace: another version, another model, another policy, a label that moves, a version that
    cannot be loaded, a config that is refused; all the while callers ask, and none of them hears of
    it."""
    shutil.copytree(store / "good" / "123", store / "good" / "124")
    shutil.copytree(contract_models / "half_plus_three", store / "other")
    both = "model_version_policy { all {} }"
    config = store / "models.config"
    write(config, entry("good", both + ' version_labels { key: "stable" value: 123 }'))
    server = launch(
        model_config_file=config,
        models_root=store,
        max_num_load_retries=0,
        allow_version_labels_for_unavailable_models=True,
        **POLLS,
    )
    server.wait_until_available("good")
    trace: list[str] = []

    by_label = Callers(server, "/v1/models/good/labels/stable:predict", 2)
    latest = Callers(server, "/v1/models/good:predict", 2)
    with by_label.calling(), latest.calling():
        write(
            config,
            entry("good", both + ' version_labels { key: "stable" value: 124 }'),
            entry("other"),
        )
        until(lambda: server.states("other") == {123: "AVAILABLE"}, 10, server.said)
        trace.append("another model, and the label moved")

        shutil.copytree(store / "good" / "123", store / "good" / ".125")
        (store / "good" / ".125").rename(store / "good" / "125")
        until(lambda: server.states("good").get(125) == "AVAILABLE", 10, server.said)
        trace.append("a new version")

        broken = store / "good" / "126"
        broken.mkdir()
        (broken / "saved_model.pb").write_bytes(b"no model")
        until(lambda: server.states("good").get(126) == "END", 10, server.said)
        assert rows(server, "good")[126][1] != "OK"
        trace.append("a version that cannot be loaded")

        config.write_text("model_config_list { config { name: ")
        until(lambda: "config refused, the old one stays" in server.said(), 10)
        assert {m["name"] for m in server.get("/v1/models").json["models"]} == {"good", "other"}
        trace.append("a config that is refused")

        pinned = "model_version_policy { specific { versions: 124 } }"
        write(config, entry("good", pinned + ' version_labels { key: "stable" value: 124 }'))
        until(
            lambda: (
                server.states("good") | {126: "END"}
                == {123: "END", 124: "AVAILABLE", 125: "END", 126: "END"}
            ),
            10,
        )
        until(lambda: server.states("other") == {123: "END"}, 10, server.said)
        trace.append("pinned, and the other model gone")

    for callers in (by_label, latest):
        assert {(status, str(body)) for _, status, body in callers.answers} == {
            (200, "{'predictions': [2.5, 3.0]}")
        }
        assert len(callers.answers) > 20
        gaps = [b[0] - a[0] for a, b in zip(callers.answers, callers.answers[1:], strict=False)]
        assert max(gaps) < 2 * slowness(), f"{max(gaps):.2f} s without an answer, trace {trace}"


def test_a_failed_reload_leaves_the_old_config_whole(
    launch: Launch, store: Path, contract_models: Path
) -> None:
    """Labels are looked at before anything is taken: of a config with one good and one bad entry
    nothing is."""
    shutil.copytree(contract_models / "half_plus_three", store / "other")
    config = store / "models.config"
    write(config, entry("good"))
    server = launch(model_config_file=config, models_root=store, **POLLS)
    server.wait_until_available("good")

    write(config, entry("other"), entry("good", 'version_labels { key: "canary" value: 999 }'))

    until(lambda: "which is not currently available for inference" in server.said(), 10)
    (model,) = server.get("/v1/models").json["models"]
    assert (model["name"], model["labels"]) == ("good", {})
    assert server.predict("good", {"instances": [1.0]}).status == 200


def test_versions_are_found_by_tensorflow_servings_rules(launch: Launch, store: Path) -> None:
    good = store / "good"
    for name in ("0007", "v8", "9.0", "1e3", "tmp", "99999999999999999999", ".130"):
        shutil.copytree(good / "123", good / name)
    (good / "500").write_text("a file")
    write(store / "models.config", entry("good", "model_version_policy { all {} }"))

    server = launch(model_config_file=store / "models.config", models_root=store)
    server.wait_until_available("good")

    assert server.states("good") == {123: "AVAILABLE", 7: "AVAILABLE"}


def test_latest_n_and_specific_and_a_version_that_goes(launch: Launch, store: Path) -> None:
    good = store / "good"
    for version in (1, 2, 3):
        shutil.copytree(good / "123", good / str(version))
    config = store / "models.config"
    write(config, entry("good", "model_version_policy { latest { num_versions: 2 } }"))
    server = launch(model_config_file=config, models_root=store, **POLLS)
    until(lambda: server.states("good") == {123: "AVAILABLE", 3: "AVAILABLE"}, 20, server.said)

    (good / "123").rename(good / "gone")
    until(
        lambda: server.states("good") == {123: "END", 3: "AVAILABLE", 2: "AVAILABLE"},
        10,
        server.said,
    )

    write(config, entry("good", "model_version_policy { specific { versions: 1 versions: 77 } }"))
    until(
        lambda: server.states("good") == {123: "END", 3: "END", 2: "END", 1: "AVAILABLE"},
        10,
        server.said,
    )


def test_retries_go_on_as_long_as_told_and_the_state_stays_loading(
    launch: Launch, store: Path
) -> None:
    broken = store / "good" / "124"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"no model")
    write(store / "models.config", entry("good", "model_version_policy { all {} }"))
    server = launch(
        model_config_file=store / "models.config",
        models_root=store,
        max_num_load_retries=3,
        load_retry_interval_micros=300_000,
        **POLLS,
    )
    until(lambda: "load failed" in server.said(), 20)
    assert rows(server, "good")[124] == ("LOADING", "OK", "")
    until(lambda: server.states("good") == {123: "AVAILABLE", 124: "END"}, 20, server.said)
    assert server.said().count("load failed") == 3


def test_fifty_swaps_leave_no_memory_behind(
    launch: Launch, store: Path, contract_models: Path
) -> None:
    """Of a network with weights, called between the swaps; a version is published and the one
    before goes."""
    shutil.copytree(contract_models / "mnist_cnn", store / "cnn")
    write(store / "models.config", entry("cnn"))
    server = launch(
        model_config_file=store / "models.config", models_root=store, access_log="off", **POLLS
    )
    server.wait_until_available("cnn")
    body = json.dumps({"instances": [[[[0.5]] * 28] * 28] * 4}).encode()
    after_five = 0

    for swap in range(1, 51):
        source = store / "cnn" / str(swap)
        shutil.copytree(source, store / "cnn" / ".next")
        (store / "cnn" / ".next").rename(store / "cnn" / str(swap + 1))
        until(lambda v=swap: server.states("cnn").get(v + 1) == "AVAILABLE", 20)
        until(lambda v=swap: server.states("cnn")[v] == "END", 20)
        for _ in range(5):
            assert server.predict("cnn", body).status == 200
        if swap == 5:
            after_five = server.rss_kib()

    assert server.rss_kib() <= 1.1 * after_five, (
        f"{after_five} KiB after 5, {server.rss_kib()} after 50"
    )
