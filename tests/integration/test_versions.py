"""Promote, rollback and gc against a running stack: under load, with labels, and when the version
cannot be loaded."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from headrace import doctor
from headrace.protocol import version_policy
from headrace.store import card, model_list
from tests.integration.conftest import Stack, running, wait_for
from tests.unit import toy

MODEL = "half_plus_two"


class Store:
    """A running stack, its store and the user's list of models beside it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.list = stack.folder / "multimodel.config"
        self.listed = stack.config.read_text()
        self.list.write_text(self.listed)

    def trainer(self, *words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        own = {
            "HEADRACE_STORE": str(self.stack.store),
            "HEADRACE_CONFIG": str(self.list),
            "HEADRACE_GATEWAY": self.stack.http,
            "HEADRACE_LIVE_TIMEOUT_S": "30",
        }
        return toy.call(self.stack.folder, *words, environ={**os.environ, **own, **more})

    def publish(self, two: float, *words: str) -> int:
        """A version that adds ``two``, and is what it says it is."""
        golden = [
            {
                "signature_name": "serving_default",
                "inputs": {"x": [1.0]},
                "outputs": {"y": [0.5 + two]},
            }
        ]
        ready = toy.export(self.stack.folder / "ready" / str(two), golden=golden, two=two)
        done = self.trainer("publish", MODEL, ready, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return int(done.stdout.partition(f"{MODEL} version ")[2].split()[0])

    def reset(self) -> None:
        """As it was at the start: version 1, the newest is served."""
        model = self.stack.store / MODEL
        for path in model.iterdir():
            if path.name != "1":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for saved in self.stack.store.glob(".multimodel.config.*"):
            saved.unlink()
        shutil.rmtree(self.stack.folder / "ready", ignore_errors=True)
        self.list.write_text(self.listed)
        if self.stack.config.read_text() != self.listed:
            before = self.taken()
            self.stack.write_config(self.listed)
            wait_for(lambda: self.taken() > before, within_s=20, what="the server takes the list")
        wait_for(lambda: self.available() == [1], within_s=20, what="version 1 alone is served")
        self.live(1)

    def taken(self) -> int:
        return self.stack.serving.log.count("config taken")

    def live(self, version: int) -> None:
        wait_for(
            lambda: self.model["default_version"] == version,
            within_s=20,
            what=f"version {version} is live",
        )

    @property
    def model(self) -> dict:
        models = requests.get(f"{self.stack.http}/v1/models", timeout=5).json()["models"]
        return next(model for model in models if model["name"] == MODEL)

    def available(self) -> list[int]:
        return sorted(v["version"] for v in self.model["versions"] if v["state"] == "AVAILABLE")

    def answer(self, of: str = "") -> float:
        url = f"{self.stack.http}/v1/models/{MODEL}{of}:predict"
        return requests.post(url, json={"instances": [1.0]}, timeout=10).json()["predictions"][0]

    def policy(self) -> version_policy.VersionPolicy:
        model = model_list.load(self.list).model(MODEL)
        assert model is not None
        return model.policy


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("versions")
    toy.export(folder / "models" / MODEL / "1")
    with running(
        folder, folder / "models", (MODEL,), flags=("--max_num_load_retries=0",), TIMEOUT_S="10"
    ) as stack:
        yield Store(stack)


@pytest.fixture
def store(shared: Store) -> Iterator[Store]:
    """With version 1 alone, before and after each test."""
    yield shared
    shared.reset()


class Load:
    """Predictions one after the other, from a few threads; every outcome counted."""

    def __init__(self, url: str) -> None:
        self.seen: Counter[object] = Counter()
        self._url, self._over = url, threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(4)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _send(self) -> None:
        with requests.Session() as session:
            while not self._over.is_set():
                time.sleep(0.005)
                try:
                    answer = session.post(
                        self._url, data=json.dumps({"instances": [1.0]}), timeout=10
                    )
                    self.seen[
                        answer.json()["predictions"][0]
                        if answer.status_code == 200
                        else answer.text
                    ] += 1
                except requests.RequestException as error:
                    self.seen[repr(error)] += 1


def test_a_bad_version_is_rolled_back_under_load_without_a_failed_request(store: Store) -> None:
    good = store.model["default_version"]
    with Load(f"{store.stack.http}/v1/models/{MODEL}:predict") as load:
        bad = store.publish(7.0)
        store.live(bad)
        done = store.trainer("rollback", MODEL)
        assert done.returncode == 0, done.stdout + done.stderr
        assert store.answer() == 2.5
        before = sum(load.seen.values())
        wait_for(lambda: sum(load.seen.values()) > before + 200, within_s=20, what="more answers")
    assert set(load.seen) == {2.5, 7.5}, load.seen
    assert f"{MODEL} is pinned to version {good}: live, served: {good}" in done.stdout
    assert (
        f"+    model_version_policy {{ specific {{ versions: {good} }} }}" in done.stdout
        or "+config" in done.stdout
    )
    assert store.policy() == version_policy.Specific((good,))
    assert store.available() == [good]


def test_a_publish_after_a_rollback_waits_for_promote(store: Store) -> None:
    good = store.model["default_version"]
    store.live(store.publish(7.0))
    assert store.trainer("rollback", MODEL).returncode == 0
    ready = toy.export(store.stack.folder / "ready" / "better", golden=[], two=3.0)
    done = store.trainer("publish", MODEL, ready)
    newest = good + 2
    assert (
        f"{MODEL} is not live: {store.list} pins it to {good}; `promote {MODEL}` makes version "
        f"{newest} live" in done.stdout
    )
    assert store.answer() == 2.5
    promoted = store.trainer("promote", MODEL)
    assert promoted.returncode == 0, promoted.stdout + promoted.stderr
    assert (
        f"{MODEL} is at version {newest} and follows new ones: live, served: {newest}"
        in promoted.stdout
    )
    assert store.answer() == 3.5
    assert (
        store.list.read_text() == store.stack.config.read_text().partition("\n")[2]
        or store.policy() == version_policy.Latest()
    )
    assert card.read(store.stack.store / MODEL / str(newest))["parent"] == good
    back = store.trainer(
        "rollback", MODEL
    )  # to its parent, not to the one that was rolled back itself
    assert back.returncode == 0, back.stdout + back.stderr
    assert store.answer() == 2.5


def test_labels_move_with_a_rollback_and_answer_all_the_time(store: Store) -> None:
    good = store.model["default_version"]
    bad = store.publish(7.0)
    text = store.list.read_text()
    labelled = (
        f" model_version_policy {{ latest {{ num_versions: 2 }} }} version_labels {{ key: "
        f'"stable" value: {bad} }} }}'
    )
    store.list.write_text(text.replace(" }\n}", f"{labelled}\n}}"))
    # Rendered as `make reload` does it; a label is taken once its version is AVAILABLE.
    assert store.trainer("promote", MODEL).returncode == 0
    assert store.answer("/labels/stable") == 7.5
    with Load(f"{store.stack.http}/v1/models/{MODEL}/labels/stable:predict") as load:
        done = store.trainer("rollback", MODEL)
        assert done.returncode == 0, done.stdout + done.stderr
        assert store.answer("/labels/stable") == 2.5
    assert set(load.seen) <= {2.5, 7.5}, load.seen
    assert (store.available(), store.model["labels"]) == ([good], {"stable": good})
    assert store.trainer("promote", MODEL).returncode == 0
    assert store.answer("/labels/stable") == 7.5
    assert store.policy() == version_policy.Latest(2)


def test_a_version_that_cannot_be_loaded_leaves_everything_as_it_was(store: Store) -> None:
    good = store.model["default_version"]
    broken = store.publish(7.0)
    store.live(broken)
    assert store.trainer("rollback", MODEL).returncode == 0
    before = store.list.read_text()
    graph = store.stack.store / MODEL / str(broken) / "saved_model.pb"
    graph.write_bytes(graph.read_bytes().replace(b"AddV2", b"AddV9"))
    done = store.trainer("promote", MODEL)
    assert done.returncode == 1
    assert f"{MODEL} version {broken} failed to load: " in done.stderr
    assert f"{store.list} is as it was" in done.stderr
    assert store.list.read_text() == before
    assert (store.answer(), store.available()) == (2.5, [good])


def test_gc_keeps_the_last_and_what_is_live(store: Store) -> None:
    good = store.model["default_version"]
    newer = [store.publish(float(two)) for two in (3, 4, 5)]
    store.live(newer[-1])
    assert store.trainer("rollback", MODEL, str(good)).returncode == 0
    dry = store.trainer("gc", "--keep", "1", "--dry-run")
    assert f"{MODEL}: version {newer[0]} would be removed" in dry.stdout
    done = store.trainer("gc", "--keep", "1")
    assert done.returncode == 0, done.stderr
    assert f"{MODEL}: version {good} stays, it is live or has a label" in done.stdout
    left = sorted(
        int(path.name) for path in (store.stack.store / MODEL).iterdir() if path.name.isdigit()
    )
    assert left == [good, newer[-1]]
    assert store.answer() == 2.5


def test_a_newest_version_that_does_not_load_is_told_by_all_and_the_older_one_serves_on(store):
    good = store.stack.store / MODEL / "1"
    bad = store.stack.folder / "bad"
    shutil.copytree(good, bad)
    (bad / "saved_model.pb").write_bytes((good / "saved_model.pb").read_bytes()[:-20])
    store.stack.publish(MODEL, bad, 2)
    told = "version 2 failed: its saved_model.pb is damaged; version 1 serves"
    wait_for(lambda: store.model["reason"] == told, within_s=20, what="the failure is told")
    ready = requests.get(f"{store.stack.http}/readyz", timeout=5)
    assert (ready.status_code, ready.json()["models"][0]["reason"]) == (200, told)
    metric = f'headrace_gateway_version_failed{{model="{MODEL}",version="2"}} 1.0'
    assert metric in requests.get(f"{store.stack.http}/metrics", timeout=5).text.splitlines()
    listed = store.trainer("list").stdout
    assert re.search(rf"^{MODEL} +1 2 +1 +", listed, re.MULTILINE)
    assert f"{MODEL}: {told}\n" in listed
    http_port = str(store.stack.gateway.ports["http"])
    (finding,) = doctor.check_gateway({"HEADRACE_HTTP_PORT": http_port})
    assert finding.is_problem and finding.text == f"{MODEL}: {told}"
    assert store.answer() == 2.5
    shutil.rmtree(store.stack.store / MODEL / "2")
    wait_for(
        lambda: not store.model["reason"],
        within_s=20,
        what="a version that is deleted is not missed",
    )


def test_reload_takes_a_model_out_and_back_with_its_policy(store):
    other = store.listed.replace(MODEL, "other").partition("config {")[2].rpartition("}")[0]
    shutil.copytree(store.stack.store / MODEL, store.stack.store / "other")
    try:
        store.list.write_text(store.listed.rpartition("}")[0] + "config {" + other + "}\n")
        done = store.trainer("reload")
        assert done.returncode == 0 and f"live: {MODEL}, other" in done.stdout, (
            done.stdout + done.stderr
        )
        assert requests.get(f"{store.stack.http}/readyz?model=other", timeout=5).status_code == 200
    finally:
        store.list.write_text(store.listed)
        back = store.trainer("reload")
    assert back.returncode == 0, back.stderr
    assert requests.get(f"{store.stack.http}/readyz?model=other", timeout=5).status_code == 404
    shutil.rmtree(store.stack.store / "other")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("/models/half_plus_two", "/models/half_plus_to", "half_plus_to does not exist"),
        ("/models/half_plus_two", "/modles/half_plus_two", "/modles/half_plus_two does not exist"),
        (
            "model_platform",
            "model_version_policy { specific { versions: 9 } } model_platform",
            "versions 1 and not 9",
        ),
    ],
    ids=["in the store", "elsewhere", "no such version"],
)
def test_a_list_that_cannot_be_served_is_refused_at_once_and_changes_nothing(
    store, before, after, said
):
    store.list.write_text(store.listed.replace(before, after))
    began = time.monotonic()
    done = store.trainer("reload", "--all-folders")
    assert time.monotonic() - began < 5
    assert done.returncode == 2
    assert said in done.stderr and "live" not in done.stdout
    assert (store.available(), store.stack.config.read_text()) == ([1], store.listed)


