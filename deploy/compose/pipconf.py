"""The building machine's pip configuration and CA, made fit for a container: what only makes sense
here is left out."""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Settings that hold in a container too. find-links and file: addresses name folders of this
# machine; cert goes apart.
_KEPT = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
_LISTS = ("extra-index-url", "trusted-host")
_ENVIRONMENT = {f"PIP_{key.upper().replace('-', '_')}": key for key in _KEPT} | {
    "PIP_DEFAULT_TIMEOUT": "timeout"
}
_CA_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
# A build secret may not be larger.
_MOST_CA_BYTES = 500 * 1024


@dataclass(frozen=True, slots=True)
class PipSettings:
    values: Mapping[str, str]
    ca: Path | None

    def render(self) -> str:
        lines = ["[global]"]
        for key, value in sorted(self.values.items()):
            lines.append(f"{key} = " + "\n    ".join(value.split() if key in _LISTS else [value]))
        return "\n".join(lines) + "\n"


def gather(
    environ: Mapping[str, str], *, home: Path | None = None, system: Path = Path("/etc/pip.conf")
) -> PipSettings:
    """From pip's own files, nearest last, then its variables, as pip ranks them. Works where pip is
    not installed."""
    home = home or Path.home()
    files = [
        system,
        home / ".pip/pip.conf",
        home / "Library/Application Support/pip/pip.conf",
        home / ".config/pip/pip.conf",
    ]
    own = environ.get("PIP_CONFIG_FILE")
    if own == os.devnull:
        files = []
    elif own:
        files.append(Path(own))
    values: dict[str, str] = {}
    cert = ""
    for file in files:
        found = _read(file)
        values |= {key: value for key, value in found.items() if key in _KEPT}
        cert = found.get("cert", cert)
    values |= {key: environ[name] for name, key in _ENVIRONMENT.items() if environ.get(name)}
    kept = {
        key: " ".join(word for word in value.split() if not word.startswith("file:"))
        for key, value in values.items()
    }
    named = [environ.get(name, "") for name in _CA_VARIABLES]
    return PipSettings(
        {key: value for key, value in kept.items() if value}, _bundle([named[0], cert, *named[1:]])
    )


def _read(file: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(file.read_text())
    except (OSError, UnicodeDecodeError, configparser.Error):
        # Pip itself complains about it when it is used; it is not ours to stop for.
        return {}
    merged: dict[str, str] = {}
    for section in ("global", "install", "download"):
        if parser.has_section(section):
            merged |= {key.replace("_", "-"): value for key, value in parser.items(section)}
    return merged


def _bundle(candidates: list[str]) -> Path | None:
    for name in candidates:
        path = Path(name).expanduser()
        if name and path.is_file() and path.stat().st_size <= _MOST_CA_BYTES:
            return path.resolve()
    return None
