"""`make test-again TIMES=20`: the quick suite again and again, in a random order and beside two
busy loops.

A test that fails once is listed with what repeats its order. Exit status 0: nothing failed.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / ".cache" / "again"
_BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(100000))"
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.again", description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="runs (default: 20)")
    parser.add_argument("--busy", type=int, default=2, help="busy loops beside them (default: 2)")
    parsed, pytest_arguments = parser.parse_known_args()
    LOGS.mkdir(parents=True, exist_ok=True)
    failures: dict[str, list[int]] = {}
    broken = 0
    with busy_loops(parsed.busy):
        for number in range(1, parsed.times + 1):
            seed = random.randrange(10**6)
            began = time.monotonic()
            log = LOGS / f"{number}.log"
            code = run([*pytest_arguments, f"--shuffle={seed}"], log)
            failed = sorted(set(_FAILED.findall(log.read_text())))
            for test in failed:
                failures.setdefault(test, []).append(seed)
            broken += code != 0
            took = time.monotonic() - began
            print(
                f"{number} of {parsed.times}, --shuffle={seed}: {_outcome(code, failed)}, "
                f"{took:.0f} s",
                flush=True,
            )
    for test, seeds in failures.items():
        print(f"{test}: failed {len(seeds)} of {parsed.times}, with --shuffle={seeds[0]}")
    print(f"{parsed.times} runs, {broken} with failures; logs in {LOGS.relative_to(ROOT)}")
    return 1 if broken else 0


def run(arguments: list[str], log: Path) -> int:
    command = [sys.executable, "-m", "pytest", *arguments]
    with log.open("w") as file:
        return subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        ).returncode


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    loops = [
        subprocess.Popen([sys.executable, "-c", _BUSY], stdin=subprocess.DEVNULL)
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _outcome(code: int, failed: list[str]) -> str:
    if code == 0:
        return "passed"
    return (
        f"{len(failed)} failed ({', '.join(failed[:3])})" if failed else f"pytest ended with {code}"
    )


if __name__ == "__main__":
    sys.exit(main())
