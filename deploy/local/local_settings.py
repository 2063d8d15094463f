"""Where the local stack keeps its files and listens. The environment is read in
from_environment() alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.preflight import Door
from deploy.terminal import Stop
from headrace import variables

ROOT = Path(__file__).resolve().parents[2]
# Advice for somebody who may not write the run folder.
OTHER_RUN_FOLDER = (
    "Run make as that user, or as root, or name a folder of your own: HEADRACE_RUN=FOLDER."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """One field a variable: HEADRACE_<FIELD IN CAPITALS>."""

    # The gateway's REST and gRPC ports.
    http_port: int = 8000
    grpc_port: int = 8001
    serving_grpc_port: int = 8500
    serving_rest_port: int = 8501
    # Of the gateway; serving listens on 127.0.0.1 alone.
    bind_address: str = "127.0.0.1"
    store: Path = ROOT / "models"
    config: Path = ROOT / "multimodel.config"
    cache: Path = ROOT / ".cache"
    # For logs and supervisor's files.
    run: Path = ROOT / ".run"
    # How long a started stack may take to be ready.
    start_timeout_s: float = 120.0

    @property
    def ports(self) -> dict[str, int]:
        names = ("http_port", "grpc_port", "serving_grpc_port", "serving_rest_port")
        return {"HEADRACE_" + name.upper(): getattr(self, name) for name in names}

    @property
    def doors(self) -> list[Door]:
        doors = []
        for name, port in self.ports.items():
            # Serving's ports are for this machine alone.
            host = "127.0.0.1" if "SERVING" in name else self.bind_address
            doors.append(Door(name, host, port))
        return doors

    @property
    def reach(self) -> str:
        """The host part under which the gateway is reached from this machine."""
        return "127.0.0.1" if self.bind_address in ("", "0.0.0.0") else self.bind_address

    @property
    def gateway(self) -> str:
        return f"http://{self.reach}:{self.http_port}"

    @property
    def live_config(self) -> Path:
        return self.store / "multimodel.config"

    @property
    def logs(self) -> Path:
        return self.run / "logs"

    def trainer_environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        return {
            **environ,
            "HEADRACE_STORE": str(self.store),
            "HEADRACE_CONFIG": str(self.config),
            "HEADRACE_CACHE": str(self.cache),
        }

    def service_environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment of serving and gateway, without make's own variables."""
        not_theirs = variables.ALL - variables.GATEWAY
        not_theirs |= {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "RUNTIME", "PYTHON"}
        return {
            **{name: value for name, value in environ.items() if name not in not_theirs},
            "HEADRACE_HTTP_PORT": str(self.http_port),
            "HEADRACE_GRPC_PORT": str(self.grpc_port),
            "HEADRACE_BIND_ADDRESS": self.bind_address,
            "HEADRACE_UPSTREAM_REST": f"http://127.0.0.1:{self.serving_rest_port}",
            "HEADRACE_UPSTREAM_GRPC": f"127.0.0.1:{self.serving_grpc_port}",
            "HEADRACE_MODEL_CONFIG_FILE": str(self.live_config),
            "PYTHONUNBUFFERED": "1",
        }


def from_environment(environ: Mapping[str, str]) -> LocalSettings:
    """An empty variable counts as unset."""
    default = LocalSettings()
    settings = LocalSettings(
        http_port=_port(environ, "HTTP_PORT", default.http_port),
        grpc_port=_port(environ, "GRPC_PORT", default.grpc_port),
        serving_grpc_port=_port(environ, "SERVING_GRPC_PORT", default.serving_grpc_port),
        serving_rest_port=_port(environ, "SERVING_REST_PORT", default.serving_rest_port),
        bind_address=environ.get("HEADRACE_BIND_ADDRESS") or default.bind_address,
        store=_path(environ, "STORE", default.store),
        config=_path(environ, "CONFIG", default.config),
        cache=_path(environ, "CACHE", default.cache),
        run=_path(environ, "RUN", default.run),
        start_timeout_s=_number(environ, "START_TIMEOUT_S", default.start_timeout_s, maximum=86400),
    )
    by_port: dict[int, str] = {}
    for name, port in settings.ports.items():
        if port in by_port:
            raise Stop(
                f"{by_port[port]} and {name} are both {port}: give one of them another port."
            )
        by_port[port] = name
    return settings


def _number(environ: Mapping[str, str], name: str, default: float, *, maximum: float) -> float:
    text = environ.get("HEADRACE_" + name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 1 <= value <= maximum:
        raise Stop(f"HEADRACE_{name}={text}: expected a number from 1 to {maximum:g}.")
    return value


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    return int(_number(environ, name, default, maximum=65535))


def _path(environ: Mapping[str, str], name: str, default: Path) -> Path:
    return ROOT / (environ.get("HEADRACE_" + name) or default)
