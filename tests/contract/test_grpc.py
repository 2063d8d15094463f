"""Every gRPC call of the case lists, recorded ones and written ones, against a live server; reloads
each on its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from headrace.protocol import messages, tensors
from tests.contract import cases, servers
from tests.contract.cases import GrpcCase
from tests.live import Caller, LiveServer, until

METHODS = {method.name: method for method in messages.METHODS}
HEALTH, REFLECTION = (
    f"/{messages.HEALTH_SERVICE}/Check",
    f"/{messages.REFLECTION_SERVICES[1]}/ServerReflectionInfo",
)
FROM_THE_GRAPH = re.compile(r"\{\{(function_)?node|\[\[")
BLANKS_BY_CHANCE = re.compile(
    r"(goo\.gle/debug\w+) +"
)  # protobuf draws their number for each process
CASES = cases.grpc()
SINGLE = [case for case in CASES if case.server != "reload"]
RELOADS = {
    "nothing": ("reload", ["TFS-184"]),
    "an empty list": ("reload", ["TFS-186"]),
    "two models": ("reload", ["TFS-188"]),
    "no platform": ("reload", ["TFS-190", "EXT-GR130"]),
    "another platform": ("reload", ["TFS-191"]),
    "label of old": ("relabel", ["TFS-193"]),
    "new label": ("relabel", ["TFS-195", "EXT-GR131"]),
}

Servers = Callable[[str], Caller]
Say = Callable[[str], None]


@pytest.mark.parametrize("case", SINGLE, ids=lambda case: case.id)
def test_call(case: GrpcCase, server: Servers, is_ours: bool, level: Say) -> None:
    live = server(case.server)
    if not case.status and not is_ours:
        pytest.skip("it would end the process")
    level(answered(live, case, is_ours=is_ours))


@pytest.mark.parametrize(("start", "ids"), RELOADS.values(), ids=RELOADS)
def test_reload(
    start: str,
    ids: Sequence[str],
    contract_models: Path,
    launch: LiveServer.Launcher,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Each from a server of its own, so only of ours."""
    if servers.targets():
        pytest.skip("a reload changes what the target serves")
    entries, flags = servers.configuration(start, contract_models)
    config = tmp_path / "models.config"
    config.write_text(servers.config_text(entries))
    live = launch(model_config_file=config, **flags)
    live.wait_until_available(*entries)
    for case in (case for name in ids for case in CASES if case.id == name):
        case = filled(case, contract_models)
        record_property("contract", answered(live, case, is_ours=True))
        until(partial(says, live, case.then), 10)


def says(live: Caller, then: Mapping[str, tuple[int, str]]) -> bool:
    """Whether REST says of these models what it did 2.5 s after the recorded reload."""
    answers = {model: live.get(f"/v1/models/{model}") for model in then}
    return all(
        (answers[m].status, answers[m].body.decode()) == wanted for m, wanted in then.items()
    )


def test_every_reload_is_in_a_story() -> None:
    told = [name for _, ids in RELOADS.values() for name in ids]
    assert sorted(told) == sorted(case.id for case in CASES if case.server == "reload")


def test_eight_megabytes_both_ways(server: Servers, level: Say) -> None:
    sent = np.arange(2_000_000, dtype=np.float32)
    request = messages.PredictRequest(model_spec={"name": "ident_float"})
    request.inputs["x"].CopyFrom(tensors.to_proto(sent))

    response = messages.PredictResponse.FromString(
        send(server("A"), messages.PREDICT.path, request.SerializeToString())
    )

    assert np.array_equal(tensors.from_proto(response.outputs["y"]), sent)
    level("parsed")  # EXT-GR120


def filled(case: GrpcCase, models: Path) -> GrpcCase:
    """A recorded reload with the paths of our models; what a note says in words is the config that
    follows."""
    text = str(case.request)
    if "{" not in text:
        text = (
            'config{model_config_list{config{name:"half_plus_two" base_path:"$HP2" '
            'model_platform:"tensorflow"}}}'
        )
    text = text.replace("$HP2X2", str(models / servers.TWO)).replace(
        "$HP2", str(models / "half_plus_two")
    )
    return GrpcCase(case.id, case.server, case.method, text, *(getattr(case, n) for n in FIELDS))


FIELDS = ("status", "response", "details", "then", "ours")


def answered(live: Caller, case: GrpcCase, *, is_ours: bool) -> str:
    """Makes the call, checks the answer; how closely it agreed."""
    differs = case.ours is not None and is_ours
    wanted = case.ours.status if case.ours is not None and is_ours else case.status
    path, request = call_of(case)
    try:
        got = send(live, path, request)
    except grpc.RpcError as error:
        assert error.code().name == wanted, f"{error.code()}: {error.details()}"
        if differs or case.details is None:
            return "ours" if differs else "class"
        return same_words(error.details(), case.details)
    assert wanted == "OK", f"answered, expected {wanted}: {case.details}"
    if differs:
        return "ours"
    if isinstance(case.response, bytes):
        assert got == case.response
        return "bytes"
    method = METHODS[case.method]
    assert unpacked(method.response.FromString(got)) == unpacked(
        messages.parse_text(method.response, case.response)
    )
    return "parsed"


def call_of(case: GrpcCase) -> tuple[str, bytes]:
    match case.method:
        case "Check":
            name = str(case.request).removeprefix("service:").strip('"')
            return HEALTH, messages.HealthCheckRequest(service=name).SerializeToString()
        case "ServerReflectionInfo":
            asked = messages.message("grpc.reflection.v1alpha.ServerReflectionRequest")
            return REFLECTION, asked(list_services="*").SerializeToString()
        case name if name in METHODS:
            method = METHODS[name]
            return method.path, messages.parse_text(
                method.request, case.request
            ).SerializeToString()
        case path:
            assert isinstance(case.request, bytes)
            return path, case.request


def send(live: Caller, path: str, request: bytes) -> bytes:
    if path == REFLECTION:
        answers: Iterator[bytes] = live.channel.stream_stream(path)(iter([request]), timeout=30)
        return next(answers)
    return live.channel.unary_unary(path)(request, timeout=30)


def same_words(got: str, wanted: str) -> str:
    if got == wanted:
        return "bytes"
    if FROM_THE_GRAPH.search(wanted):
        assert kind(got) == kind(wanted)
        return "class"
    assert BLANKS_BY_CHANCE.sub(r"\1 ", got) == BLANKS_BY_CHANCE.sub(r"\1 ", wanted)
    return "parsed"


def kind(details: str) -> str:
    """What a graph says before the names of its nodes, which differ between exports."""
    assert FROM_THE_GRAPH.search(details)
    return details.split("\n\t [[")[0].split(":")[0]


def unpacked(response: Any) -> tuple[Any, ...]:
    """What compares: the bytes in an Any have no order of their own."""
    if not isinstance(response, messages.GetModelMetadataResponse):
        return (response,)
    return response.model_spec, messages.signature_def_map(response)
