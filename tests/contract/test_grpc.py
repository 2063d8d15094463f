"""Recorded gRPC exchanges of a real TensorFlow Serving, against ours: Predict, GetModelMetadata, GetModelStatus."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from headrace.wire import messages, tensors
from headrace.wire.messages import Method
from tests.live import LiveServer

METHODS = {m.name: m for m in (messages.PREDICT, messages.GET_MODEL_METADATA, messages.GET_MODEL_STATUS)}
FROM_THE_GRAPH = re.compile(r"\{\{(function_)?node|\[\[")
NOT_SERVED_YET = ("/tensorflow.ProfilerService/Profile",)
ROWS = [json.loads(line) for line in (Path(__file__).with_name("cases") / "grpc.jsonl").read_text().splitlines()]
TYPED = [row for row in ROWS if row["method"] in METHODS]
RAW = [row for row in ROWS if row["method"].startswith("/") and row["method"] not in NOT_SERVED_YET]

Servers = Callable[[str], LiveServer]


@pytest.mark.parametrize("row", TYPED, ids=lambda row: row["id"])
def test_recorded_exchange(row: dict[str, Any], server: Servers) -> None:
    method = METHODS[row["method"]]
    request = messages.parse_text(method.request, row.get("request", ""))
    wanted = row["ours"]["status"] if "ours" in row else row["status"]

    if wanted == "OK":
        answer = call(server(row["server"]), method)(request)
        assert unpacked(answer) == unpacked(messages.parse_text(method.response, row["response"]))
        return
    with pytest.raises(grpc.RpcError) as refusal:
        call(server(row["server"]), method)(request)
    assert refusal.value.code().name == wanted
    if "details" in row:
        assert words(refusal.value.details()) == words(row["details"])


@pytest.mark.parametrize("row", RAW, ids=lambda row: row["id"])
def test_recorded_bytes(row: dict[str, Any], server: Servers) -> None:
    send = server(row["server"]).channel.unary_unary(row["method"])

    with pytest.raises(grpc.RpcError) as refusal:
        send(bytes.fromhex(row["request_bytes"]), timeout=30)

    assert refusal.value.code().name == row["status"]
    if "details" in row:
        assert refusal.value.details() == row["details"]


def test_eight_megabytes_both_ways(server: Servers) -> None:
    sent = np.arange(2_000_000, dtype=np.float32)
    request = messages.PredictRequest(model_spec={"name": "ident_float"})
    request.inputs["x"].CopyFrom(tensors.to_proto(sent))

    response = call(server("A"), messages.PREDICT)(request)

    assert np.array_equal(tensors.from_proto(response.outputs["y"]), sent)


def call(live: LiveServer, method: Method) -> Callable[[Any], Any]:
    stub = live.channel.unary_unary(
        method.path,
        request_serializer=method.request.SerializeToString,
        response_deserializer=method.response.FromString,
    )
    return lambda request: stub(request, timeout=30)


def unpacked(response: Any) -> tuple[Any, ...]:
    """What compares: the bytes in an Any have no order of their own."""
    if not isinstance(response, messages.GetModelMetadataResponse):
        return (response,)
    return response.model_spec, messages.signature_def_map(response)


def words(details: str) -> str:
    """What the server itself says; of what a graph says, the kind: names of nodes differ between exports."""
    return details.split("\n\t [[")[0].split(":")[0] if FROM_THE_GRAPH.search(details) else details
