"""This machine's pip configuration and CA for building images, without what is of use only here."""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Settings that are valid in a container too. find-links and file: addresses name folders of this
# machine, and cert is passed on separately.
_PORTABLE = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
_LISTS = ("extra-index-url", "trusted-host")
_ENVIRONMENT = {f"PIP_{key.upper().replace('-', '_')}": key for key in _PORTABLE} | {
    "PIP_DEFAULT_TIMEOUT": "timeout"
}
_CA_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
# A build secret may not be larger.
_MAX_CA_BYTES = 500 * 1024


@dataclass(frozen=True, slots=True)
class PipSettings:
    values: Mapping[str, str]
    ca: Path | None

    def render(self) -> str:
        lines = ["[global]"]
        for key, value in sorted(self.values.items()):
            if key in _LISTS:
                value = "\n    ".join(value.split())
            lines.append(f"{key} = {value}")
        return "\n".join(lines) + "\n"


def gather(
    environ: Mapping[str, str], *, home: Path | None = None, system: Path = Path("/etc/pip.conf")
) -> PipSettings:
    """From pip's own files, and then its variables, which win, as in pip.

    pip itself need not be installed.
    """
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
        settings = _read(file)
        values |= {key: value for key, value in settings.items() if key in _PORTABLE}
        cert = settings.get("cert", cert)
    for name, key in _ENVIRONMENT.items():
        if environ.get(name):
            values[key] = environ[name]
    portable = {}
    for key, value in values.items():
        words = [word for word in value.split() if not word.startswith("file:")]
        if words:
            portable[key] = " ".join(words)
    pip_cert, *others = [environ.get(name, "") for name in _CA_VARIABLES]
    return PipSettings(portable, _first_bundle([pip_cert, cert, *others]))


def _read(file: Path) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(file.read_text())
    except (OSError, UnicodeDecodeError, configparser.Error):
        # pip itself will complain about it.
        return {}
    merged: dict[str, str] = {}
    for section in ("global", "install", "download"):
        if parser.has_section(section):
            merged |= {key.replace("_", "-"): value for key, value in parser.items(section)}
    return merged


def _first_bundle(candidates: list[str]) -> Path | None:
    for name in candidates:
        path = Path(name).expanduser()
        if name and path.is_file() and path.stat().st_size <= _MAX_CA_BYTES:
            return path.resolve()
    return None
