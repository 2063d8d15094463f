"""What `docker compose` is run with: the caller's environment, .env, and what only this machine can
know."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.compose import pipconf
from deploy.compose.choice import OVERRIDES, ROOT
from deploy.preflight import UNTOUCHED
from deploy.terminal import Stop

# What containers run as when root calls.
ROOTS_ID = 10001
_SERVING_FLAGS = (
    ("HEADRACE_CONFIG_POLL_S", r"-?\d+", "a whole number of seconds"),
    ("HEADRACE_VERSION_POLL_S", r"-?\d+", "a whole number of seconds"),
    (
        "HEADRACE_GPU_MEMORY_FRACTION",
        r"\d+(\.\d*)?|\.\d+",
        "a share like 0.5, or 0 for as it needs",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    uid: int
    gid: int
    store: Path
    config: Path
    run: Path
    start_timeout_s: float
    # For docker compose.
    environment: Mapping[str, str]

    @property
    def project(self) -> str:
        """The name that docker-compose.yml gives it, or the user."""
        return self.environment.get("COMPOSE_PROJECT_NAME") or "headrace"

    @property
    def folder(self) -> Path:
        """What this runtime remembers between verbs."""
        return self.run / "compose"

    @property
    def chosen(self) -> Path:
        """Holds gpu, cpu or embedded while the stack is up in containers."""
        return self.folder / "serving"


def from_environment(environ: Mapping[str, str], *, dotenv: Path = ROOT / ".env") -> Settings:
    environ = {**read_dotenv(dotenv), **environ}
    caller = (os.getuid(), os.getgid()) if os.getuid() else (ROOTS_ID, ROOTS_ID)
    uid, gid = (
        _number(environ, name, preset)
        for name, preset in zip(("HEADRACE_UID", "HEADRACE_GID"), caller, strict=True)
    )
    run = ROOT / (environ.get("HEADRACE_RUN") or ".run")
    return Settings(
        uid=uid,
        gid=gid,
        store=ROOT / (environ.get("HEADRACE_STORE") or "models"),
        config=ROOT / (environ.get("HEADRACE_CONFIG_DIR") or ".") / "multimodel.config",
        run=run,
        start_timeout_s=float(_number(environ, "HEADRACE_START_TIMEOUT_S", 600)),
        environment={
            **environ,
            "HEADRACE_UID": str(uid),
            "HEADRACE_GID": str(gid),
            **_build_facts(),
        },
    )


def check_serving(environ: Mapping[str, str]) -> None:
    """Stop over a value that serving would end over; docker-compose.yml hands these on as flags."""
    for name, pattern, wanted in _SERVING_FLAGS:
        text = environ.get(name)
        if text and not re.fullmatch(pattern, text):
            raise Stop(f"{name}={text}: expected {wanted}\n{UNTOUCHED}")


def with_pip(settings: Settings) -> dict[str, str]:
    """The environment with pip's configuration and CA in it, written where the images' user can
    read them."""
    environ = dict(settings.environment)
    if environ.get("HEADRACE_PIP_CONF"):
        return environ
    found = pipconf.gather(environ)
    settings.folder.mkdir(parents=True, exist_ok=True)
    path = settings.folder / "pip.conf"
    path.touch(mode=0o600)
    # An index's address may hold a password.
    path.chmod(0o600)
    path.write_text(found.render())
    if os.getuid() == 0:
        os.chown(path, settings.uid, settings.gid)
    environ["HEADRACE_PIP_CONF"] = str(path)
    if found.ca and not environ.get("HEADRACE_CA"):
        environ["HEADRACE_CA"] = str(found.ca)
    return environ


def compose_command(serving: str) -> list[str]:
    files = [ROOT / "docker-compose.yml", *(ROOT / name for name in OVERRIDES[serving])]
    return ["docker", "compose", *(word for file in files for word in ("--file", str(file)))]


def read_dotenv(path: Path) -> dict[str, str]:
    """KEY=VALUE lines, as `docker compose` reads them from .env; ours must not override what stands
    there."""
    try:
        text = path.read_text()
    except OSError:
        return {}
    found = re.findall(
        r"^[ \t]*(?:export[ \t]+)?(\w+)[ \t]*=[ \t]*(.*?)[ \t]*$", text, flags=re.MULTILINE
    )
    return {key: _unquoted(value) for key, value in found}


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return re.sub(r"\s+#.*$", "", value)


def _number(environ: Mapping[str, str], name: str, preset: int) -> int:
    text = environ.get(name) or str(preset)
    if not text.isdigit():
        raise Stop(f"{name}={text}: expected a number.")
    return int(text)


def _build_facts() -> dict[str, str]:
    """For the images' labels."""
    found = re.search(
        r'__version__\s*(?::\s*\w+\s*)?=\s*"([^"]+)"', (ROOT / "headrace/__init__.py").read_text()
    )
    facts = {"HEADRACE_VERSION": found[1] if found else "unknown"}
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return facts
    return facts | ({"HEADRACE_REVISION": done.stdout.strip()} if done.returncode == 0 else {})
