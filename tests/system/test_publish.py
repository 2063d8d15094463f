"""A new version published by the trainer's container while predictions go through: none is lost."""

from __future__ import annotations

import time
from collections import Counter

from tests.system.project import Compose, Load, wait_for
from tests.system.test_faults import served_versions


def test_publishing_under_load_loses_nothing(stack: Compose) -> None:
    newest = stack.versions("half_plus_two")[-1]
    url = f"{stack.url}/v1/models/half_plus_two:predict"
    with Load(url, per_second=100) as load:
        stack.run("run", "--rm", "--no-deps", "--no-TTY", "trainer", "train", "half_plus_two")
        wait_for(
            lambda: newest + 1 in served_versions(stack),
            within_s=30,
            what="the new version is served",
        )
        sent_when_live = len(load.statuses)
        # The old version is unloaded meanwhile: that too must lose nothing.
        wait_for(
            lambda: served_versions(stack) == [newest + 1],
            within_s=30,
            what="the old version is gone",
        )
        end = time.monotonic() + 10
        wait_for(
            lambda: len(load.statuses) > sent_when_live + 100 or time.monotonic() > end,
            within_s=15,
            what="more went through",
        )
    assert load.errors == []
    assert Counter(load.statuses) == {200: len(load.statuses)}
    rate = len(load.statuses) / load.seconds
    print(f"{len(load.statuses)} predictions at {rate:.0f}/s while publishing, none failed")
    assert rate > 80
