"""The :predict cases without a server: body -> tensors -> a function known by head -> body, every
byte."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from headrace.codec import answers, predict
from headrace.protocol import dtypes, faults
from headrace.protocol.dtypes import DType
from headrace.protocol.errors import HeadraceError, InvalidArgument
from headrace.protocol.signatures import Signature, TensorSpec
from tests.contract import cases
from tests.contract.cases import Case

Arrays = Mapping[str, np.ndarray]
Model = tuple[Signature, Callable[[Arrays], Arrays]]


def _signature(
    inputs: Mapping[str, DType], outputs: Mapping[str, DType], name: str = "serving_default"
) -> Signature:
    def specs(tensors: Mapping[str, DType]) -> dict[str, TensorSpec]:
        return {
            alias: TensorSpec(alias, f"{alias}:0", dtype, None, dtype.number)
            for alias, dtype in tensors.items()
        }

    return Signature(name, specs(inputs), specs(outputs))


def _one_to_one(
    dtype: DType, function: Callable[[np.ndarray], np.ndarray], out: str = "y"
) -> Model:
    return _signature({"x": dtype}, {out: dtype}), lambda arrays: {out: function(arrays["x"])}


def _float(x: np.ndarray | float) -> np.ndarray:
    return np.asarray(x, np.float32)


def _sums(arrays: Arrays) -> Arrays:
    return {"a": arrays["x"], "b": _float(arrays["x"].sum()).reshape(1)}


IDENTITIES = {
    "float": dtypes.FLOAT,
    "double": dtypes.DOUBLE,
    "half": dtypes.HALF,
    "bf16": dtypes.BFLOAT16,
    "int8": dtypes.INT8,
    "int16": dtypes.INT16,
    "int32": dtypes.INT32,
    "int64": dtypes.INT64,
    "uint8": dtypes.UINT8,
    "uint16": dtypes.UINT16,
    "uint32": dtypes.UINT32,
    "uint64": dtypes.UINT64,
    "bool": dtypes.BOOL,
    "string": dtypes.STRING,
    "complex64": dtypes.COMPLEX64,
    "complex128": dtypes.COMPLEX128,
}
F = dtypes.FLOAT
MODELS: dict[str, dict[str, Model]] = {
    "half_plus_two": {
        "serving_default": _one_to_one(F, lambda x: x * _float(0.5) + _float(2)),
        "regress_x2_to_y3": (
            _signature({"inputs": F}, {"outputs": F}),
            lambda arrays: {"outputs": arrays["inputs"] * _float(0.5) + _float(3)},
        ),
    },
    "half_plus_three": {"serving_default": _one_to_one(F, lambda x: x * _float(0.5) + _float(3))},
    "bytes_out": {"serving_default": _one_to_one(dtypes.STRING, lambda x: x, "out_bytes")},
    "half_out": {"serving_default": _one_to_one(F, lambda x: x.astype(np.float16))},
    "scalar_out": {"serving_default": _one_to_one(F, lambda x: x.sum(axis=0))},
    "mismatch_out": {"serving_default": (_signature({"x": F}, {"a": F, "b": F}), _sums)},
    "two_in_two_out": {
        "serving_default": (
            _signature(
                {"int_t": dtypes.INT32, "str_t": dtypes.STRING},
                {"int_o": dtypes.INT32, "str_o": dtypes.STRING},
            ),
            lambda arrays: {"int_o": arrays["int_t"], "str_o": arrays["str_t"]},
        )
    },
    "asserts": {"serving_default": _one_to_one(F, lambda x: x)},
    "counter": {
        "get_counter": (_signature({}, {"output": F}), lambda _: {}),
        "reset_counter": (_signature({}, {"output": F}), lambda _: {}),
    },
} | {
    f"ident_{name}": {"serving_default": _one_to_one(dtype, lambda x: x)}
    for name, dtype in IDENTITIES.items()
}

_PATH = re.compile(r"/[vV]1/[mM]odels/(\w+)(?:/versions/\d+|/labels/\w+)?:predict")
# Not the codec's: another model or version was asked for, the graph itself said no, or the answer
# hangs on a state.
_RUNTIME = (
    "Servable not found",
    "Unrecognized servable",
    "assertion failed",
    "{{node",
    "{{function_node",
)


def _is_codecs(case: Case) -> bool:
    match = _PATH.fullmatch(case.path)
    if (
        match is None
        or case.method != "POST"
        or case.raw is not None
        or case.died
        or match[1] not in (*MODELS, "foo")
    ):
        return False
    if not case.answer:  # a version beyond int64, turned away before the body is read
        return False
    is_stateful = "incr_counter_by" in case.body[:200].decode("utf-8", "replace")
    return not is_stateful and not any(text in (case.error or "") for text in _RUNTIME)


CASES = [case for case in cases.rest() if _is_codecs(case)]


def _body(case: Case) -> bytes:
    if "gzip" not in case.headers.get("Content-Encoding", ""):
        return case.body
    return (
        gzip.decompress(case.body) if case.is_gzip else b""
    )  # what cannot be inflated counts as empty


def _run(model: str, body: bytes) -> bytes:
    """What a server does with a body, the engine replaced by a function."""
    parsed = predict.parse_predict(body)
    name = parsed.signature_name or "serving_default"
    if name not in MODELS[model]:
        fault = faults.Fault(
            "unknown_signature", facts={"signature": name, "model": model, "version": 1}
        )
        raise InvalidArgument(faults.our_text(fault), fault=fault)
    signature, function = MODELS[model][name]
    tensors = parsed.tensors(signature)
    return answers.predictions(function(tensors.arrays), signature, row_format=tensors.row_format)


def _answer(case: Case) -> tuple[int, bytes]:
    try:
        return 200, _run(_PATH.fullmatch(case.path)[1], _body(case))
    except HeadraceError as error:
        text = faults.serving_text(error.fault) if error.fault else error.message
        return error.http_status, answers.error_body(text)


def test_the_cases_are_many_and_their_ids_unique() -> None:
    everything = cases.rest()
    assert len(everything) == len({case.id for case in everything}) > 292
    assert len(CASES) > 190


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_codec_answers_as_recorded(case: Case) -> None:
    status, answer = _answer(case)
    assert answer == case.answer
    assert status == case.status


def test_the_exact_way_alone_answers_as_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.codec.fastjson.tensors", lambda *_: None)
    short = [case for case in CASES if len(case.body_parts) < 100_000 and case.id != "EXT-B004"]
    wrong = [case.id for case in short if _answer(case)[1] != case.answer]
    assert wrong == []


def test_our_words_for_recorded_refusals_are_clean() -> None:
    texts = [_refusal(case) for case in CASES if case.status == 400]
    assert len(texts) > 80
    for text in texts:
        assert text.encode().decode() == text
        assert "{" not in text.replace(
            '{"b64"', ""
        )  # no dump of the body, no template left unfilled


def _refusal(case: Case) -> str:
    with pytest.raises(HeadraceError) as caught:
        _run(_PATH.fullmatch(case.path)[1], _body(case))
    error = caught.value
    assert error.fault is None or faults.our_text(error.fault) == error.message
    return error.message