def test_reload_ends_with_the_servers_reason_as_soon_as_the_outcome_is_known(store):
    good = store.stack.store / MODEL / "1"
    shutil.copytree(good, store.stack.store / "broken" / "1")
    (store.stack.store / "broken/1/saved_model.pb").write_bytes(b"no graph")
    more = 'config { name: "broken" base_path: "/models/broken" model_platform: "tensorflow" }'
    store.list.write_text(store.listed.rpartition("}")[0] + more + "}\n")
    began = time.monotonic()
    done = store.trainer("reload")
    took = time.monotonic() - began
    shutil.rmtree(store.stack.store / "broken")
    assert (done.returncode, took < 15) == (1, True)
    assert done.stderr == "error: broken version 1 failed to load: its saved_model.pb is damaged\n"
    assert "live:" not in done.stdout


@pytest.mark.long
def test_reload_says_what_the_server_says_of_a_folder_that_only_the_server_can_see(store):
    more = 'config { name: "away" base_path: "/srv/away" model_platform: "tensorflow" }'
    store.list.write_text(store.listed.rpartition("}")[0] + more + "}\n")
    done = store.trainer("reload")
    assert done.returncode == 1
    assert (
        "error: away: the serving backend does not have it: Could not find any versions of model "
        "away" in done.stderr
    )
    assert "/srv/away does not exist" in done.stderr
