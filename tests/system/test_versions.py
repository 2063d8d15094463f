"""A version rolled back and promoted again by the verbs, in containers, while predictions go
through: none is lost."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest

from deploy.terminal import Stop
from tests.system.project import Compose, Load, wait_for
from tests.system.test_faults import served_versions


def test_rollback_and_promote_under_load_lose_nothing(stack: Compose) -> None:
    before, owner = stack.config.read_text(), stack.config.stat().st_uid
    good = stack.versions("half_plus_two")[-1]
    stack.run("run", "--rm", "--no-deps", "--no-TTY", "trainer", "train", "half_plus_two")
    wait_for(
        lambda: served_versions(stack) == [good + 1],
        within_s=30,
        what="the new version is served alone",
    )
    verbs = stack.stack()
    with Load(f"{stack.url}/v1/models/half_plus_two:predict", per_second=100) as load:
        verbs.versions("rollback", "half_plus_two")
        assert served_versions(stack) == [good]
        pinned = stack.config.read_text()
        verbs.versions("promote", "half_plus_two")
        assert served_versions(stack) == [good + 1]
    assert load.errors == []
    assert Counter(load.statuses) == {200: len(load.statuses)}
    assert len(load.statuses) / load.seconds > 80
    added = set(pinned.splitlines()) - set(before.splitlines())
    assert added == {f"    model_version_policy {{ specific {{ versions: {good} }} }}"}
    assert stack.config.read_text() == before
    assert stack.config.stat().st_uid == owner


def test_gc_leaves_what_is_live(stack: Compose) -> None:
    for _ in range(2):
        stack.run("run", "--rm", "--no-deps", "--no-TTY", "trainer", "train", "half_plus_two")
    newest = stack.versions("half_plus_two")[-1]
    wait_for(
        lambda: served_versions(stack) == [newest],
        within_s=30,
        what="the newest version is served alone",
    )
    stack.stack().versions("rollback", "half_plus_two")
    stack.stack().versions("gc", "half_plus_two", "--keep", "1")
    assert stack.versions("half_plus_two") == [newest - 1, newest]
    assert served_versions(stack) == [newest - 1]
    stack.stack().versions("promote", "half_plus_two")
    assert stack.predicts()


def test_reload_ends_with_the_reason_once_the_outcome_is_known(
    stack: Compose, capfd: pytest.CaptureFixture[str]
) -> None:
    before = stack.config.read_text()
    broken = stack.store / "broken" / "1"
    try:
        stack.config.write_text(before.replace('"/models/titanic"', '"/models/titan"'))
        with pytest.raises(Stop):
            stack.stack().reload()
        said = capfd.readouterr()
        assert (
            "titanic: base_path /models/titan: /models/titan does not exist" in said.out + said.err
        )
        shutil.copytree(
            stack.store / "half_plus_two" / str(stack.versions("half_plus_two")[-1]), broken
        )
        (broken / "saved_model.pb").write_bytes(b"no graph")
        entry = (
            'config { name: "broken" base_path: "/models/broken" model_platform: "tensorflow" '
            "}\n}\n"
        )
        stack.config.write_text(before.rstrip().removesuffix("}") + entry)
        with pytest.raises(Stop):
            stack.stack().reload()
        said = capfd.readouterr()
        assert (
            "broken version 1 failed to load: its saved_model.pb is damaged" in said.out + said.err
        )
    finally:
        stack.config.write_text(before)
        shutil.rmtree(broken.parent, ignore_errors=True)
        stack.stack().reload()
    assert "live: half_plus_two" in capfd.readouterr().out
    assert stack.predicts()
