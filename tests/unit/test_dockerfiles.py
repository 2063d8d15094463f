"""The Dockerfiles keep their promises: any base with Python, hashed requirements, not root, nothing
of this machine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "gateway": ROOT / "gateway/Dockerfile",
    "trainer": ROOT / "trainer/Dockerfile",
    "server": ROOT / "headrace/server/Dockerfile",
}


def instructions(path: Path) -> list[tuple[str, str]]:
    text = "\n".join(
        line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")
    )
    joined = re.sub(r"\\\n\s*", " ", text)
    return [
        (word.upper(), rest.strip())
        for word, _, rest in (line.partition(" ") for line in joined.splitlines())
        if word
    ]


def final_stage(path: Path) -> list[tuple[str, str]]:
    found = instructions(path)
    return found[max(i for i, (word, _) in enumerate(found) if word == "FROM") :]


def values(found: list[tuple[str, str]], word: str) -> list[str]:
    return [rest for name, rest in found if name == word]


@pytest.fixture(params=list(FILES))
def dockerfile(request: pytest.FixtureRequest) -> Path:
    return FILES[request.param]


def test_every_stage_stands_on_the_base_that_can_be_chosen(dockerfile: Path) -> None:
    found = instructions(dockerfile)
    assert found[0] == ("ARG", "BASE=python:3.11-slim")
    assert values(found, "FROM") == ["${BASE} AS venv", "${BASE} AS code", "${BASE}"]


def test_no_frontend_is_fetched_and_nothing_is_pinned_by_digest(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    assert "syntax=" not in text
    assert "@sha256" not in text


def test_requirements_are_hashed_and_bring_nothing_of_their_own(dockerfile: Path) -> None:
    (install,) = [rest for rest in values(instructions(dockerfile), "RUN") if "pip install" in rest]
    for option in ("--require-hashes", "--no-deps", "--no-cache-dir", "-r /build/requirements.txt"):
        assert option in install
    assert "python3 -m venv /opt/venv" in install
    copied = values(instructions(dockerfile), "COPY")[0].split()[0]
    assert (ROOT / copied).is_file(), f"{copied} is not there"


def test_pip_is_set_up_by_build_secrets_that_may_be_missing(dockerfile: Path) -> None:
    (install,) = [rest for rest in values(instructions(dockerfile), "RUN") if "pip install" in rest]
    for secret in ("pip_conf", "ca"):
        assert f"--mount=type=secret,id={secret} " in install
    assert "required" not in install
    assert "PIP_CONFIG_FILE=/run/secrets/pip_conf" in install
    assert "[ -s /run/secrets/ca ]" in install
    assert "index-url" not in dockerfile.read_text()
    assert "://" not in dockerfile.read_text().replace("http://127.0.0.1", "")


def test_final_stage_runs_as_a_number_that_is_not_root(dockerfile: Path) -> None:
    assert values(final_stage(dockerfile), "USER") == ["10001:10001"]


def test_final_stage_installs_nothing(dockerfile: Path) -> None:
    assert values(final_stage(dockerfile), "RUN") == []


def test_entry_is_run_without_a_shell_that_would_swallow_signals(dockerfile: Path) -> None:
    (entry,) = values(final_stage(dockerfile), "ENTRYPOINT")
    assert json.loads(entry)[:2] == ["python", "-m"]


def test_health_is_said(dockerfile: Path) -> None:
    (health,) = values(final_stage(dockerfile), "HEALTHCHECK")
    if dockerfile == FILES["trainer"]:
        assert health == "NONE"  # one-shot: the exit code says it
    else:
        json.loads(health[health.index("[") :])  # exec form


def test_labels_are_those_of_the_oci(dockerfile: Path) -> None:
    labels = " ".join(values(final_stage(dockerfile), "LABEL"))
    for name in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{name}=" in labels


def test_no_architecture_is_named() -> None:
    files = [*FILES.values(), ROOT / "docker-compose.yml", *ROOT.glob("compose.*.yml")]
    for file in files:
        assert not re.search(
            r"amd64|x86.64|arm64|aarch64|platform:|--platform", file.read_text()
        ), file


def test_context_holds_what_is_copied_and_little_else(dockerfile: Path) -> None:
    allowed = [
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    for rest in values(instructions(dockerfile), "COPY"):
        if rest.startswith("--from"):
            continue
        source = rest.split()[0]
        assert (ROOT / source).exists(), source
        assert any(source == name or source.startswith(name + "/") for name in allowed), source
    assert set(allowed) == {
        "gateway",
        "headrace",
        "trainer",
        "requirements",
        "deploy/compose/health",
    }


def test_gateway_knows_no_tensorflow() -> None:
    pinned = (ROOT / "requirements/gateway.txt").read_text()
    assert not re.search(r"^tensorflow", pinned, flags=re.MULTILINE)
    assert "trainer" not in FILES["gateway"].read_text()
