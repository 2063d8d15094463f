"""What the containers are allowed: not root, nothing written, no way out, one door. Asked of them,
not of the files."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from docker.models.containers import Container

from tests.system.project import SERVICES, Compose

CONNECT = (
    "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), "
    "timeout=4); print('connected')"
)


def run_in(container: Container, *words: str) -> tuple[int, str]:
    code, out = container.exec_run(list(words))
    return code, out.decode()


@pytest.mark.parametrize("service", ["serving", "gateway"])
def test_no_process_is_roots(stack: Compose, service: str) -> None:
    top = stack.container(service).top()
    users = {row[top["Titles"].index("UID")] for row in top["Processes"]}
    settings = stack.stack().settings
    assert settings.uid != 0
    code, out = run_in(stack.container(service), "id", "-u")
    assert (code, out.strip()) == (0, str(settings.uid))
    assert "root" not in users and "0" not in users


@pytest.mark.parametrize("service", SERVICES)
def test_engine_holds_the_locks(stack: Compose, service: str) -> None:
    attrs = stack.container(service).attrs
    host = attrs["HostConfig"]
    assert not attrs["Config"]["User"].startswith("0")
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Init"] is True
    assert host["Privileged"] is False
    assert host["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-size": "10m", "max-file": "3"},
    }


@pytest.mark.parametrize("service", ["serving", "gateway"])
@pytest.mark.parametrize("place", ["/models", "/", "/app", "/opt/venv"])
def test_nothing_can_be_written(stack: Compose, service: str, place: str) -> None:
    code, out = run_in(stack.container(service), "python", "-c", f"open('{place}/probe', 'w')")
    assert code != 0
    assert "Read-only file system" in out
    assert not (stack.store / "probe").exists()


def test_a_store_the_trainer_cannot_write_is_said_in_a_sentence(stack: Compose) -> None:
    model = stack.store / "half_plus_two"
    before = sorted(model.iterdir())
    model.chmod(0o555)
    try:
        done = stack.run(
            "run", "--rm", "--no-deps", "--no-TTY", "trainer", "train", "half_plus_two", check=False
        )
    finally:
        model.chmod(0o755)
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "error: half_plus_two: /models/half_plus_two" in said and "Permission denied" in said
    assert "Traceback" not in said
    assert sorted(model.iterdir()) == before
    assert stack.predicts()


def test_only_the_gateway_listens_on_the_host(stack: Compose) -> None:
    published = {}
    for service in SERVICES:
        container = stack.container(service)
        published[service] = {
            b["HostIp"] for bindings in container.ports.values() for b in bindings or []
        }
    assert published == {"trainer": set(), "serving": set(), "gateway": {"127.0.0.1"}}
    mine = {int(stack.address(port=port).rpartition(":")[2]) for port in (8000, 8001)}
    proxies = listening_by("docker-proxy")
    assert mine <= proxies
    others = stack.client.containers.list()
    theirs = {
        int(b["HostPort"]) for c in others for bindings in c.ports.values() for b in bindings or []
    }
    assert proxies <= theirs | mine


def test_nobody_but_the_trainer_gets_out(stack: Compose) -> None:
    host, port = outside(stack)
    for service in ("serving", "gateway"):
        code, out = run_in(stack.container(service), "python", "-c", CONNECT, host, str(port))
        assert code != 0, f"{service} reached {host}"
        assert "connected" not in out
    # The same from where it is allowed shows that the question is a good one.
    reached = stack.run(
        "run",
        "--rm",
        "--no-deps",
        "--no-TTY",
        "--entrypoint",
        "python",
        "trainer",
        "-c",
        CONNECT,
        host,
        str(port),
    )
    assert "connected" in reached.stdout


def test_the_trainer_cannot_reach_the_servers(stack: Compose) -> None:
    words = [
        "run",
        "--rm",
        "--no-deps",
        "--no-TTY",
        "--entrypoint",
        "python",
        "trainer",
        "-c",
        CONNECT,
        "serving",
        "8501",
    ]
    assert stack.run(*words, check=False).returncode != 0


def test_the_gateway_reaches_serving_and_nothing_reaches_serving_from_the_host(
    stack: Compose,
) -> None:
    code, out = run_in(stack.container("gateway"), "python", "-c", CONNECT, "serving", "8501")
    assert (code, out.strip()) == (0, "connected")
    assert not stack.container("serving").attrs["HostConfig"]["PortBindings"]


def outside(stack: Compose) -> tuple[str, int]:
    """An address past this machine, as the trainer finds it: the index that pip asks."""
    code = (
        "import socket, subprocess, sys, urllib.parse as u\n"
        "from pip._internal.models.index import PyPI\n"
        "ask = [sys.executable, '-m', 'pip', 'config', 'get', 'global.index-url']\n"
        "url = subprocess.run(ask, capture_output=True, text=True)\n"
        "parts = u.urlsplit(url.stdout.strip() or PyPI.url)\n"
        "print(socket.gethostbyname(parts.hostname), parts.port or 443)"
    )
    done = stack.run(
        "run", "--rm", "--no-deps", "--no-TTY", "--entrypoint", "python", "trainer", "-c", code
    )
    host, port = done.stdout.split()[-2:]
    ipaddress.ip_address(host)
    return host, int(port)


def listening_by(program: str) -> set[int]:
    """The ports a program of this machine listens on, from /proc."""
    inodes: set[str] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "comm").read_text().strip() != program[:15]:
                continue
            inodes |= {str(link.readlink()) for link in (folder / "fd").iterdir()}
        except OSError:
            continue  # gone meanwhile, or not ours to look at
    ports = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                ports.add(int(words[1].rpartition(":")[2], 16))
    return ports
