"""The two doors under abuse: an embedded server, and a gateway with that server behind it; defaults
all through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.contract import servers
from tests.live import LiveGateway, LiveServer

MODELS = ("half_plus_two", "ident_float", "ident_string", "mnist_cnn", "slow")
_HASTY_MODELS = ("half_plus_two", "ident_float")
MOST = 24
# A machine under load may let a caller wait before it has sent its first byte, and that is another
# case.
_SECONDS = {"first_byte": 3.0, "head": 0.6, "body": 0.6, "send": 0.6, "idle": 3.0}


@dataclass(frozen=True)
class Doors:
    server: LiveServer
    gateway: LiveGateway
    config: Path

    def __getitem__(self, name: str) -> LiveServer | LiveGateway:
        return {"server": self.server, "gateway": self.gateway}[name]


@pytest.fixture(scope="session")
def doors(contract_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    entries, _ = servers.configuration("A", contract_models)
    folder = tmp_path_factory.mktemp("abuse")
    config = folder / "models.config"
    config.write_text(servers.config_text({name: entries[name] for name in MODELS}))
    with LiveServer.launcher(folder) as launch:
        server = launch(model_config_file=config, file_system_poll_wait_seconds=0)
        server.wait_until_available(*MODELS)
        # half_plus_two as in TensorFlow Serving's guide: its signature is narrower than its graph.
        gateway = LiveGateway(
            folder / "gateway", server, config, {"LENIENT_MODELS": "half_plus_two"}
        )
        yield Doors(server, gateway, config)
        gateway.close()


@pytest.fixture(scope="session")
def hasty(contract_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """Both doors with little patience."""
    entries, _ = servers.configuration("A", contract_models)
    folder = tmp_path_factory.mktemp("hasty")
    config = folder / "models.config"
    config.write_text(servers.config_text({name: entries[name] for name in _HASTY_MODELS}))
    flags: dict[str, object] = {
        f"rest_api_{name}_seconds": seconds for name, seconds in _SECONDS.items()
    }
    flags |= {
        "rest_api_max_connections": MOST + 2,
        "grpc_handshake_seconds": 0.6,
    }  # the gateway has one or two
    settings: dict[str, object] = {
        f"{name.upper()}_S": seconds for name, seconds in _SECONDS.items()
    }
    settings |= {"MAX_CONNECTIONS": MOST, "LENIENT_MODELS": "half_plus_two"}
    with LiveServer.launcher(folder) as launch:
        server = launch(model_config_file=config, file_system_poll_wait_seconds=0, **flags)
        server.wait_until_available(*_HASTY_MODELS)
        gateway = LiveGateway(folder / "gateway", server, config, settings)
        yield Doors(server, gateway, config)
        gateway.close()
