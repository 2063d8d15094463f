"""What `docker compose` runs with: the caller's environment, .env, and facts of this machine."""

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

# The user and group of the containers when root starts them.
ROOTS_ID = 10001
# Variable, pattern, and what is expected.
_SERVING_FLAGS = (
    ("HEADRACE_CONFIG_POLL_S", r"-?\d+", "a whole number of seconds"),
    ("HEADRACE_VERSION_POLL_S", r"-?\d+", "a whole number of seconds"),
    (
        "HEADRACE_GPU_MEMORY_FRACTION",
        r"\d+(\.\d*)?|\.\d+",
        "a share like 0.5, or 0 for as it needs",
    ),
)
_DOTENV_LINE = re.compile(
    r"^[ \t]*(?:export[ \t]+)?(\w+)[ \t]*=[ \t]*(.*?)[ \t]*$", flags=re.MULTILINE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeSettings:
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
        """The user's name for it, or that of docker-compose.yml."""
        return self.environment.get("COMPOSE_PROJECT_NAME") or "headrace"

    @property
    def folder(self) -> Path:
        """What this runtime keeps between commands."""
        return self.run / "compose"

    @property
    def serving_file(self) -> Path:
        """Holds gpu, cpu or embedded while the stack is up in containers."""
        return self.folder / "serving"


def from_environment(
    environ: Mapping[str, str], *, dotenv: Path = ROOT / ".env"
) -> ComposeSettings:
    environ = {**read_dotenv(dotenv), **environ}
    is_root = os.getuid() == 0
    uid = _number(environ, "HEADRACE_UID", ROOTS_ID if is_root else os.getuid())
    gid = _number(environ, "HEADRACE_GID", ROOTS_ID if is_root else os.getgid())
    return ComposeSettings(
        uid=uid,
        gid=gid,
        store=ROOT / (environ.get("HEADRACE_STORE") or "models"),
        config=ROOT / (environ.get("HEADRACE_CONFIG_DIR") or ".") / "multimodel.config",
        run=ROOT / (environ.get("HEADRACE_RUN") or ".run"),
        start_timeout_s=float(_number(environ, "HEADRACE_START_TIMEOUT_S", 600)),
        environment={
            **environ,
            "HEADRACE_UID": str(uid),
            "HEADRACE_GID": str(gid),
            **_image_labels(),
        },
    )


def check_serving(environ: Mapping[str, str]) -> None:
    """Raise Stop over a value with which serving would not start; compose passes these as flags."""
    for name, pattern, expected in _SERVING_FLAGS:
        text = environ.get(name)
        if text and not re.fullmatch(pattern, text):
            raise Stop(f"{name}={text}: expected {expected}\n{UNTOUCHED}")


def with_pip(settings: ComposeSettings) -> dict[str, str]:
    """The environment with pip's configuration and CA, in files that the images' user can read."""
    environ = dict(settings.environment)
    if environ.get("HEADRACE_PIP_CONF"):
        return environ
    pip = pipconf.gather(environ)
    settings.folder.mkdir(parents=True, exist_ok=True)
    path = settings.folder / "pip.conf"
    path.touch(mode=0o600)
    # An index's address may hold a password.
    path.chmod(0o600)
    path.write_text(pip.render())
    if os.getuid() == 0:
        os.chown(path, settings.uid, settings.gid)
    environ["HEADRACE_PIP_CONF"] = str(path)
    if pip.ca and not environ.get("HEADRACE_CA"):
        environ["HEADRACE_CA"] = str(pip.ca)
    return environ


def compose_command(serving: str) -> list[str]:
    command = ["docker", "compose"]
    for name in ("docker-compose.yml", *OVERRIDES[serving]):
        command += ["--file", str(ROOT / name)]
    return command


def read_dotenv(path: Path) -> dict[str, str]:
    """The KEY=VALUE lines of .env, which `docker compose` reads too."""
    try:
        text = path.read_text()
    except OSError:
        return {}
    pairs = _DOTENV_LINE.findall(text)
    return {key: _unquoted(value) for key, value in pairs}


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return re.sub(r"\s+#.*$", "", value)


def _number(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isdigit():
        raise Stop(f"{name}={text}: expected a number.")
    return int(text)


def _image_labels() -> dict[str, str]:
    """The version and the commit, for the labels of the images."""
    source = (ROOT / "headrace/__init__.py").read_text()
    version = re.search(r'__version__\s*(?::\s*\w+\s*)?=\s*"([^"]+)"', source)
    labels = {"HEADRACE_VERSION": version[1] if version else "unknown"}
    try:
        git = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return labels
    if git.returncode == 0:
        labels["HEADRACE_REVISION"] = git.stdout.strip()
    return labels
