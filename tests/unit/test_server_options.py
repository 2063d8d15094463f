"""Flags that change how gRPC listens and how sessions run: TLS, Unix sockets, arguments, session
config files."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from headrace.protocol import messages
from headrace.protocol.errors import ConfigError, HeadraceError, InvalidArgument, NotFound
from headrace.server import AUTO, ServerConfig
from headrace.server.engines.options import SessionOptions
from headrace.server.grpc import tls
from headrace.server.server import Server
from tests.live import LiveServer

Launch = Callable[..., LiveServer]


def openssl(*arguments: object, folder: Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and a key and certificate of it for the server (localhost) and for a caller."""
    folder = tmp_path_factory.mktemp("pki")
    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        *new,
        "-x509",
        "-subj",
        "/CN=authority",
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
        folder=folder,
    )
    for name in ("server", "caller"):
        openssl(
            *new,
            "-subj",
            f"/CN={name}",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
            folder=folder,
        )
        (folder / "names").write_text("subjectAltName=DNS:localhost\n")
        signing = (
            "x509",
            "-req",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-extfile",
            "names",
        )
        openssl(*signing, "-in", f"{name}.csr", "-out", f"{name}.crt", folder=folder)
    return folder


def ssl_config(pki: Path, target: Path, *, client_verify: bool = False, **other: str) -> Path:
    files = {"server_key": "server.key", "server_cert": "server.crt", "custom_ca": "ca.crt"} | other
    message = messages.SSLConfig(client_verify=client_verify)
    for name, file in files.items():
        setattr(message, name, (pki / file).read_text() if file else "")
    target.write_text(messages.render_text(message))
    return target


def status(address: str, credentials: grpc.ChannelCredentials | None = None) -> Any:
    """What GetModelStatus says of m, or the code it fails with."""
    channel = (
        grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address)
    )
    with channel:
        method = messages.GET_MODEL_STATUS
        call = channel.unary_unary(
            method.path, method.request.SerializeToString, method.response.FromString
        )
        request = messages.GetModelStatusRequest()
        request.model_spec.name = "m"
        try:
            return call(request, timeout=10).model_version_status[0].version
        except grpc.RpcError as error:
            return error.code()


def serve(launch: Launch, models: Path, **flags: object) -> LiveServer:
    server = launch(model_name="m", model_base_path=models / "half_plus_two", **flags)
    server.wait_until_available("m")
    return server


def test_tls_by_ssl_config_file(
    launch: Launch, contract_models: Path, pki: Path, tmp_path: Path
) -> None:
    server = serve(launch, contract_models, ssl_config_file=ssl_config(pki, tmp_path / "ssl"))
    address = f"localhost:{server.grpc_port}"

    assert status(address, grpc.ssl_channel_credentials((pki / "ca.crt").read_bytes())) == 123
    assert status(address) is grpc.StatusCode.UNAVAILABLE


def test_mutual_tls_asks_callers_for_a_certificate(
    launch: Launch, contract_models: Path, pki: Path, tmp_path: Path
) -> None:
    server = serve(
        launch,
        contract_models,
        ssl_config_file=ssl_config(pki, tmp_path / "ssl", client_verify=True),
    )
    address = f"localhost:{server.grpc_port}"
    ca, key, chain = ((pki / name).read_bytes() for name in ("ca.crt", "caller.key", "caller.crt"))

    assert status(address, grpc.ssl_channel_credentials(ca, key, chain)) == 123
    assert status(address, grpc.ssl_channel_credentials(ca)) is grpc.StatusCode.UNAVAILABLE


def test_an_ssl_config_that_cannot_work_is_refused_at_the_start(pki: Path, tmp_path: Path) -> None:
    for other in ({"server_key": "caller.key"}, {"server_cert": ""}, {"custom_ca": "ca.key"}):
        with pytest.raises(InvalidArgument, match="is not usable"):
            tls.credentials(str(ssl_config(pki, tmp_path / "ssl", **other)))
    with pytest.raises(InvalidArgument, match="client_verify needs custom_ca"):
        tls.credentials(str(ssl_config(pki, tmp_path / "ssl", client_verify=True, custom_ca="")))
    with pytest.raises(NotFound):
        tls.credentials(str(tmp_path / "none"))
    (tmp_path / "ssl").write_text("server_kee: ''")
    with pytest.raises(ConfigError, match=":1:"):
        tls.credentials(str(tmp_path / "ssl"))


