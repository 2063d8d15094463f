"""Writes requirements/*.txt from pyproject.toml: pinned versions and hashes, for all machines.

Versions that are pinned already stay; --upgrade takes the newest that fit. No index address is
written.
"""

from __future__ import annotations

import subprocess
import sys

from deploy.local.local_settings import ROOT

# The widest set comes first, and the others get its versions.
WIDEST = "dev"
# Files of requirements/ -> the extras and dependency groups of pyproject.toml that they contain.
SETS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # For `make test`, lint, bench and wheel.
    "dev": (("server",), ("dev",)),
    # For `make up`.
    "local": (("server",), ("local",)),
    # For the images. The trainer checks versions in the server's engine.
    "gateway": ((), ("gateway",)),
    "server": (("server",), ()),
    "trainer": (("server",), ("train",)),
}
_OPTIONS = (
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
)


def main(options: list[str]) -> int:
    for name, (extras, groups) in SETS.items():
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml"]
        command += [f"--extra={extra}" for extra in extras]
        command += [f"--group={group}" for group in groups]
        command += _OPTIONS
        if name != WIDEST:
            command += ["--constraint", _file(WIDEST)]
        command += [*options, "--output-file", _file(name)]
        compiled = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL)
        if compiled.returncode:
            return compiled.returncode
        count = (ROOT / _file(name)).read_text().count("==")
        print(f"{_file(name)}: {count} packages")
    return 0


def _file(name: str) -> str:
    return f"requirements/{name}.txt"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
