"""Which runtime and which server `make up` takes, and the sentences it refuses with."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.compose import compose_settings, pipconf
from deploy.compose import engine as docker
from deploy.compose.choice import choose, pinned_tensorflow
from deploy.compose.container_stack import hand_over
from deploy.terminal import Stop

PIN = pinned_tensorflow()
MAJOR, MINOR = (int(n) for n in PIN.split(".")[:2])
CPU = f"tensorflow/serving:{PIN}"


@dataclass
class Engine:
    """An engine that answers; ``here`` are its images, ``registry`` those it can pull."""

    fault: str | None = None
    architecture: str = "x86_64"
    gpu: str | None = None
    here: tuple[str, ...] = ()
    registry: tuple[str, ...] = ()
    pulled: list[str] = field(default_factory=list)

    def has_image(self, image: str) -> bool:
        return image in self.here

    def pull(self, image: str) -> str | None:
        self.pulled.append(image)
        return None if image in self.registry else "no such host"


@pytest.mark.parametrize(
    ("environ", "engine", "runtime", "serving", "word"),
    [
        ({}, Engine(here=(CPU,)), "compose", "cpu", "without a GPU"),
        ({}, Engine(gpu="GPU 0: NVIDIA L4", here=(CPU + "-gpu",)), "compose", "gpu", "NVIDIA L4"),
        ({}, Engine(registry=(CPU,)), "compose", "cpu", "came from the registry"),
        ({}, Engine(), "compose", "embedded", "TF_SERVING_VERSION"),
        ({}, Engine(architecture="aarch64", registry=(CPU,)), "compose", "embedded", "aarch64"),
        ({}, Engine(fault="there is no docker command"), "local", "", "there is no docker command"),
        ({"RUNTIME": "local"}, Engine(here=(CPU,)), "local", "", "RUNTIME=local"),
        ({"RUNTIME": "compose"}, Engine(here=(CPU,)), "compose", "cpu", "here"),
        ({"SERVING": "embedded"}, Engine(here=(CPU,)), "compose", "embedded", "SERVING=embedded"),
        (
            {"SERVING": "cpu"},
            Engine(gpu="GPU 0: NVIDIA L4", here=(CPU,)),
            "compose",
            "cpu",
            "SERVING=cpu",
        ),
        ({"SERVING": "gpu"}, Engine(here=(CPU + "-gpu",)), "compose", "gpu", "SERVING=gpu"),
        (
            {"TF_SERVING_VERSION": "latest"},
            Engine(here=("tensorflow/serving:latest",)),
            "compose",
            "cpu",
            "latest",
        ),
    ],
)
def test_choice(
    environ: dict[str, str], engine: Engine, runtime: str, serving: str, word: str
) -> None:
    found = choose(environ, engine)
    assert (found.runtime, found.serving) == (runtime, serving)
    assert word in found.why
    assert "\n" not in str(found)


@pytest.mark.parametrize(
    ("environ", "engine", "words"),
    [
        (
            {"RUNTIME": "compose"},
            Engine(fault="no Docker engine answers"),
            ["RUNTIME=compose", "no Docker engine answers"],
        ),
        (
            {"SERVING": "gpu"},
            Engine(fault="no Docker engine answers"),
            ["SERVING=gpu", "no Docker engine answers"],
        ),
        ({"SERVING": "gpu"}, Engine(), [CPU + "-gpu", "TF_SERVING_VERSION", "SERVING=embedded"]),
        ({"RUNTIME": "local", "SERVING": "cpu"}, Engine(), ["RUNTIME=local", "SERVING=cpu"]),
        ({"RUNTIME": "podman"}, Engine(), ["RUNTIME=podman", "compose or local"]),
        ({"SERVING": "tpu"}, Engine(), ["SERVING=tpu", "gpu, cpu or embedded"]),
    ],
)
def test_what_cannot_be_had_is_refused(
    environ: dict[str, str], engine: Engine, words: list[str]
) -> None:
    with pytest.raises(Stop) as stopped:
        choose(environ, engine)
    for word in words:
        assert word in str(stopped.value)


@pytest.mark.parametrize(
    "version",
    [f"{MAJOR}.{MINOR - 1}.9", f"{MAJOR - 1}.{MINOR + 5}.0", f"{MAJOR}.{MINOR - 1}.0-rc1"],
)
def test_a_server_older_than_the_trainer_is_refused_before_anything_is_pulled(version: str) -> None:
    engine = Engine()
    with pytest.raises(
        Stop, match=f"TF_SERVING_VERSION={version} is older than the TensorFlow .*{PIN}"
    ):
        choose({"TF_SERVING_VERSION": version}, engine)
    assert engine.pulled == []


@pytest.mark.parametrize(
    "version", [PIN, f"{MAJOR}.{MINOR}.1", f"{MAJOR}.{MINOR + 1}.0", "nightly"]
)
def test_a_server_as_new_as_the_trainer_is_taken(version: str) -> None:
    image = f"tensorflow/serving:{version}"
    engine = Engine(registry=(image,))
    assert choose({"TF_SERVING_VERSION": version}, engine).serving == "cpu"
    assert engine.pulled == [image]


def fake_docker(folder: Path, body: str) -> None:
    path = folder / "docker"
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (
            "echo 'Cannot connect to the Docker daemon.' >&2; exit 1",
            "no Docker engine answers (Cannot connect",
        ),
        (
            'case "$1" in info) echo \'{"ServerErrors": ["down"]}\';; esac',
            "no Docker engine answers (down)",
        ),
        (
            'case "$1" in info) echo \'{"ServerVersion": "26"}\';; *) exit 1;; esac',
            "no compose plugin",
        ),
        (
            'case "$1" in info) echo \'{"ServerVersion": "26"}\';; *) echo v2.20.2;; esac',
            "2.24 or newer",
        ),
        ('case "$1" in info) echo \'{"ServerVersion": "26"}\';; *) echo 2.26.1-4;; esac', None),
    ],
)
def test_engine_says_why_it_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, fault: str | None
) -> None:
    fake_docker(tmp_path, body)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    found = docker.look().fault
    assert found == fault or (fault and fault in (found or ""))


def test_no_docker_command_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert docker.look().fault == "there is no docker command"


@pytest.mark.parametrize(
    ("smi", "gpu"),
    [("echo 'GPU 0: NVIDIA L4 (UUID: GPU-1)'", "GPU 0: NVIDIA L4"), ("exit 9", None)],
)
def test_gpu_counts_when_the_engine_hands_it_out_and_a_card_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smi: str, gpu: str | None
) -> None:
    info = (
        '{"ServerVersion": "26", "Architecture": "x86_64", "Runtimes": {"nvidia": {}, "runc": {}}}'
    )
    fake_docker(tmp_path, f"case \"$1\" in info) echo '{info}';; *) echo 2.30.0;; esac")
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{smi}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert docker.look().gpu == gpu


def test_pip_settings_lose_what_only_this_machine_has(tmp_path: Path) -> None:
    (tmp_path / ".config/pip").mkdir(parents=True)
    (tmp_path / ".config/pip/pip.conf").write_text(
        "[global]\nindex-url = https://index.test/simple\nfind-links = /opt/wheels\n"
    )
    system = tmp_path / "system.conf"
    system.write_text(
        "[global]\nindex-url = https://other.test/\nextra-index-url = file:///opt/x "
        "https://more.test/s\n"
    )
    bundle = tmp_path / "ca.pem"
    bundle.write_text("pem")
    found = pipconf.gather(
        {"PIP_CERT": str(bundle), "PIP_DEFAULT_TIMEOUT": "90"}, home=tmp_path, system=system
    )
    assert found.values == {
        "index-url": "https://index.test/simple",
        "extra-index-url": "https://more.test/s",
        "timeout": "90",
    }
    assert found.ca == bundle


def test_no_pip_settings_make_an_empty_configuration(tmp_path: Path) -> None:
    found = pipconf.gather({}, home=tmp_path, system=tmp_path / "none")
    assert (found.render(), found.ca) == ("[global]\n", None)


def test_ids_are_the_callers_and_never_roots(tmp_path: Path) -> None:
    found = compose_settings.from_environment({}, dotenv=tmp_path / "none")
    wanted = (os.getuid(), os.getgid()) if os.getuid() else (10001, 10001)
    assert (found.uid, found.gid) == wanted
    assert found.environment["HEADRACE_UID"] == str(wanted[0])


def test_dotenv_is_read_as_compose_reads_it_and_the_environment_wins(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text(
        '# ids\nHEADRACE_UID=4321\nexport HEADRACE_GID = "8765"\nHEADRACE_STORE=/srv/store # '
        "there\n"
    )
    found = compose_settings.from_environment({"HEADRACE_GID": "77"}, dotenv=dotenv)
    assert (found.uid, found.gid, found.store) == (4321, 77, Path("/srv/store"))


def test_pip_configuration_is_written_for_the_image_user_alone(tmp_path: Path) -> None:
    found = compose_settings.from_environment(
        {"HEADRACE_RUN": str(tmp_path)}, dotenv=tmp_path / "none"
    )
    path = Path(compose_settings.with_pip(found)["HEADRACE_PIP_CONF"])
    assert path.read_text().startswith("[global]")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_uid == found.uid


def test_a_pip_configuration_of_ones_own_is_left_alone(tmp_path: Path) -> None:
    found = compose_settings.from_environment(
        {"HEADRACE_PIP_CONF": "/mine", "HEADRACE_RUN": str(tmp_path)}, dotenv=tmp_path / "none"
    )
    assert compose_settings.with_pip(found)["HEADRACE_PIP_CONF"] == "/mine"


def test_store_is_handed_over_when_root_calls(tmp_path: Path) -> None:
    store = tmp_path / "models"
    (store / "m/1").mkdir(parents=True)
    (store / "m/1/saved_model.pb").write_bytes(b"x")
    hand_over(store, 10001, 10001)
    owners = {path.stat().st_uid for path in (store, *store.rglob("*"))}
    assert owners == ({10001} if os.getuid() == 0 else {os.getuid()})
