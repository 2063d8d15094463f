"""`make bench`: measures, prints each row at once, and writes the tables of benchmarks/README.md.

`make bench ARGS="serving training"` measures these parts only and keeps the rows of the others.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import forwarding, imports, serving, table, training
from benchmarks.peers import measure as peers
from benchmarks.stack import ensure_store
from benchmarks.table import Row

PARTS: Mapping[str, Callable[[Path, Path], Iterator[Row]]] = {
    "serving": serving.rows,
    "forwarding": forwarding.rows,
    "imports": imports.rows,
    "training": training.rows,
    "peers": peers.rows,
}
# Peers are installed first, so they are measured only when named.
_DEFAULT_PARTS = tuple(part for part in PARTS if part != "peers")
_HELP = {
    "serving": (
        "headrace serve beside a bare app: REST, gRPC, JSON decoding, start, memory; "
        "PEER_URL=http://host:port"
    ),
    "forwarding": "the gateway beside bare relays and the server called directly",
    "imports": "CPU and memory of importing the gateway",
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
    parts = parser.parse_args(arguments).parts or _DEFAULT_PARTS
    # An exit, unlike the signal, stops the child processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    driver = "wrk" if shutil.which("wrk") else "sockets"
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        store = ensure_store(Path(folder))
        for part in parts:
            work = Path(folder, part)
            work.mkdir()
            rows: list[Row] = []
            for row in PARTS[part](store, work):
                rows.append(row)
                mark = f" (mark {row.mark})" if row.mark else ""
                print(f"  {row.what}: {row.figure}{mark}", flush=True)
            table.keep(part, rows, driver=driver)
    print("\n" + table.write(tuple(PARTS)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
