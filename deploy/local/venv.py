"""The virtual environments: one for each Python in .venvs/, and .venv, a link to the last used.

Each is made once, filled with a pinned set of requirements/, and left alone while nothing changes.
A stamp inside says what it was filled with. It is written last, so that an interrupted installation
is resumed.
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

from deploy.file_lock import exclusive
from deploy.local.local_settings import ROOT
from deploy.terminal import Step, Stop

# The Python that runs this: inside an environment, the one it was made with.
_BASE = str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
_BASE_HASH = hashlib.sha256(_BASE.encode()).hexdigest()[:8]
_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
LINK = ROOT / ".venv"
VENV = ROOT / ".venvs" / f"{_VERSION}-{_BASE_HASH}"
# The environment's own path, not the link: running programs go on when the link moves.
PYTHON = VENV / "bin" / "python"
_STAMP = VENV / "headrace.json"
_LOG = ROOT / ".cache" / "install.log"
# Nothing is resolved (--no-deps) and nothing built: the set is installed to the byte, without a
# compiler.
_INSTALL = (
    "--no-deps",
    "--require-hashes",
    "--only-binary=:all:",
    "--no-compile",
    "--no-input",
    "--disable-pip-version-check",
)
_UNREACHABLE = re.compile(
    r"onnection (?:error|broken|refused|reset)|new connection|Max retries|timed out"
    r"|name resolution|ProxyError|SSLError"
)
_PACKAGE = re.compile(r"^\s*(?:Collecting|Requirement already satisfied:)\s+([\w.-]+)")


def ensure(name: str) -> bool:
    """Install the set ``name`` of requirements/ and the project's commands into .venv.

    False if that was done before.
    """
    if _is_current(name) and _is_linked():
        return False
    with exclusive(ROOT / ".cache" / "venv.lock"):
        # Somebody else may have filled it while we waited for the lock.
        was_current = _is_current(name)
        if not was_current:
            _fill(name)
        if not _is_linked():
            _link()
    return not was_current


def identity() -> str | None:
    """Changes with every installation into .venv; None before the first."""
    if not _STAMP.exists():
        return None
    return hashlib.sha256(_STAMP.read_bytes()).hexdigest()


def _fill(name: str) -> None:
    if not _same_interpreter():
        _create()
    _install(name)
    _link_project()
    digests = dict(_stamp().get("sets", {}))
    digests[name] = _digest(name)
    if name == "dev":
        # The set of development contains that of the stack.
        digests["local"] = _digest("local")
    _write_stamp({**_interpreter(), "sets": digests})


def _is_current(name: str) -> bool:
    digests = _stamp().get("sets", {})
    return _same_interpreter() and digests.get(name) == _digest(name)


def _interpreter() -> dict[str, Any]:
    # With the root, because the scripts of a copied environment point to where it came from.
    return {
        "python": sys.version,
        "base": _BASE,
        "root": str(ROOT),
    }


def _same_interpreter() -> bool:
    if not PYTHON.exists():
        return False
    stamp = _stamp()
    for key, value in _interpreter().items():
        if stamp.get(key) != value:
            return False
    return True


def _stamp() -> dict[str, Any]:
    try:
        stamp = json.loads(_STAMP.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(stamp, dict):
        return {}
    return stamp


def _write_stamp(stamp: dict[str, Any]) -> None:
    temporary = _STAMP.with_suffix(".new")
    temporary.write_text(json.dumps(stamp, indent=1) + "\n")
    temporary.replace(_STAMP)


def _digest(name: str) -> str:
    return hashlib.sha256(_set(name).read_bytes()).hexdigest()


def _set(name: str) -> Path:
    return ROOT / "requirements" / f"{name}.txt"


def _is_linked() -> bool:
    return LINK.is_symlink() and LINK.resolve() == VENV


def _link() -> None:
    if LINK.is_dir() and not LINK.is_symlink():
        # Earlier releases made the environment itself there.
        shutil.rmtree(LINK)
    temporary = LINK.with_name(".venv.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(VENV.relative_to(ROOT))
    temporary.replace(LINK)


def _create() -> None:
    version = sys.version.split()[0]
    with Step(f"Making .venv with {_BASE}", f"Made .venv with Python {version}"):
        process = subprocess.run(
            [_BASE, "-m", "venv", "--clear", VENV],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if process.returncode:
            shutil.rmtree(VENV, ignore_errors=True)
            raise Stop(
                f"{_BASE} could not make a virtual environment:\n{process.stdout.strip()}\n"
                f"On Debian and Ubuntu: apt install python{_VERSION}-venv. "
                "Else name another Python with PYTHON=/path/to/python3."
            )
        _write_stamp({**_interpreter(), "sets": {}})


def _install(name: str) -> None:
    requirements = _set(name)
    pins = re.findall(r"^[\w.-]+==", requirements.read_text(), re.MULTILINE)
    total = len(pins)
    command = [
        str(PYTHON),
        "-m",
        "pip",
        "install",
        *_INSTALL,
        "-r",
        str(requirements),
    ]
    with Step(f"Installing the pinned packages of requirements/{name}.txt") as step:
        output = [shlex.join(command) + "\n"]
        count = 0
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
                package = _PACKAGE.match(line)
                if package:
                    count += 1
                    step.detail(f"{count} of {total}: {package[1]}")
                elif line.startswith("Installing collected packages"):
                    step.detail("unpacking")
        _LOG.write_text("".join(output))
        if pip.returncode:
            raise Stop(_failure(output))
        step.finish(f"Installed the pinned packages of requirements/{name}.txt, {count}")


def _failure(output: list[str]) -> str:
    errors = []
    for line in output:
        if line.startswith("ERROR:"):
            error = line.removeprefix("ERROR:").strip()
            errors.append(f"  {error}")
    reasons = "\n".join(errors[-3:]) or "  pip gave no reason"
    text = "".join(output)
    if _UNREACHABLE.search(text):
        advice = (
            "The package index could not be reached. Check the network. Set HTTPS_PROXY behind a "
            "proxy,\nPIP_INDEX_URL for an index of your own, or, without any network, "
            "PIP_NO_INDEX=1 and PIP_FIND_LINKS=/folder/of/wheels."
        )
    elif "No space left" in text:
        advice = f"The disk is full: .venv needs about 2 GB under {ROOT}."
    elif "HASHES" in text:
        advice = (
            "A package differs from the one pinned in requirements/: "
            "do not go on before you know why."
        )
    else:
        advice = "See the whole output."
    again = f"Whole output: {_LOG}. Then run make again: it goes on where it stopped."
    return f"pip could not install the packages:\n{reasons}\n{advice}\n{again}"


def _link_project() -> None:
    """Makes `import headrace` and the command headrace work in .venv, without building a wheel."""
    site_packages = VENV / "lib" / f"python{_VERSION}" / "site-packages"
    tree = site_packages / "headrace-tree.pth"
    tree.write_text(f"{ROOT}\n")

    python = shlex.quote(str(PYTHON))
    script = VENV / "bin" / "headrace"
    script.write_text(f'#!/bin/sh\nexec {python} -m headrace "$@"\n')
    script.chmod(0o755)


def run(*arguments: str, env: dict[str, str] | None = None) -> int:
    """Run .venv's Python in the project; its output goes to the terminal. Returns the exit code."""
    process = subprocess.run(
        [str(PYTHON), *arguments],
        cwd=ROOT,
        env=env or dict(os.environ),
        stdin=subprocess.DEVNULL,
    )
    return process.returncode
