"""The virtual environments: one for each Python in .venvs/, and .venv, a link to the one used last.

Each is made once, filled with a pinned set from requirements/, and left alone while nothing
changed. A stamp inside says what it was filled with; it is written last, so an interrupted filling
is taken up again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from deploy.alone import alone
from deploy.local.settings import ROOT
from deploy.terminal import Step, Stop

# The Python that runs this: inside an environment, the one it was made with.
_BASE = str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
_VERSION = "{}.{}".format(*sys.version_info[:2])
LINK = ROOT / ".venv"
VENV = ROOT / ".venvs" / f"{_VERSION}-{hashlib.sha256(_BASE.encode()).hexdigest()[:8]}"
# By its own path, not the link's: what runs goes on when the link moves.
PYTHON = VENV / "bin" / "python"
_STAMP = VENV / "headrace.json"
_LOG = ROOT / ".cache" / "install.log"
# No resolving (--no-deps) and no building: what is installed is the set, to the byte, and needs no
# compiler.
_INSTALL = (
    "--no-deps",
    "--require-hashes",
    "--only-binary=:all:",
    "--no-compile",
    "--no-input",
    "--disable-pip-version-check",
)
_UNREACHED = re.compile(
    r"onnection (?:error|broken|refused|reset)|new connection|Max retries|timed out|name "
    r"resolution|ProxyError|SSLError"
)
_HAPPENED = re.compile(r"^\s*(?:Collecting|Requirement already satisfied:)\s+([\w.-]+)")


def ensure(name: str) -> bool:
    """Make .venv hold the set ``name`` of requirements/ and the project's own commands. Whether it
    was filled now."""
    if _is_current(name) and _is_linked():
        return False
    with alone(ROOT / ".cache" / "venv.lock"):
        # Else filled with this Python before, or by the call that was waited for.
        missing = not _is_current(name)
        if missing:
            _fill(name)
        if not _is_linked():
            _link()
    return missing


def identity() -> str:
    """Changes whenever .venv was filled anew."""
    return hashlib.sha256(_STAMP.read_bytes()).hexdigest() if _STAMP.exists() else ""


def _fill(name: str) -> None:
    if not _same_interpreter():
        _create()
    _install(name)
    _link_project()
    # The set of development holds the one of the stack.
    names = {"local", name} if name == "dev" else {name}
    kept = _stamp().get("sets", {})
    _write_stamp({**_interpreter(), "sets": {**kept, **{each: _digest(each) for each in names}}})


def _is_current(name: str) -> bool:
    stamp = _stamp()
    return _same_interpreter() and stamp.get("sets", {}).get(name) == _digest(name)


def _interpreter() -> dict[str, Any]:
    # A copied tree brings environments whose scripts point to where they came from, hence the
    # place.
    return {"python": sys.version, "base": _BASE, "root": str(ROOT)}


def _same_interpreter() -> bool:
    stamp = _stamp()
    return PYTHON.exists() and all(stamp.get(key) == value for key, value in _interpreter().items())


def _stamp() -> dict[str, Any]:
    try:
        stamp = json.loads(_STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _write_stamp(stamp: dict[str, Any]) -> None:
    aside = _STAMP.with_suffix(".new")
    aside.write_text(json.dumps(stamp, indent=1) + "\n")
    aside.replace(_STAMP)


def _digest(name: str) -> str:
    return hashlib.sha256(_set(name).read_bytes()).hexdigest()


def _set(name: str) -> Path:
    return ROOT / "requirements" / f"{name}.txt"


def _is_linked() -> bool:
    return LINK.is_symlink() and LINK.resolve() == VENV


def _link() -> None:
    if LINK.is_dir() and not LINK.is_symlink():
        # An environment of its own, as earlier releases made it.
        shutil.rmtree(LINK)
    aside = LINK.with_name(".venv.new")
    aside.unlink(missing_ok=True)
    aside.symlink_to(VENV.relative_to(ROOT))
    aside.replace(LINK)


def _create() -> None:
    with Step(f"Making .venv with {_BASE}", f"Made .venv with Python {sys.version.split()[0]}"):
        made = subprocess.run(
            [_BASE, "-m", "venv", "--clear", VENV],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if made.returncode:
            shutil.rmtree(VENV, ignore_errors=True)
            raise Stop(
                f"{_BASE} could not make a virtual environment:\n{made.stdout.strip()}\n"
                f"On Debian and Ubuntu: apt install python{_VERSION}-venv. "
                "Else name another Python with PYTHON=/path/to/python3."
            )
        _write_stamp({**_interpreter(), "sets": {}})


def _install(name: str) -> None:
    total = sum(1 for line in _set(name).read_text().splitlines() if re.match(r"[\w.-]+==", line))
    command = [str(PYTHON), "-m", "pip", "install", *_INSTALL, "-r", str(_set(name))]
    with Step(f"Installing the pinned packages of requirements/{name}.txt") as step:
        output, seen = [shlex.join(command) + "\n"], 0
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        ) as pip:
            assert pip.stdout is not None
            for line in pip.stdout:
                output.append(line)
                if happened := _HAPPENED.match(line):
                    seen += 1
                    step.detail(f"{seen} of {total}: {happened[1]}")
                elif line.startswith("Installing collected packages"):
                    step.detail("unpacking")
        _LOG.write_text("".join(output))
        if pip.returncode:
            raise Stop(_install_failed(output))
        step.finish(f"Installed the pinned packages of requirements/{name}.txt, {seen}")


def _install_failed(output: list[str]) -> str:
    errors = [line.removeprefix("ERROR:").strip() for line in output if line.startswith("ERROR:")]
    told = "\n".join(f"  {error}" for error in errors[-3:]) or "  pip gave no reason"
    text = "".join(output)
    if _UNREACHED.search(text):
        advice = (
            "The package index could not be reached. Check the network; behind a proxy set "
            "HTTPS_PROXY, with an index\n"
            "of your own PIP_INDEX_URL, without any network PIP_NO_INDEX=1 and "
            "PIP_FIND_LINKS=/folder/of/wheels."
        )
    elif "No space left" in text:
        advice = f"The disk is full: .venv needs about 2 GB under {ROOT}."
    elif "HASHES" in text:
        advice = (
            "A package differs from the one pinned in requirements/: do not go on before you "
            "know why."
        )
    else:
        advice = "See the whole output."
    again = f"Whole output: {_LOG}. Then run make again: it goes on where it stopped."
    return f"pip could not install the packages:\n{told}\n{advice}\n{again}"


def _link_project() -> None:
    """`import headrace` anywhere under .venv's Python, and the command headrace, without a
    build."""
    (VENV / "lib" / f"python{_VERSION}" / "site-packages" / "headrace-tree.pth").write_text(
        f"{ROOT}\n"
    )
    script = VENV / "bin" / "headrace"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(str(PYTHON))} -m headrace "$@"\n')
    script.chmod(0o755)


def run(*arguments: str, env: dict[str, str] | None = None) -> int:
    """A module of the project in .venv, its output before the user's eyes."""
    return subprocess.run(
        [str(PYTHON), *arguments], cwd=ROOT, env=env or dict(os.environ), stdin=subprocess.DEVNULL
    ).returncode
