"""A trainer that stays: the trainer's command line, called many times in one process, since
TensorFlow takes seconds to import. A call's standard output and error are those of the process, so
what C++ writes is in them too."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tests.forks import ForkServer

ROOT = Path(__file__).resolve().parents[2]
_LOOP = """
import json, os, signal, sys
from pathlib import Path
from trainer import cli

def killed(words, at):
    # Python reports every opening, making and renaming of a file before it is done: at one of
    # them this is killed.
    seen = 0
    def hook(event, args):
        nonlocal seen
        if event.startswith(("open", "os.", "fcntl.", "shutil.", "subprocess.")):
            seen += 1
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    cli.main(words)
    print(seen, flush=True)
    os._exit(0)

answers = os.fdopen(os.dup(1), "w")
for line in iter(sys.stdin.readline, ""):
    words, environment, folder, kill_at = json.loads(line)
    os.environ.clear()
    os.environ.update(environment)
    kept = [os.dup(1), os.dup(2)]
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
        os.close(file)
    if kill_at is None:
        try:
            code = cli.main(words)
        except SystemExit as end:  # argparse's
            code = end.code
    elif child := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    else:
        killed(words, kill_at)
    sys.stdout.flush(), sys.stderr.flush()
    for number, before in zip((1, 2), kept):
        os.dup2(before, number)
        os.close(before)
    print(code, "tensorflow" in sys.modules, file=answers, flush=True)
"""


class WarmTrainer:
    """``call`` is `python -m trainer WORDS`, with a store of ``place``; archives are fetched once
    for all tests."""

    def __init__(self, folder: Path, to: BinaryIO, back: BinaryIO) -> None:
        self._folder = folder
        self._to, self._back = to, back
        self.imported_tensorflow = False

    def call(
        self,
        place: Path,
        *words: str,
        environ: Mapping[str, str] | None = None,
        kill_at: int | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """``environ``: all of the environment, where it is not that of environment(). ``kill_at``:
        in a process forked for this call, killed when it touches files for that time; 0 = not at
        all, and how many there were is printed.
        """
        given = {**os.environ, **environment(place)} if environ is None else dict(environ)
        self._to.write(json.dumps([words, given, str(self._folder), kill_at]).encode() + b"\n")
        self._to.flush()
        answer = self._back.readline().split()
        assert answer, f"the trainer died at {words}; {(self._folder / 'err').read_text()}"
        self.imported_tensorflow = answer[1] == b"True"
        out, err = ((self._folder / name).read_text() for name in ("out", "err"))
        return subprocess.CompletedProcess(["trainer", *words], int(answer[0]), out, err)


@contextmanager
def warm_trainer(server: ForkServer, folder: Path) -> Iterator[WarmTrainer]:
    with server.talk(_LOOP) as (to, back):
        yield WarmTrainer(folder, to, back)


def environment(place: Path) -> dict[str, str]:
    """A store, a list and runs of its own."""
    place.mkdir(exist_ok=True)
    shared = Path(os.environ.get("HEADRACE_CACHE") or ROOT / ".cache").absolute() / "data"
    shared.mkdir(parents=True, exist_ok=True)
    if not (place / "data").exists():
        (place / "data").symlink_to(shared)
    return {
        "HEADRACE_STORE": str(place / "models"),
        "HEADRACE_CONFIG": str(ROOT / "multimodel.config"),
        "HEADRACE_CACHE": str(place),
    }
