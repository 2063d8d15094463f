"""What `make up` checks before it touches anything: the settings of every part, and the ports.

A running stack is left alone when something here is wrong.
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
# EADDRINUSE of macOS and of Linux.
_ADDRESS_IN_USE = (48, 98)
# Host and port.
Endpoint = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Door:
    """A port that will be opened, and the variable that chooses it."""

    variable: str
    host: str
    port: int


def check_settings(environ: Mapping[str, str], gateway: Mapping[str, str]) -> None:
    """Raise Stop over settings with which a program would not start.

    ``gateway`` is the environment that the gateway will have.
    """
    fault = variables.unknown(environ)
    if fault:
        raise Stop(f"{fault}\n{UNTOUCHED}")
    try:
        GatewaySettings.from_env(gateway)
        trainer_settings.from_environment(environ)
    except HeadraceError as error:
        raise Stop(f"{error.message}\n{UNTOUCHED}") from error


def check_ports(
    doors: Iterable[Door], *, own: Collection[Endpoint], low_ports: bool = False
) -> None:
    """Raise Stop at the first port that cannot be opened.

    What ``own`` programs hold now counts as free. With ``low_ports`` another user opens the ports,
    who may open those below 1024.
    """
    doors = list(doors)
    chosen = {door.port for door in doors}
    for door in doors:
        fault = _fault(door.host, door.port, own=own, low_ports=low_ports)
        if fault is None:
            continue
        free = _free_port_after(door.host, door.port, chosen=chosen)
        if free is None:
            raise Stop(
                f"HEADRACE_BIND_ADDRESS={door.host} cannot be listened on: {fault}.\n{UNTOUCHED}"
            )
        advice = "Choose another"
        if fault == _TAKEN:
            advice = "End what uses it, or choose another"
        raise Stop(
            f"Port {door.port} on {door.host} cannot be had: {fault}. "
            f"{advice}: make up {door.variable}={free}\n{UNTOUCHED}"
        )


def _fault(
    host: str, port: int, *, own: Collection[Endpoint] = (), low_ports: bool = False
) -> str | None:
    """Why the port cannot be listened on."""
    if (host, port) in own:
        return None
    held = [address for address, number in own if number == port]
    if held and any(address in _WILDCARDS for address in (*held, host)):
        # The port is ours, on an address that overlaps. Any port will show whether this machine has
        # the new address.
        port = 0
    try:
        with socket.socket(_address_family(host)) as probe:
            # As servers do it: a port whose last connections only linger is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
    except OSError as error:
        if low_ports and isinstance(error, PermissionError):
            return None
        if error.errno in _ADDRESS_IN_USE:
            return _TAKEN
        return str(error.strerror or error)
    return None


def _address_family(host: str) -> socket.AddressFamily:
    if ":" in host:
        return socket.AF_INET6
    return socket.AF_INET


def _free_port_after(host: str, port: int, *, chosen: Collection[int]) -> int | None:
    """None when no port is free, since then the address is wrong."""
    for number in range(port + 1, min(port + 2000, 65536)):
        if number not in chosen and _fault(host, number) is None:
            return number
    return None
