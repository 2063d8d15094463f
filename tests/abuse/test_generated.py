"""Generated requests: schemathesis on both OpenAPI documents, hypothesis on bodies, heads and
protobufs.

Whatever comes, the answer is no fault of the server's, and afterwards both doors are as well as
before.
"""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error

from headrace.protocol import messages
from tests.abuse import schemas
from tests.abuse.calls import predict
from tests.abuse.cases import CASES, GOOD, MODEL, get, post
from tests.abuse.conftest import Doors
from tests.abuse.watch import assert_well
from tests.abuse.wire import converse

DOORS = ("server", "gateway")
ROUNDS = [pytest.param(False, id="short"), pytest.param(True, id="long", marks=pytest.mark.long)]
_HEALTH = [
    HealthCheck.too_slow,
    HealthCheck.filter_too_much,
    HealthCheck.data_too_large,
    HealthCheck.large_base_example,
]
_TRUTHS = (501, 503, 504)  # an unknown method; over a limit; out of time
_OURS = "internal error; the server's log has more"


@pytest.fixture(scope="module", autouse=True)
def doors_stay_well(doors: Doors) -> Iterator[None]:
    yield
    for name in DOORS:
        assert_well(doors[name])
        assert "Traceback" not in doors[name].said()


def rounds(short: int, long: int, is_long: bool) -> settings:
    return settings(
        max_examples=long if is_long else short,
        deadline=None,
        database=None,
        suppress_health_check=_HEALTH,
    )


@pytest.mark.parametrize("is_long", ROUNDS)
@pytest.mark.parametrize("door", DOORS)
def test_schemathesis_finds_no_server_error(doors: Doors, door: str, is_long: bool) -> None:
    url = f"http://127.0.0.1:{doors[door].rest_port}"
    if door == "gateway":
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    else:
        schema = schemathesis.openapi.from_dict(schemas.server())
    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if "mnist" in operation.path and not is_long:
            continue  # to make up a picture takes longer than to refuse it

        @rounds(2, 150, is_long)
        @given(case=operation.as_strategy())
        def answered(case: Any) -> None:
            case.call_and_validate(base_url=url, checks=[not_a_server_error], timeout=60)

        answered()
        tried += 1
    assert tried > 10


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.just({"b64": "AA=="}),
    st.just({"b64": "%"}),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("xyb64"), inner, max_size=3)
    ),
)
BODIES = st.dictionaries(
    st.sampled_from(["instances", "inputs", "examples", "context", "signature_name", "x"]),
    VALUES,
    max_size=3,
).map(lambda body: json.dumps(body).encode())
VERBS = st.sampled_from(["predict", "classify", "regress"])
NAMES = st.sampled_from(["half_plus_two", "ident_float", "ident_string", "mnist_cnn"])


@st.composite
def mangled(draw: Any, whole: st.SearchStrategy[bytes]) -> bytes:
    """Some bytes of it gone, doubled, swapped for others, or new."""
    data = draw(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        to = min(len(data), at + draw(st.integers(0, 8)))
        new = draw(
            st.sampled_from([b"", data[at:to] * 2, b"\r\n", b"\n", b"\0", b"\xff", b":", b" "])
            | st.binary(max_size=8)
        )
        data = data[:at] + new + data[to:]
    return data


@pytest.mark.parametrize("is_long", ROUNDS)
@pytest.mark.parametrize("door", DOORS)
def test_no_body_is_answered_with_a_server_error(doors: Doors, door: str, is_long: bool) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", doors[door].rest_port, timeout=60)

    @rounds(150, 5000, is_long)
    @given(name=NAMES, verb=VERBS, body=BODIES | mangled(BODIES) | mangled(st.just(GOOD)))
    def answered(name: str, verb: str, body: bytes) -> None:
        connection.request("POST", f"/v1/models/{name}:{verb}", body)
        answer = connection.getresponse()
        told = answer.read()
        assert answer.status < 500, told

    with contextlib.closing(connection):
        answered()


SMALL = st.sampled_from(
    [b"".join(p for p in c.parts if isinstance(p, bytes)) for c in CASES if len(c.parts) < 4]
)
REQUESTS = st.sampled_from([post(GOOD), get(MODEL), get(MODEL) + post(GOOD)]) | SMALL.filter(
    lambda r: len(r) < 2000
)


@pytest.mark.parametrize("is_long", ROUNDS)
@pytest.mark.parametrize("door", DOORS)
def test_no_bytes_are_answered_with_a_server_error(doors: Doors, door: str, is_long: bool) -> None:
    @rounds(80, 2500, is_long)
    @given(raw=mangled(REQUESTS))
    def answered(raw: bytes) -> None:
        heard = converse(doors[door].rest_port, (raw,), quiet_s=0.02)
        assert all(status < 500 or status in _TRUTHS for status in heard.statuses), heard

    answered()


METHODS = st.sampled_from(messages.METHODS).filter(
    lambda m: m is not messages.HANDLE_RELOAD_CONFIG_REQUEST
)
GOOD_MESSAGES = st.sampled_from(
    [
        predict(float_val=[1.0]).SerializeToString(),
        predict("ident_string", dtype=7, string_val=[b"a"]).SerializeToString(),
    ]
)


@pytest.mark.parametrize("is_long", ROUNDS)
@pytest.mark.parametrize("door", DOORS)
def test_no_message_is_answered_with_a_fault_of_ours(
    doors: Doors, door: str, is_long: bool
) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{doors[door].grpc_port}") as channel:

        @rounds(150, 5000, is_long)
        @given(method=METHODS, message=st.binary(max_size=200) | mangled(GOOD_MESSAGES))
        def answered(method: Any, message: bytes) -> None:
            try:
                channel.unary_unary(method.path)(message, timeout=60)
            except grpc.RpcError as error:
                told = f"{error.code()} {error.details()}"
                assert error.code().name not in ("UNKNOWN", "UNAVAILABLE"), told
                # Bytes that are no message are INTERNAL at TensorFlow Serving too.
                assert error.code().name != "INTERNAL" or (
                    door == "server" and error.details() != _OURS
                ), told

        answered()
