"""Two gateways of one project: no name and no port is in the way."""

from __future__ import annotations

import requests

from tests.system.project import Compose, wait_for


def test_two_gateways_answer_on_ports_the_engine_chose(stack: Compose) -> None:
    stack.run(
        "up", "--detach", "--no-build", "--no-deps", "--scale", "gateway=2", "serving", "gateway"
    )
    try:
        both = stack.containers("gateway")
        assert len(both) == 2
        doors = {stack.address(container) for container in both}
        assert len(doors) == 2
        for door in doors:
            url = f"http://{door}/v1/models/half_plus_two:predict"
            wait_for(
                lambda url=url: requests.get(url.rpartition("/v1")[0] + "/readyz", timeout=5).ok,
                within_s=30,
                what=url,
            )
            answer = requests.post(url, json={"instances": [1.0, 2.0, 5.0]}, timeout=10)
            assert answer.json() == {"predictions": [2.5, 3.0, 4.5]}
    finally:
        stack.run(
            "up",
            "--detach",
            "--no-build",
            "--no-deps",
            "--scale",
            "gateway=1",
            "serving",
            "gateway",
        )
    assert len(stack.containers("gateway")) == 1
