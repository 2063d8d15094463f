"""Memory and descriptors do not grow with what strangers send."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import random
from collections.abc import Iterator

import grpc
import pytest

from headrace.protocol import messages
from tests.abuse.calls import garbage, predict
from tests.abuse.cases import CASES, GOOD
from tests.abuse.conftest import Doors
from tests.abuse.watch import Door, assert_well, held, settles
from tests.abuse.wire import converse

DOORS = ("server", "gateway")
_BODIES = (
    GOOD,
    b"",
    b"{",
    b'{"instances": [[1.0], [1.0, 2.0]]}',
    b'{"instances": ["a"]}',
    b'{"inputs": {"nobody": 1}}',
    b'{"instances": ' + b"[" * 3000 + b"]" * 3000 + b"}",
    b'{"signature_name": "nobody", "instances": [1.0]}',
    b"\xff" * 500,
)
_SMALL = [
    c for c in CASES if sum(len(p) if isinstance(p, bytes) else 1 << 20 for p in c.parts) < 20_000
]


@pytest.mark.parametrize("door", DOORS)
def test_descriptors_come_back(doors: Doors, door: str) -> None:
    storm(doors[door], 300, seed=0)
    before = held(doors[door])
    storm(doors[door], 700, seed=1)
    assert_well(doors[door])
    settles(doors[door], before.descriptors + 2)


@pytest.mark.long
@pytest.mark.parametrize("door", DOORS)
def test_ten_thousand_requests_leave_what_a_thousand_left(doors: Doors, door: str) -> None:
    storm(doors[door], 1000, seed=0)
    after_1000 = held(doors[door])
    storm(doors[door], 9000, seed=1)
    after_10000 = held(doors[door])
    assert_well(doors[door])
    print(f"{door}: {after_1000} after 1,000, {after_10000} after 10,000")
    assert after_10000.rss_kib <= 1.05 * after_1000.rss_kib
    settles(doors[door], round(1.05 * after_1000.descriptors))


def storm(door: Door, count: int, *, seed: int) -> None:
    """Three of four over a kept connection with bodies good and bad, the others each over one of
    its own, or gRPC."""
    chance = random.Random(seed)
    names = itertools.count()
    with (
        contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", door.rest_port, timeout=60)
        ) as kept,
        calls(door) as call,
    ):
        for i in range(count):
            match i % 8:
                case 6:
                    case = chance.choice(_SMALL)
                    converse(door.rest_port, case.parts, probed=case.probed)
                case 7:
                    call(
                        chance.choice(
                            [garbage(i, 300), predict(float_val=[1.0]).SerializeToString(), b""]
                        )
                    )
                case _:
                    # Made-up names too: none of them may be kept for ever.
                    name = f"nobody{next(names)}" if i % 8 == 5 else "half_plus_two"
                    kept.request("POST", f"/v1/models/{name}:predict", chance.choice(_BODIES))
                    kept.getresponse().read()


@contextlib.contextmanager
def calls(door: Door) -> Iterator:
    with grpc.insecure_channel(f"127.0.0.1:{door.grpc_port}") as channel:
        stub = channel.unary_unary(messages.PREDICT.path)

        def call(request: bytes) -> None:
            with contextlib.suppress(grpc.RpcError):
                stub(request, timeout=60)

        yield call
