"""`make bench`: the rows of the table in one run, printed as they come, then written to
benchmarks/README.md.

`make bench ARGS="serving training"` runs these parts alone, and leaves the other parts' rows as
they stand.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import forwarding, serving, table, training
from benchmarks.peers import measure as peers
from benchmarks.processes import ROOT
from benchmarks.stack import ensure_store
from benchmarks.table import Row

ROUNDS = 5


PARTS: Mapping[str, Callable[[Path, Path], Iterator[Row]]] = {
    "serving": serving.rows,
    "forwarding": forwarding.rows,
    "imports": lambda store, work: import_rows(store, work),
    "training": training.rows,
    "peers": peers.rows,
}
_ONLY_ASKED = ("peers",)
_HELP = {
    "serving": (
        "headrace serve beside a bare app: REST, gRPC, JSON decoding, start, memory; "
        "PEER_URL=http://host:port"
    ),
    "forwarding": "the gateway beside bare relays and the server called directly",
    "imports": "what importing the gateway takes",
    "training": "input pipelines and the training loop",
    "peers": (
        "headrace serve beside FastAPI, LitServe, BentoML, MLServer, each installed on "
        "demand; only when named"
    ),
}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog='make bench ARGS="..."',
        description="Measures on this machine and rewrites the table in benchmarks/README.md.",
        epilog="parts:\n" + "\n".join(f"  {name:11} {text}" for name, text in _HELP.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "parts",
        nargs="*",
        metavar="PART",
        choices=[[], *PARTS],
        help="all but peers, if none is named",
    )
    chosen = parser.parse_args(arguments).parts or [
        part for part in PARTS if part not in _ONLY_ASKED
    ]
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # so that what was started ends on the way out
    driver = "wrk" if shutil.which("wrk") else "sockets"
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        store = ensure_store(Path(folder))
        for part in chosen:
            work = Path(folder, part)
            work.mkdir()
            rows: list[Row] = []
            for row in PARTS[part](store, work):
                rows.append(row)
                print(
                    f"  {row.what}: {row.figure} {'(mark ' + row.mark + ')' if row.mark else ''}",
                    flush=True,
                )
            table.keep(part, rows, driver=driver)
    print("\n" + table.write(tuple(PARTS)))
    return 0


def import_rows(store: Path, work: Path) -> Iterator[Row]:
    code = (
        "import time; t = time.process_time(); import gateway.app; u = time.process_time() - t\n"
        "print(u, [l for l in open('/proc/self/status') if l.startswith('VmRSS')][0].split()[1])"
    )
    cpu, memory = [], []
    for _ in range(ROUNDS):
        out = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout
        seconds, kb = out.split()
        cpu.append(float(seconds))
        memory.append(int(kb) / 1024)
    yield Row(
        "import gateway.app, CPU",
        f"{statistics.median(cpu):.2f} s",
        "<= 1.5 s",
        statistics.median(cpu) <= 1.5,
    )
    yield Row(
        "import gateway.app, memory",
        f"{statistics.median(memory):.0f} MB",
        "<= 100 MB",
        max(memory) <= 100,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
