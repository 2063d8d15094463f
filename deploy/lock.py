"""Writes requirements/*.txt from pyproject.toml: every version and hash pinned, for all supported
machines at once.

Versions that are pinned already stay, unless --upgrade asks for the newest that fit. No index
address is written.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from deploy.local.settings import ROOT

# The widest set comes first, and the others are held to its versions.
WIDEST = "dev"
# File of requirements/ -> extras of the wheel and groups of the tree that it holds.
SETS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # `make test`, lint, bench, wheel.
    "dev": (("server",), ("dev",)),
    # `make up`.
    "local": (("server",), ("local",)),
    # The images.
    "gateway": ((), ("gateway",)),
    "server": (("server",), ()),
    "trainer": (
        ("server",),
        ("train",),
        # A version is checked in the server's engine before it is published.
    ),
}


def main(options: list[str]) -> int:
    for name, (extras, groups) in SETS.items():
        widest = _file(WIDEST)
        held = [] if name == WIDEST else ["--constraint", str(widest.relative_to(ROOT))]
        command = [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "compile",
            "pyproject.toml",
            *(f"--extra={extra}" for extra in extras),
            *(f"--group={group}" for group in groups),
            "--universal",
            "--python-version",
            "3.11",
            "--fork-strategy",
            "fewest",
            "--generate-hashes",
            "--no-annotate",
            "--no-emit-index-url",
            "--custom-compile-command",
            "make lock",
            "--quiet",
            *held,
            *options,
            "--output-file",
            str(_file(name).relative_to(ROOT)),
        ]
        if code := subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL).returncode:
            return code
        print(
            f"requirements/{name}.txt: "
            f"{sum('==' in line for line in _file(name).read_text().splitlines())} packages"
        )
    return 0


def _file(name: str) -> Path:
    return ROOT / "requirements" / f"{name}.txt"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