def test_a_unix_socket_beside_the_port(
    launch: Launch, contract_models: Path, tmp_path: Path
) -> None:
    server = serve(launch, contract_models, grpc_socket_path=tmp_path / "s")

    assert status(f"unix:{tmp_path / 's'}") == 123
    assert status(f"127.0.0.1:{server.grpc_port}") == 123


def test_a_relative_socket_instead_of_the_port(
    contract_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = ServerConfig(
        port=0,
        grpc_socket_path="s",
        model_name="m",
        model_base_path=str(contract_models / "half_plus_two"),
    )
    with Server(config) as server:
        assert server.wait_until_ready(30)
        assert server.grpc_port == 0
        assert status(f"unix:{tmp_path / 's'}") == 123


def test_channel_arguments_reach_grpc(launch: Launch, contract_models: Path) -> None:
    server = serve(
        launch,
        contract_models,
        grpc_channel_arguments="grpc.max_receive_message_length=10,grpc.primary_user_agent=x",
    )
    assert status(f"127.0.0.1:{server.grpc_port}") == 123

    request = messages.GetModelStatusRequest()
    request.model_spec.name = "m" * 100
    method = messages.GET_MODEL_STATUS
    call = server.channel.unary_unary(
        method.path, method.request.SerializeToString, method.response.FromString
    )
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=10)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def refusal(**flags: Any) -> HeadraceError:
    config = ServerConfig(port=AUTO, rest_api_port=AUTO, model_base_path="/m", **flags)
    with pytest.raises(HeadraceError) as caught, Server(config):
        pass
    return caught.value


def test_flags_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    file = str(tmp_path / "f")
    assert "without setting enable_batching" in refusal(batching_parameters_file=file).message
    assert "Only one of" in refusal(use_alts_credentials=True, ssl_config_file=file).message
    assert "'x' is not of the form" in refusal(grpc_channel_arguments="a=1,x").message
    assert isinstance(refusal(monitoring_config_file=f"{file}.not"), NotFound)
    assert isinstance(refusal(tensorflow_session_config_file=f"{file}.not"), NotFound)


def config_proto(**options: Any) -> Any:
    return messages.ConfigProto.FromString(SessionOptions(**options).config_proto())


def test_session_options_stand_on_the_file_and_flags_go_first() -> None:
    base = messages.ConfigProto(intra_op_parallelism_threads=3, inter_op_parallelism_threads=2)
    base.graph_options.rewrite_options.constant_folding = 2
    stored = base.SerializeToString()

    assert config_proto().intra_op_parallelism_threads == 1
    assert config_proto(base=stored).intra_op_parallelism_threads == 3
    assert config_proto(base=stored, intra_op_threads=5).intra_op_parallelism_threads == 5
    assert config_proto(base=stored).graph_options.rewrite_options.constant_folding == 2
    assert config_proto(gpu_memory_fraction=0.5).gpu_options.per_process_gpu_memory_fraction == 0.5
    assert (
        config_proto(
            bfloat16=True
        ).graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16
        == 1
    )
    assert config_proto(xla=True).graph_options.optimizer_options.global_jit_level == 1


@pytest.mark.parametrize(
    "flags",
    [
        {"xla_cpu_compilation_enabled": True},
        {"mixed_precision": "bfloat16"},
        {"per_process_gpu_memory_fraction": 0.5},
        {"tensorflow_session_config_file": "session"},
        {"tensorflow_session_parallelism": 2},
    ],
    ids=lambda flags: next(iter(flags)),
)
def test_models_answer_the_same_however_sessions_are_set(
    launch: Launch, contract_models: Path, tmp_path: Path, flags: dict[str, Any]
) -> None:
    if "tensorflow_session_config_file" in flags:
        file = tmp_path / "session"
        file.write_text(
            "intra_op_parallelism_threads: 2 graph_options { rewrite_options { constant_folding: "
            "OFF } }"
        )
        flags = {"tensorflow_session_config_file": file}
    server = serve(launch, contract_models, **flags)

    assert server.predict("m", {"instances": [1.0, 2.0, 5.0]}).json == {
        "predictions": [2.5, 3.0, 4.5]
    }
