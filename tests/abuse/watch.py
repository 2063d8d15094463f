"""What a process holds: resident memory and descriptors; and that it is still the one that was
started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.live import LiveGateway, LiveServer, until

Door = LiveServer | LiveGateway


@dataclass(frozen=True)
class Held:
    rss_kib: int
    descriptors: int


def held(door: Door) -> Held:
    pid = door.process.pid
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    rss = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return Held(rss, descriptors(door))


def descriptors(door: Door) -> int:
    return len(list(Path(f"/proc/{door.process.pid}/fd").iterdir()))


def assert_well(door: Door) -> None:
    """Alive, and right about half_plus_two."""
    assert door.process.poll() is None, door.said()[-4000:]
    answer = door.predict("half_plus_two", {"instances": [1.0, 5.0]})
    assert (answer.status, answer.json) == (200, {"predictions": [2.5, 4.5]})


def settles(door: Door, most: int, *, within_s: float = 10.0) -> None:
    """Descriptors come down to what they were."""
    until(
        lambda: descriptors(door) <= most,
        within_s,
        lambda: f"{descriptors(door)} descriptors, {most} before",
    )
