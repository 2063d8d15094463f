"""The real stack as users bring it up: the verbs of make, on free ports, over a store and a run
folder of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ports import hold_ports

ROOT = Path(__file__).resolve().parents[1]
_PORTS = (
    "HEADRACE_HTTP_PORT",
    "HEADRACE_GRPC_PORT",
    "HEADRACE_SERVING_GRPC_PORT",
    "HEADRACE_SERVING_REST_PORT",
)
# Of the make that runs the tests, and of the user's own stack: neither is for the stack under test.
_FOREIGN = ("HEADRACE_", "MAKE", "MFLAGS", "RUNTIME", "SERVING", "FOLLOW", "ARGS")


@dataclass(frozen=True)
class LocalStack:
    """Up or not. ``http`` and ``grpc`` are the gateway's addresses."""

    folder: Path
    ports: Mapping[str, int]

    @classmethod
    def new(cls, folder: Path, *names: str) -> LocalStack:
        """Of the models of these names, or of all that are listed."""
        folder.mkdir(parents=True, exist_ok=True)
        listed = (ROOT / "multimodel.config").read_text()
        if names:
            entries = re.findall(r"^  config \{\n.*?^  \}\n", listed, re.MULTILINE | re.DOTALL)
            mine = [entry for entry in entries if re.search(r'name: "(.*)"', entry)[1] in names]
            listed = f"model_config_list {{\n{''.join(mine)}}}\n"
        (folder / "multimodel.config").write_text(listed)
        return cls(folder, dict(zip(_PORTS, hold_ports(len(_PORTS)), strict=True)))

    @contextmanager
    def spare(self, folder: Path) -> Iterator[LocalStack]:
        """Another one beside it, not up yet, of one model and that already trained: quick to come
        and go."""
        spare = LocalStack.new(folder, "half_plus_two")
        shutil.copytree(self.store / "half_plus_two" / "1", spare.store / "half_plus_two" / "1")
        yield spare
        spare.make("down")

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.ports['HEADRACE_HTTP_PORT']}"

    @property
    def grpc(self) -> str:
        return f"grpc://127.0.0.1:{self.ports['HEADRACE_GRPC_PORT']}"

    @property
    def store(self) -> Path:
        return self.folder / "models"

    @property
    def config(self) -> Path:
        return self.folder / "multimodel.config"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        return {
            **kept,
            **{name: str(port) for name, port in self.ports.items()},
            "HEADRACE_STORE": str(self.store),
            "HEADRACE_CONFIG": str(self.config),
            "HEADRACE_RUN": str(self.run),
            "RUNTIME": "local",
        }

    def make(
        self, *verbs: str, timeout_s: float = 300, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", "--no-print-directory", *verbs],
            cwd=ROOT,
            env=self.environment | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
