"""What `make up` looks at before it touches anything: the settings of every part, and whether the
ports can be had.

A stack that runs goes on untouched when something here is wrong.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from deploy.terminal import Stop
from gateway.settings import Settings as GatewaySettings
from headrace import variables
from headrace.protocol.errors import HeadraceError
from trainer import settings as trainer_settings

UNTOUCHED = "Nothing was changed."
_TAKEN = "it is taken"
_WILDCARDS = ("", "0.0.0.0", "::")
# Host and port.
Endpoint = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Door:
    """A port that is to be opened, and the variable that chooses it."""

    variable: str
    host: str
    port: int


def check_settings(environ: Mapping[str, str], gateway: Mapping[str, str]) -> None:
    """Stop over what a program would end over; ``gateway`` is the environment that the gateway will
    have."""
    if wrong := variables.unknown(environ):
        raise Stop(f"{wrong}\n{UNTOUCHED}")
    try:
        GatewaySettings.from_env(gateway)
        trainer_settings.from_environment(environ)
    except HeadraceError as error:
        raise Stop(f"{error.message}\n{UNTOUCHED}") from error


def check_ports(
    doors: Iterable[Door], *, own: Collection[Endpoint], low_ports: bool = False
) -> None:
    """Stop at the first that cannot be listened on; what ``own`` programs hold now is free for
    them.

    With ``low_ports`` somebody else opens them, who may open those below 1024.
    """
    doors = list(doors)
    taken = {door.port for door in doors}
    for door in doors:
        if reason := _why_not(door.host, door.port, own=own, low_ports=low_ports):
            free = _free_port_after(door.host, door.port, taken=taken)
            if not free:
                raise Stop(
                    f"HEADRACE_BIND_ADDRESS={door.host} cannot be listened on: "
                    f"{reason}.\n{UNTOUCHED}"
                )
            end = "End what uses it, or choose another" if reason == _TAKEN else "Choose another"
            raise Stop(
                f"Port {door.port} on {door.host} cannot be had: {reason}. "
                f"{end}: make up {door.variable}={free}\n{UNTOUCHED}"
            )


def _why_not(
    host: str, port: int, *, own: Collection[Endpoint] = (), low_ports: bool = False
) -> str:
    """Why the port cannot be listened on; empty when it can."""
    if (host, port) in own:
        return ""
    held = [address for address, number in own if number == port]
    if any(address in _WILDCARDS for address in (*held, host)) and held:
        # It is ours, on an address that overlaps: whether this machine has the new one remains to
        # be seen.
        port = 0
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            # As servers do: a port whose last connections are only lingering is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
    except OSError as error:
        if low_ports and isinstance(error, PermissionError):
            return ""
        return _TAKEN if error.errno in (48, 98) else str(error.strerror or error)
    return ""


def _free_port_after(host: str, port: int, *, taken: Collection[int]) -> int | None:
    """None where no port is free: the address is wrong."""
    numbers = range(port + 1, min(port + 2000, 65536))
    return next((n for n in numbers if n not in taken and not _why_not(host, n)), None)
