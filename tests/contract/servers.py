"""The configurations of the recorded servers, by letter; and how to bring a real TensorFlow Serving
up with one:

    python -m tests.contract.servers FOLDER

exports the models into FOLDER, writes a model config for each letter there, and prints the flags to
start with.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.live import Caller

LETTERS = ("A", "B", "C", "C1", "D")
TARGET = "HEADRACE_CONTRACT_TARGET"  # host:rest:grpc, or A=host:rest:grpc,B=...

_MONITORING = Path(__file__).with_name("monitoring.config")
_EXPORTER = Path(__file__).parents[1] / "models" / "export.py"
_ENTRY = """config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" {more} }}\n"""
_LABEL = "version_labels {{ key: '{}' value: {} }}"
_BOTH = "model_version_policy { all {} }"
TWO = "half_plus_two_2_versions"


def configuration(letter: str, models: Path) -> tuple[Mapping[str, str], Mapping[str, object]]:
    """Model name -> its entry of the model config, and flags."""

    def entry(name: str, folder: str = "", more: str = "") -> dict[str, str]:
        return {name: _ENTRY.format(name=name, path=models / (folder or name), more=more)}

    stable, canary = _LABEL.format("stable", 123), _LABEL.format("canary", 124)
    match letter:
        case "A":
            names = sorted(p.name for p in models.iterdir() if p.is_dir() and p.name != TWO)
            return {name: text for n in names for name, text in entry(n).items()}, {}
        case "B":
            return entry("half_plus_two", TWO, _BOTH), {}
        case "C":
            return entry("half_plus_two", TWO, f"{_BOTH} {stable} {canary}"), {}
        case "C1":
            return entry("half_plus_two", more=stable), {}
        case "D":
            names = ("half_plus_two", "asserts", "bytes_out")
            flags = {"rest_api_enable_cors_support": True, "monitoring_config_file": _MONITORING}
            return {name: text for n in names for name, text in entry(n).items()}, flags
        case "health":
            return entry("half_plus_two"), {"enable_grpc_healthcheck_service": True}
        case "reload":
            return entry("half_plus_two"), {}
        case "relabel":
            flags = {"allow_version_labels_for_unavailable_models": True}
            return entry("half_plus_two", TWO, f"{_BOTH} {stable}") | entry(
                "half_plus_three"
            ), flags
    raise AssertionError(letter)


def config_text(entries: Mapping[str, str]) -> str:
    return "model_config_list {\n" + "".join(entries.values()) + "}\n"


def targets() -> dict[str, Caller]:
    """The servers that the environment names; none means: start ours."""
    found = {}
    for part in filter(None, os.environ.get(TARGET, "").split(",")):
        letter, _, address = part.rpartition("=")
        host, rest, grpc = address.rsplit(":", 2)
        found[letter or "A"] = Caller(host, int(rest), int(grpc))
    return found


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, str(_EXPORTER), str(folder)], check=True)
    for letter in LETTERS:
        entries, flags = configuration(letter, folder)
        file = folder / f"{letter}.config"
        file.write_text(config_text(entries))
        given = "".join(f" --{name}={str(value).lower()}" for name, value in flags.items())
        print(f"{letter}: --model_config_file={file} --file_system_poll_wait_seconds=0{given}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
