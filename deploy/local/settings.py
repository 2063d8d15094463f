"""Where the stack lies and listens. Values only; the environment is read when from_environment() is
called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.preflight import Door
from deploy.terminal import Stop
from headrace import variables

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One field a variable: HEADRACE_<FIELD IN CAPITALS>."""

    # The gateway's REST door.
    http_port: int = 8000
    # The gateway's gRPC door.
    grpc_port: int = 8001
    serving_grpc_port: int = 8500
    serving_rest_port: int = 8501
    # The gateway's; serving listens on 127.0.0.1 alone.
    bind_address: str = "127.0.0.1"
    store: Path = ROOT / "models"
    config: Path = ROOT / "multimodel.config"
    cache: Path = ROOT / ".cache"
    # Logs, supervisor's files.
    run: Path = ROOT / ".run"
    # From started to ready.
    start_timeout_s: float = 120.0

    @property
    def ports(self) -> dict[str, int]:
        names = ("http_port", "grpc_port", "serving_grpc_port", "serving_rest_port")
        return {"HEADRACE_" + name.upper(): getattr(self, name) for name in names}

    @property
    def doors(self) -> list[Door]:
        """Serving's are for this machine alone."""
        hosts = {
            name: "127.0.0.1" if "SERVING" in name else self.bind_address for name in self.ports
        }
        return [Door(name, hosts[name], port) for name, port in self.ports.items()]

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
        """What serving and gateway are started with, without make's own variables."""
        others = variables.ALL - variables.GATEWAY
        dropped = others | {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "RUNTIME", "PYTHON"}
        return {
            **{name: value for name, value in environ.items() if name not in dropped},
            "HEADRACE_HTTP_PORT": str(self.http_port),
            "HEADRACE_GRPC_PORT": str(self.grpc_port),
            "HEADRACE_BIND_ADDRESS": self.bind_address,
            "HEADRACE_UPSTREAM_REST": f"http://127.0.0.1:{self.serving_rest_port}",
            "HEADRACE_UPSTREAM_GRPC": f"127.0.0.1:{self.serving_grpc_port}",
            "HEADRACE_MODEL_CONFIG_FILE": str(self.live_config),
            "PYTHONUNBUFFERED": "1",
        }


def from_environment(environ: Mapping[str, str]) -> Settings:
    """An empty variable counts as unset."""
    default = Settings()

    def number(name: str, preset: float, *, most: float) -> float:
        text = environ.get("HEADRACE_" + name)
        if not text:
            return preset
        try:
            value = float(text)
        except ValueError:
            value = -1
        if not 1 <= value <= most:
            raise Stop(f"HEADRACE_{name}={text}: expected a number from 1 to {most:g}.")
        return value

    def port(name: str, preset: int) -> int:
        return int(number(name, preset, most=65535))

    def path(name: str, preset: Path) -> Path:
        return ROOT / (environ.get("HEADRACE_" + name) or preset)

    settings = Settings(
        http_port=port("HTTP_PORT", default.http_port),
        grpc_port=port("GRPC_PORT", default.grpc_port),
        serving_grpc_port=port("SERVING_GRPC_PORT", default.serving_grpc_port),
        serving_rest_port=port("SERVING_REST_PORT", default.serving_rest_port),
        bind_address=environ.get("HEADRACE_BIND_ADDRESS") or default.bind_address,
        store=path("STORE", default.store),
        config=path("CONFIG", default.config),
        cache=path("CACHE", default.cache),
        run=path("RUN", default.run),
        start_timeout_s=number("START_TIMEOUT_S", default.start_timeout_s, most=86400),
    )
    seen: dict[int, str] = {}
    for name, value in settings.ports.items():
        if value in seen:
            raise Stop(f"{seen[value]} and {name} are both {value}: give one of them another port.")
        seen[value] = name
    return settings
