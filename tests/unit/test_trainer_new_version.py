"""A version is in the store whole or not at all, whoever dies and whoever publishes at the same
time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
from pathlib import Path

import pytest

from headrace.store import folders
from tests.forks import ForkServer
from trainer.store import new_version

FILES = ("saved_model.pb", "assets/words.txt", "assets.extra/card")


def fill(folder: Path) -> None:
    for name in FILES:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())


def publish(model: Path) -> int:
    with new_version.staged(model) as staged:
        fill(staged.path)
        return staged.publish()


def hidden(model: Path) -> list[str]:
    return [path.name for path in model.glob(".staging-*")]


def test_versions_count_from_one(tmp_path: Path) -> None:
    assert [publish(tmp_path / "m"), publish(tmp_path / "m")] == [1, 2]
    assert folders.versions(tmp_path / "m") == (1, 2)
    assert hidden(tmp_path / "m") == []


@pytest.mark.parametrize(
    ("present", "next_version"),
    [(("7",), 8), (("007",), 8), (("3", "9"), 10), (("old", "-4"), 1)],
    ids=["after a gap", "leading zeros", "the highest counts", "others do not count"],
)
def test_the_next_number_is_above_every_number_in_use(
    tmp_path: Path, present: tuple[str, ...], next_version: int
) -> None:
    for name in present:
        (tmp_path / name).mkdir()  # empty: no version, and still not ours to take
    assert publish(tmp_path) == next_version


def test_a_folder_that_appears_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1").mkdir()
    monkeypatch.setattr(
        folders, "versions", lambda base_path: ()
    )  # as if it had been listed before "1" was made
    assert publish(tmp_path) == 2
    assert list((tmp_path / "1").iterdir()) == []


def test_what_was_not_published_is_gone(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_version.staged(tmp_path) as staged:
        fill(staged.path)
        raise RuntimeError("refused")
    assert folders.versions(tmp_path) == ()
    assert hidden(tmp_path) == []


def test_files_can_be_read_by_others(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        version = publish(tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / str(version)).stat().st_mode & 0o777 == 0o755


def test_a_living_neighbour_is_not_swept(tmp_path: Path) -> None:
    with new_version.staged(tmp_path) as slow:
        fill(slow.path)
        assert publish(tmp_path) == 1
        assert slow.publish() == 2
    assert all(folders.is_complete(tmp_path / str(version)) for version in (1, 2))


def test_what_the_dead_left_is_swept(tmp_path: Path) -> None:
    fill_and_leave = tmp_path / ".staging-0123"
    fill_and_leave.mkdir()
    fill(fill_and_leave)
    publish(tmp_path)
    assert hidden(tmp_path) == []


def test_many_at_once_get_a_number_each(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        numbers = pool.map(publish, [tmp_path / "m"] * 12)
    assert sorted(numbers) == list(range(1, 13))
    assert all(folders.is_complete(tmp_path / "m" / str(version)) for version in numbers)


# Python reports each opening, making and renaming of a file before it is done: at the n-th report
# the process is killed, so the kills fall between any two steps and not only where a timer happens
# to hit.
PUBLISHER = """
import os, signal, sys
from pathlib import Path
from trainer.store import new_version
model, at, files = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
seen = 0
def hook(event, args):
    global seen
    if event.startswith(("open", "os.", "fcntl.", "shutil.")):
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
with new_version.staged(model) as staged:
    for name in files:
        path = staged.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    staged.publish()
print(seen)
"""


def run_publisher(
    server: ForkServer, model: Path, *, kill_at: int
) -> subprocess.CompletedProcess[str]:
    return server.run(PUBLISHER, str(model), str(kill_at), *FILES)


def test_a_publish_killed_anywhere_shows_no_partial_version(tmp_path: Path) -> None:
    with ForkServer("trainer.store.new_version") as server:
        kill_at_every_step(server, tmp_path)


def kill_at_every_step(server: ForkServer, tmp_path: Path) -> None:
    undisturbed = run_publisher(server, tmp_path / "whole", kill_at=0)
    assert undisturbed.returncode == 0, undisturbed.stderr
    steps = int(undisturbed.stdout)
    assert steps >= 10
    for point in range(1, steps + 1):
        model = tmp_path / f"killed-{point}"
        killed = run_publisher(server, model, kill_at=point)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        for version in folders.versions(model):
            assert sorted(
                p.read_bytes().decode() for p in model.glob(f"{version}/**/*") if p.is_file()
            ) == sorted(FILES), f"killed at step {point} of {steps}"
        after = publish(model)
        assert folders.is_complete(model / str(after))
        assert hidden(model) == []
