"""Compiles headrace/protocol/proto/*.proto into the descriptor set that lies beside them.

`make protos` runs it after a change to a .proto file; a test compares the two.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from deploy.local.local_settings import ROOT

PROTOS = ROOT / "headrace/protocol/proto"
DESCRIPTORS = PROTOS / "descriptors.binpb"


def compile_to(path: Path) -> None:
    sources = sorted(str(source.relative_to(PROTOS)) for source in PROTOS.rglob("*.proto"))
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTOS}"]
    subprocess.run([*protoc, f"--descriptor_set_out={path}", *sources], check=True)


if __name__ == "__main__":
    compile_to(DESCRIPTORS)
    print(f"wrote {DESCRIPTORS.relative_to(ROOT)}")
