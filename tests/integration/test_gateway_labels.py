"""A label that moved on while its old version went: the gateway finds out by the call, on a real
backend."""

from __future__ import annotations

import os
from pathlib import Path

import grpc
import numpy as np
import pytest

from headrace.protocol import messages, tensors
from tests.contract import servers
from tests.live import LiveGateway, LiveServer, until

MODEL = "half_plus_two"
_NEVER_S = 3600


def config(models: Path, *versions: int) -> str:
    """These versions are served, and the last of them is stable."""
    served = " ".join(f"versions: {version}" for version in versions)
    return (
        f'model_config_list {{ config {{ name: "{MODEL}" base_path: "{models / servers.TWO}" '
        f'model_platform: "tensorflow" model_version_policy {{ specific {{ {served} }} }} '
        f'version_labels {{ key: "stable" value: {versions[-1]} }} }} }}'
    )


def by_label(gateway: LiveGateway) -> int:
    """The version that a call by label ran on."""
    request = messages.PredictRequest()
    request.model_spec.name, request.model_spec.version_label = MODEL, "stable"
    request.inputs["x"].CopyFrom(tensors.to_proto(np.array([1.0], np.float32)))
    stub = gateway.channel.unary_unary(
        messages.PREDICT.path,
        messages.PredictRequest.SerializeToString,
        messages.PredictResponse.FromString,
    )
    return int(stub(request, timeout=30).model_spec.version.value)


def test_a_call_by_label_follows_it_when_its_version_has_just_gone(
    contract_models: Path, launch: LiveServer.Launcher, tmp_path: Path
) -> None:
    file = tmp_path / "models.config"
    file.write_text(config(contract_models, 123))
    server = launch(model_config_file=file, model_config_file_poll_wait_seconds=0.05)
    server.wait_until_available(MODEL)
    # It never looks for itself, so what it knows after the move it knows by the call.
    settings = {"REFRESH_S": _NEVER_S, "LENIENT_MODELS": MODEL}
    gateway = LiveGateway(tmp_path / "gateway", server, file, settings)
    try:
        assert by_label(gateway) == 123
        # In two steps, since a label may not move to what is not AVAILABLE.
        replaced(file, config(contract_models, 124, 123))
        until(lambda: server.states(MODEL) == {123: "AVAILABLE", 124: "AVAILABLE"}, 30, server.said)
        replaced(file, config(contract_models, 124))
        until(lambda: server.states(MODEL) == {123: "END", 124: "AVAILABLE"}, 30, server.said)

        answer = gateway.request(
            "POST", f"/v1/models/{MODEL}/labels/stable:predict", body=b'{"instances": [1.0]}'
        )
        assert (answer.status, answer.json) == (200, {"predictions": [2.5]})
        assert by_label(gateway) == 124
        gone = gateway.request(
            "POST", f"/v1/models/{MODEL}/versions/123:predict", body=b'{"instances": [1.0]}'
        )
        assert gone.status == 404
        with pytest.raises(grpc.RpcError) as refused:
            gateway.channel.unary_unary(messages.PREDICT.path)(pinned(123), timeout=30)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    finally:
        gateway.close()


def replaced(file: Path, text: str) -> None:
    aside = file.with_name("aside")
    aside.write_text(text)
    os.replace(aside, file)


def pinned(version: int) -> bytes:
    request = messages.PredictRequest()
    request.model_spec.name, request.model_spec.version.value = MODEL, version
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=1)
    request.inputs["x"].float_val.append(1.0)
    return bytes(request.SerializeToString())
