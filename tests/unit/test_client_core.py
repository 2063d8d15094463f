"""The client's decisions without a protocol: when signatures are fetched, cached and fetched
again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from headrace.client.core import (
    Core,
    Metadata,
    Prediction,
    VersionStatus,
    drive,
    model_spec,
)
from headrace.client.deadline import Deadline, checked_timeout_s
from headrace.client.errors import UnexpectedResponse
from headrace.protocol import dtypes
from headrace.protocol.dtypes import DType
from headrace.protocol.errors import DeadlineExceeded, InvalidArgument, NotFound, Unavailable
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.signatures import Signature, TensorSpec

M = ModelSpec("m")


def live(
    version: int, input_name: str, dtype: DType = dtypes.FLOAT, output_name: str = "y"
) -> Metadata:
    inputs = {input_name: TensorSpec(input_name, "a:0", dtype, (-1,))}
    outputs = {output_name: TensorSpec(output_name, "b:0", dtypes.FLOAT, (-1,))}
    return Metadata(version, {"serving_default": Signature("serving_default", inputs, outputs)})


class Server:
    """A codec and the server behind it: half of x plus two, by the signature that is live."""

    def __init__(self, metadata: Metadata) -> None:
        self.live = metadata
        self.requests: list[str] = []
        self.refusal: Exception | None = None
        self.reports_version = False

    def predict(
        self, target: ModelSpec, arrays: Mapping[str, np.ndarray], signature: Signature
    ) -> Any:
        return lambda: self._run(arrays)

    def prediction(self, answer: Any, signature: Signature) -> Prediction:
        if answer.keys() != signature.outputs.keys():
            raise UnexpectedResponse("other outputs")
        return Prediction(dict(answer), self.live.version if self.reports_version else None)

    def metadata(self, target: ModelSpec) -> Any:
        return lambda: self.live

    def status(self, target: ModelSpec) -> Any:
        def answer() -> list[VersionStatus]:
            if self.refusal is not None:
                raise self.refusal
            return [VersionStatus(2, "LOADING"), VersionStatus(1, "AVAILABLE")]

        return answer

    def models(self) -> Any:
        return lambda: []

    def ready(self) -> Any:
        return self.status(M)

    def send(self, call: Any, deadline: Deadline) -> Any:
        answer = call()
        self.requests.append("metadata" if isinstance(answer, Metadata) else "predict")
        return answer

    def _run(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self.refusal is not None:
            raise self.refusal
        signature = self.live.signatures["serving_default"]
        if arrays.keys() != signature.inputs.keys():
            raise InvalidArgument(f"expected {sorted(signature.inputs)}")
        half = next(iter(arrays.values())) / 2 + 2
        return dict.fromkeys(signature.outputs, half)


def run(server: Server, flow: Any) -> Any:
    return drive(flow, server.send, Deadline(5, "here"))


def predict(
    server: Server,
    client: Core,
    inputs: Any,
    target: ModelSpec = M,
    signature: str = "serving_default",
) -> Any:
    return run(server, client.predict(target, inputs, signature))


def test_signatures_are_fetched_once() -> None:
    server = Server(live(1, "x"))
    client = Core(server)
    for _ in range(3):
        np.testing.assert_array_equal(predict(server, client, [1, 2]), [2.5, 3])
    assert server.requests == ["metadata", "predict", "predict", "predict"]


def test_each_version_and_label_has_its_own_signatures() -> None:
    server = Server(live(1, "x"))
    client = Core(server)
    for target in (M, ModelSpec("m", version=1), ModelSpec("m", label="stable"), M):
        predict(server, client, [1], target)
    assert server.requests.count("metadata") == 3


def test_a_new_version_with_another_input_makes_the_client_fetch_signatures_again() -> None:
    server = Server(live(1, "x"))
    client = Core(server)
    predict(server, client, [1])
    server.live = live(2, "features")
    np.testing.assert_array_equal(predict(server, client, [1]), [2.5])
    assert server.requests == ["metadata", "predict", "metadata", "predict"]


def test_a_name_that_only_the_new_version_has_is_accepted() -> None:
    server = Server(live(1, "x"))
    client = Core(server)
    predict(server, client, {"x": [1]})
    server.live = live(2, "features")
    np.testing.assert_array_equal(predict(server, client, {"features": [1]}), [2.5])


def test_a_refused_call_is_not_sent_again_while_the_signature_is_the_same() -> None:
    server = Server(live(1, "x"))
    client = Core(server)
    predict(server, client, [1])
    server.refusal = InvalidArgument("x must be positive")
    with pytest.raises(InvalidArgument, match="x must be positive"):
        predict(server, client, [-1])
    assert server.requests == ["metadata", "predict", "metadata"]


def test_an_answer_of_a_new_version_is_read_again_without_a_second_run() -> None:
    server = Server(live(1, "x"))
    client = Core(server)
    predict(server, client, [1])
    server.live = live(2, "x", output_name="score")
    np.testing.assert_array_equal(predict(server, client, [1]), [2.5])
    assert server.requests == ["metadata", "predict", "predict", "metadata"]


def test_an_answer_from_another_version_drops_the_cached_signature() -> None:
    server = Server(live(1, "x"))
    server.reports_version = True
    client = Core(server)
    predict(server, client, [1])
    server.live = live(2, "x", dtypes.DOUBLE)
    predict(server, client, [1])
    assert predict(server, client, [1]).dtype == np.float64
    assert server.requests == ["metadata", "predict", "predict", "metadata", "predict"]


def test_an_answer_that_fits_no_signature_is_an_error() -> None:
    server = Server(live(1, "x"))
    server.prediction = lambda answer, signature: (_ for _ in ()).throw(UnexpectedResponse("no"))  # type: ignore[method-assign]
    with pytest.raises(UnexpectedResponse):
        predict(server, Core(server), [1])


def test_an_unknown_signature_is_refused_with_those_there_are() -> None:
    server = Server(live(1, "x"))
    with pytest.raises(
        InvalidArgument, match=r"m: no signature 'clasify' in version 1; it has serving_default"
    ):
        predict(server, Core(server), [1], signature="clasify")


def test_several_outputs_come_as_a_dict() -> None:
    metadata = live(1, "x")
    signature = metadata.signatures["serving_default"]
    spec = signature.outputs["y"]
    both = Signature("serving_default", signature.inputs, {"a": spec, "b": spec})
    server = Server(Metadata(1, {"serving_default": both}))
    assert {name: a.tolist() for name, a in predict(server, Core(server), [1]).items()} == {
        "a": [2.5],
        "b": [2.5],
    }


def test_ready_means_one_version_is_available() -> None:
    server = Server(live(1, "x"))
    assert run(server, Core(server).ready("m")) is True


@pytest.mark.parametrize(
    "refusal", [Unavailable("down"), DeadlineExceeded("slow"), NotFound("no such model")]
)
@pytest.mark.parametrize("model", ["m", None])
def test_what_cannot_be_reached_is_not_ready(refusal: Exception, model: str | None) -> None:
    server = Server(live(1, "x"))
    server.refusal = refusal
    assert run(server, Core(server).ready(model)) is False


def test_the_timeout_bounds_all_requests_of_a_call_together() -> None:
    server = Server(live(1, "x"))

    def slow(call: Any, deadline: Deadline) -> Any:
        deadline.remaining_s()
        time.sleep(0.06)  # the server's own slowness
        return server.send(call, deadline)

    with pytest.raises(DeadlineExceeded, match=r"no answer from here within 0\.05 s"):
        drive(Core(server).predict(M, [1], "serving_default"), slow, Deadline(0.05, "here"))
    assert server.requests == ["metadata"]


@pytest.mark.parametrize("timeout_s", [0, -1, float("inf"), float("nan")])
def test_a_call_without_a_limit_is_refused(timeout_s: float) -> None:
    with pytest.raises(InvalidArgument, match="needs a limit in seconds"):
        checked_timeout_s(timeout_s)


def test_a_version_together_with_a_label_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="a version or a label, not both"):
        model_spec("m", version=1, label="stable")


def test_a_call_names_a_model() -> None:
    with pytest.raises(InvalidArgument, match="no model named"):
        model_spec("")
