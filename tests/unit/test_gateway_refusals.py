"""A corpus of bad requests: each is refused with the place of the first bad element, and never
reaches the backend."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway.app import App
from tests.unit.gateway_backend import (
    FakeBackend,
    Version,
    ask,
    eventually,
    gateway,
    model_list,
    signature,
)

FLOAT, INT32, STRING, BOOL, HALF_FLOAT = 1, 3, 7, 10, 19
HALF = "/v1/models/half:predict"
IMAGE = "/v1/models/image:predict"
TEXT = "/v1/models/text:predict"
KINDS = "/v1/models/kinds:predict"
JUDGE = "/v1/models/judge:classify"
RATE = "/v1/models/judge:regress"
GOOD = b'{"instances": [1.0, 2.0]}'
ROW = [[[0.0], [0.0]], [[0.0], [0.0]]]  # (2, 2, 1), as image wants


class Bad(NamedTuple):
    """``place`` is the JSON pointer of the first bad element, None where there is none in the
    body."""

    path: str
    body: bytes | str
    status: int
    place: str | None
    said: str = ""


def rows(*values: Any, **more: Any) -> str:
    return json.dumps({**more, "instances": values})


def two(value: str) -> str:
    return '{"signature_name": "two", ' + value + "}"


BAD = {
    # The body as JSON.
    "empty body": Bad(HALF, b"", 400, "", "expected a JSON object"),
    "blanks alone": Bad(HALF, b"  \n", 400, "", "JSON"),
    "not json": Bad(HALF, b"hello", 400, "", "not JSON at byte 0"),
    "cut short": Bad(HALF, b'{"instances": [1.0', 400, "", "not JSON at byte 18"),
    "comma at the end": Bad(HALF, b'{"instances": [1.0,]}', 400, "", "at byte 19"),
    "single quotes": Bad(HALF, b"{'instances': [1.0]}", 400, "", "at byte 1"),
    "a comment": Bad(HALF, b'{"instances": /* */ [1.0]}', 400, "", "at byte 14"),
    "plus sign": Bad(HALF, b'{"instances": [+1]}', 400, "", "at byte 15"),
    "number without digits": Bad(HALF, b'{"instances": [.5]}', 400, "", "at byte 15"),
    "lone surrogate": Bad(TEXT, b'{"instances": ["\\ud800"]}', 400, "", "not JSON"),
    "control character in a string": Bad(
        HALF, b'{"instances": ["a\x01"]}', 400, "", "not JSON at byte 17"
    ),
    "not utf-8": Bad(HALF, b'{"instances": ["\xff"]}', 400, "/instances/0", "a number"),
    "top level is a list": Bad(HALF, b"[1.0]", 400, "", "a list of 1, expected an object"),
    "top level is a number": Bad(HALF, b"1", 400, "", "expected an object"),
    "top level is null": Bad(HALF, b"null", 400, "", "null, expected an object"),
    "bytes after the object": Bad(HALF, GOOD + b"{}", 400, "", "from byte 25"),
    "byte order mark": Bad(HALF, b"\xef\xbb\xbf" + GOOD, 400, "", "byte order mark"),
    "out of range": Bad(HALF, b'{"instances": [1e999]}', 400, "", "not JSON"),
    # The keys of the call.
    "both keys": Bad(
        HALF, '{"instances": [1.0], "inputs": [1.0]}', 400, "", "expected one of them"
    ),
    "neither key": Bad(HALF, '{"instance": [1.0]}', 400, "", "did you mean instances?"),
    "input for inputs": Bad(HALF, '{"input": [1.0]}', 400, "", "did you mean inputs?"),
    "capital letters": Bad(HALF, '{"Instances": [1.0]}', 400, "", "did you mean instances?"),
    "an empty object": Bad(HALF, "{}", 400, "", "no 'instances' and no 'inputs'"),
    "duplicate instances": Bad(
        HALF, '{"instances": [1.0], "instances": [2.0]}', 400, "/instances", "twice"
    ),
    "duplicate inputs, one escaped": Bad(
        HALF, '{"inputs": [1.0], "inp\\u0075ts": [2.0]}', 400, "/inputs", "twice"
    ),
    "duplicate signature name": Bad(
        HALF,
        '{"signature_name": "a", "signature_name": "two", "instances": [1]}',
        400,
        "/signature_name",
        "twice",
    ),
    "signature name is a number": Bad(
        HALF, '{"signature_name": 1, "instances": [1.0]}', 400, "/signature_name"
    ),
    "signature name is null": Bad(
        HALF, '{"signature_name": null, "instances": [1.0]}', 400, "/signature_name"
    ),
    "unknown signature": Bad(
        HALF, rows(1.0, signature_name="three"), 400, "/signature_name", "it has "
    ),
    "misspelt signature": Bad(
        HALF,
        rows(1.0, signature_name="serving_defualt"),
        400,
        "/signature_name",
        "did you mean serving_default?",
    ),
    # instances and inputs.
    "instances is a number": Bad(
        HALF,
        '{"instances": 5}',
        400,
        "/instances",
        "the number 5, expected a list (wrap it in a list)",
    ),
    "inputs is a number": Bad(
        HALF, '{"inputs": 5}', 400, "/inputs", "expected (?,) (wrap it in a list)"
    ),
    "a column is a number": Bad(
        HALF,
        two('"inputs": {"a": [1.0], "b": 1.0}'),
        400,
        "/inputs/b",
        "expected (?,) (wrap it in a list)",
    ),
    # A signature chosen by a key that is not read.
    "signature for signature_name": Bad(
        HALF,
        '{"signature": "two", "inputs": {"a": [1.0], "b": [1.0]}}',
        400,
        "/inputs/x",
        "did you mean signature_name?",
    ),
    "signatureName for signature_name": Bad(
        HALF,
        '{"signatureName": "two", "instances": [{"a": 1.0, "b": 1.0}]}',
        400,
        "/instances/0/a",
        "the key signatureName is not read; did you mean signature_name?",
    ),
    "signature for signature_name, to regress": Bad(
        RATE,
        '{"signature": "rate", "examples": [{"x": 1.0}]}',
        400,
        "/signature_name",
        "did you mean signature_name?",
    ),
    "columns under instances": Bad(
        HALF,
        '{"instances": {"x": [1.0]}}',
        400,
        "/instances",
        "columns by name belong under 'inputs'",
    ),
    "rows under inputs": Bad(
        HALF,
        two('"inputs": [{"a": 1.0, "b": 2.0}]'),
        400,
        "/inputs",
        "a list of rows belongs under 'instances'",
    ),
    "rows of one name under inputs": Bad(
        HALF,
        '{"inputs": [{"x": 1.0}]}',
        400,
        "/inputs/0",
        "a list of rows belongs under 'instances'",
    ),
    "empty instances": Bad(HALF, '{"instances": []}', 400, "/instances", "an empty list"),
    "plain rows for two inputs": Bad(
        HALF, two('"instances": [1.0]'), 400, "/instances/0", "the keys a, b"
    ),
    "a plain column for two inputs": Bad(
        HALF, two('"inputs": [1.0]'), 400, "/inputs", "the keys a, b"
    ),
    "mixed rows": Bad(HALF, '{"instances": [1.0, {"x": 1.0}]}', 400, "/instances/1", "an object"),
    "a plain row among named": Bad(
        HALF, '{"instances": [{"x": 1.0}, 1.0]}', 400, "/instances/1", "expected an object"
    ),
    # Names of inputs.
    "unknown name": Bad(
        HALF, '{"instances": [{"z": 1.0}]}', 400, "/instances/0/z", "no such input, expected x"
    ),
    "misspelt name": Bad(
        IMAGE,
        rows({"image": ROW}, {"imgae": ROW}),
        400,
        "/instances/1/imgae",
        "did you mean image?",
    ),
    "missing name": Bad(
        HALF, two('"instances": [{"a": 1.0}]'), 400, "/instances/0", "missing: b; expected a, b"
    ),
    "no names": Bad(
        HALF,
        two('"instances": [{}]'),
        400,
        "/instances/0",
        "instances[0]: missing: a, b; expected a, b",
    ),
    "missing in a later row": Bad(
        HALF,
        two('"instances": [{"a": 1.0, "b": 1.0}, {"a": 1.0}]'),
        400,
        "/instances/1",
        "missing: b;",
    ),
    "duplicate name": Bad(
        HALF, two('"instances": [{"a": 1, "b": 1, "a": 2}]'), 400, "/instances/0/a", "twice"
    ),
    "duplicate column": Bad(
        HALF, two('"inputs": {"a": [1], "b": [1], "a": [2]}'), 400, "/inputs/a", "twice"
    ),
    "missing column": Bad(
        HALF,
        two('"inputs": {"a": [1.0]}'),
        400,
        "/inputs/b",
        "inputs: missing: b; expected a number (float) or a list",
    ),
    "missing columns": Bad(
        HALF, two('"inputs": {}'), 400, "/inputs/a", "inputs: missing: a, b; expected a, b"
    ),
    "misspelt column": Bad(
        IMAGE, json.dumps({"inputs": {"imgae": [ROW]}}), 400, "/inputs/image", "there is imgae"
    ),
    "unknown column": Bad(
        HALF,
        two('"inputs": {"a": [1.0], "b": [1.0], "c": [1.0]}'),
        400,
        "/inputs/c",
        "no such input",
    ),
    "columns of unequal length": Bad(
        HALF,
        two('"inputs": {"a": [1.0], "b": [1.0, 2.0]}'),
        400,
        "/inputs/b",
        "a batch of 2, expected 1 as in a",
    ),
    # Values.
    "a string for a number": Bad(
        HALF, '{"instances": [1.0, "a"]}', 400, "/instances/1", 'the text "a"'
    ),
    "a number in quotes": Bad(
        HALF, '{"instances": ["1.0"]}', 400, "/instances/0", "expected a number (float)"
    ),
    "null": Bad(HALF, '{"instances": [1.0, null]}', 400, "/instances/1", "null, expected a number"),
    "a boolean for a number": Bad(
        HALF, '{"instances": [true]}', 400, "/instances/0", "true, expected a number"
    ),
    "deep in an image": Bad(
        IMAGE,
        rows(ROW, [[[0.0], [0.0]], [[0.0], ["x"]]]),
        400,
        "/instances/1/1/1/0",
        'the text "x"',
    ),
    "a fraction for an integer": Bad(
        KINDS,
        rows({"i": 1.5, "b": True}),
        400,
        "/instances/0/i",
        "the number 1.5, expected an integer",
    ),
    "an integer too large": Bad(
        KINDS,
        rows({"i": 1, "b": True}, {"i": 2**31, "b": True}),
        400,
        "/instances/1/i",
        "from -2147483648 to",
    ),
    "a number for a boolean": Bad(
        KINDS, rows({"i": 1, "b": 0}), 400, "/instances/0/b", "expected true or false"
    ),
    "bad base64": Bad(
        TEXT, '{"instances": ["ok", {"b64": "!!"}]}', 400, "/instances/1/b64", "expected base64"
    ),
    "b64 is a number": Bad(TEXT, '{"instances": [{"b64": 1}]}', 400, "/instances/0/b64"),
    "b64 with another key": Bad(
        TEXT, '{"instances": ["a", {"b64": "aGk=", "k": 1}]}', 400, "/instances/1", "an object"
    ),
    "a number for a string": Bad(
        TEXT, '{"instances": [1]}', 400, "/instances/0", 'expected text or {"b64"'
    ),
    "half precision": Bad(
        "/v1/models/halves:predict", '{"instances": [1.0]}', 400, "/instances/0", "over gRPC"
    ),
    # Shapes.
    "wrong rank": Bad(
        HALF, '{"instances": [[1.0], [2.0]]}', 400, "/instances/0", "shape (1,), expected ()"
    ),
    "one dimension missing": Bad(
        IMAGE,
        rows([[0.0, 0.0], [0.0, 0.0]]),
        400,
        "/instances/0",
        "one dimension is missing: the last, of 1",
    ),
    "one instance without its list": Bad(
        IMAGE, rows(*ROW), 400, "/instances/0", "this looks like one instance: put it in a list"
    ),
    "a batch in an instance": Bad(
        IMAGE,
        rows([ROW, ROW]),
        400,
        "/instances/0",
        "one list too many: an instance is a single row",
    ),
    "pixels in one row": Bad(
        IMAGE, rows([0.0] * 4), 400, "/instances/0", "shape (4,), expected (2, 2, 1)"
    ),
    "wrong fixed dimension": Bad(
        IMAGE, rows([[[0.0], [0.0]]]), 400, "/instances/0", "shape (1, 2, 1)"
    ),
    "the first row is the odd one": Bad(
        IMAGE, rows(ROW[:1], ROW, ROW), 400, "/instances/0", "expected (2, 2, 1)"
    ),
    "the second row is the odd one": Bad(
        IMAGE, rows(ROW, ROW[:1], ROW), 400, "/instances/1", "expected (2, 2, 1)"
    ),
    "a wrong shape before a wrong value": Bad(
        IMAGE, rows(ROW[:1], "x"), 400, "/instances/0", "shape (1, 2, 1)"
    ),
    "ragged": Bad(
        IMAGE,
        rows(ROW, [[[0.0], [0.0]], [[0.0]]]),
        400,
        "/instances/1/1",
        "a list of 1, expected a list of 2",
    ),
    "ragged in the first row": Bad(
        IMAGE, rows([[[0.0], [0.0]], [[0.0]]]), 400, "/instances/0/1", "a list of 1"
    ),
    "a list for a number": Bad(
        IMAGE, rows([[[0.0], [0.0]], [[0.0], [[0.0]]]]), 400, "/instances/0/1/1/0", "a list of 1"
    ),
    "a number for a list": Bad(
        IMAGE, rows([[[0.0], [0.0]], [[0.0], 0.0]]), 400, "/instances/0/1/1", "the number 0.0"
    ),
    "a column without its batch": Bad(
        IMAGE,
        json.dumps({"inputs": ROW}),
        400,
        "/inputs",
        "one dimension is missing: the first, of 1",
    ),
    "wrong fixed dimension in a column": Bad(
        IMAGE, json.dumps({"inputs": [ROW[:1]]}), 400, "/inputs", "(?, 2, 2, 1)"
    ),
    "an empty column": Bad(IMAGE, '{"inputs": []}', 400, "/inputs", "shape (0,)"),
    "rows of two lengths": Bad(
        "/v1/models/free:predict",
        '{"instances": [[1.0, 2.0], [1.0]]}',
        400,
        "/instances/1",
        "shape (1,)",
    ),
    # classify and regress.
    "no examples": Bad(JUDGE, "{}", 400, "", "no 'examples'"),
    "example for examples": Bad(
        JUDGE, '{"example": [{"v": 1.0}]}', 400, "", "did you mean examples?"
    ),
    "instances for examples": Bad(
        RATE, rows(1.0), 400, "", "instances and inputs are for :predict"
    ),
    "examples is an object": Bad(
        JUDGE, '{"examples": {"v": 1.0}}', 400, "/examples", "expected a list"
    ),
    "empty examples": Bad(
        RATE, '{"signature_name": "rate", "examples": []}', 400, "/examples", "at least one"
    ),
    "an example is a number": Bad(
        JUDGE, '{"examples": [{"v": 1.0}, 1]}', 400, "/examples/1", "an object of features"
    ),
    "a feature is null": Bad(
        JUDGE, '{"examples": [{"v": [1, null]}]}', 400, "/examples/0/v/1", "null"
    ),
    "a feature of two kinds": Bad(
        JUDGE, '{"examples": [{"v": [1.0, "a"]}]}', 400, "/examples/0/v/1"
    ),
    "a context that is none": Bad(
        JUDGE, '{"context": 3, "examples": [{"v": 1.0}]}', 400, "/context"
    ),
    "a feature twice": Bad(
        JUDGE, '{"examples": [{"v": 1.0, "v": 2.0}]}', 400, "/examples/0/v", "twice"
    ),
    "examples twice": Bad(JUDGE, '{"examples": [{}], "examples": [{}]}', 400, "/examples", "twice"),
    "bytes after examples": Bad(JUDGE, '{"examples": [{"v": 1.0}]} x', 400, "", "from byte"),
    "unknown signature to classify": Bad(
        JUDGE, '{"signature_name": "nope", "examples": [{}]}', 400, "/signature_name", "it has "
    ),
    "a signature that takes tensors": Bad(
        "/v1/models/half:classify",
        '{"examples": [{"x": 1.0}]}',
        400,
        "/signature_name",
        "is not for classify",
    ),
    "regress by a classifier": Bad(
        RATE,
        '{"examples": [{"v": 1.0}]}',
        400,
        "/signature_name",
        "is not for regress; for that there is rate",
    ),
    # Whom the call is for.
    "unknown model": Bad(
        "/v1/models/nobody:predict", GOOD, 404, None, "the models are: free, half"
    ),
    "misspelt model": Bad("/v1/models/haff:predict", GOOD, 404, None, "did you mean half?"),
    "unknown model to classify": Bad(
        "/v1/models/nobody:classify", '{"examples": [{}]}', 404, None, "not served here"
    ),
    "unknown version": Bad(
        "/v1/models/half/versions/9:predict", GOOD, 404, None, "available: 1, 2"
    ),
    "version beyond 64 bits": Bad(
        "/v1/models/half/versions/99999999999999999999:predict", GOOD, 400, None, "64 bits"
    ),
    "version of many digits": Bad(
        "/v1/models/half/versions/" + "9" * 5000 + ":predict", GOOD, 400, None, "64 bits"
    ),
    "version that is a word": Bad(
        "/v1/models/half/versions/latest:predict", GOOD, 404, None, "no such path"
    ),
    "unknown label": Bad(
        "/v1/models/half/labels/nightly:predict", GOOD, 400, None, "its labels: stable"
    ),
    "misspelt label": Bad(
        "/v1/models/half/labels/stabel:predict", GOOD, 400, None, "did you mean stable?"
    ),
    "path of nothing": Bad("/v1/models/half:explain", GOOD, 404, None, "no such path"),
    "verb in capitals": Bad("/v1/models/half:PREDICT", GOOD, 404, None, "no such path"),
    "path with a second slash": Bad("/v1//models/half:predict", GOOD, 404, None, "no such path"),
    "model name not utf-8": Bad("/v1/models/%ff:predict", GOOD, 400, None, "not UTF-8"),
    "query string": Bad(HALF + "?x=1", GOOD, 400, None, "query string"),
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "multimodel.config"
    names = ("free", "half", "halves", "image", "judge", "kinds", "text")
    path.write_text(model_list(*names, labels={"half": {"stable": 1}}))
    return path


@pytest.fixture
def backend() -> FakeBackend:
    takes_examples = {"inputs": (STRING, [-1])}
    return FakeBackend(
        models={
            name: {1: Version()} for name in ("free", "halves", "image", "judge", "kinds", "text")
        }
        | {"half": {1: Version(), 2: Version()}},
        signatures={
            "free": {"serving_default": signature({"x": (FLOAT, [-1, -1])})},
            "half": {
                "serving_default": signature({"x": (FLOAT, [-1])}),
                "two": signature({"a": (FLOAT, [-1]), "b": (FLOAT, [-1])}),
            },
            "halves": {"serving_default": signature({"x": (HALF_FLOAT, [-1])})},
            "image": {"serving_default": signature({"image": (FLOAT, [-1, 2, 2, 1])})},
            "judge": {
                "serving_default": signature(takes_examples, outputs=("scores",)),
                "rate": signature(takes_examples, outputs=("outputs",)),
            },
            "kinds": {"serving_default": signature({"i": (INT32, [-1]), "b": (BOOL, [-1])})},
            "text": {"serving_default": signature({"s": (STRING, [-1])})},
        },
    )


@contextlib.asynccontextmanager
async def running(backend: FakeBackend, config: Path) -> AsyncIterator[App]:
    app = gateway(backend, config)
    async with app.core:
        await eventually(lambda: all(m.has_status for m in app.core.catalog.models.values()))
        yield app


def post(backend: FakeBackend, config: Path, path: str, body: bytes, **headers: str) -> Any:
    async def main() -> Any:
        async with running(backend, config) as app:
            return await ask(app, "POST", path, body, headers=headers)

    return asyncio.run(main())


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_is_refused_with_its_place_and_never_reaches_the_backend(
    backend: FakeBackend, config: Path, bad: Bad
) -> None:
    async def main() -> tuple[Any, Any]:
        async with running(backend, config) as app:
            body = bad.body.encode() if isinstance(bad.body, str) else bad.body
            return await ask(app, "POST", bad.path, body), await ask(app, "POST", HALF, GOOD)

    answer, next_one = asyncio.run(main())
    body = answer.json()
    assert answer.status == bad.status, body
    assert set(body) == {"error", "details", "request_id"} and body["error"].isprintable()
    assert bad.said in body["error"]
    assert [d["path"] for d in body["details"] if "path" in d] == (
        [] if bad.place is None else [bad.place]
    ), body
    assert body["request_id"] == answer.headers["x-request-id"]
    assert next_one.status == 200
    assert [body for *_, body in backend.predicts] == [GOOD]


def test_the_corpus_is_large() -> None:
    assert len(BAD) >= 100


def test_details_say_what_was_expected_what_came_and_a_hint(
    backend: FakeBackend, config: Path
) -> None:
    body = post(backend, config, IMAGE, rows(ROW, [[0.0, 0.0], [0.0, 0.0]]).encode()).json()
    assert body["error"].startswith("instances[1]: shape (2, 2), expected (2, 2, 1)")
    assert body["details"] == [
        {
            "path": "/instances/1",
            "kind": "input_shape",
            "expected": "(2, 2, 1)",
            "got": "shape (2, 2)",
            "hint": "one dimension is missing: the last, of 1",
            "place": "instances[1]",
        }
    ]


def test_who_accepts_problem_json_gets_it(backend: FakeBackend, config: Path) -> None:
    answer = post(backend, config, HALF, b'{"instances": ["a"]}', Accept="application/problem+json")
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (
        (body["type"], body["title"], body["status"])
        == ("about:blank", "Bad Request", 400)
        == (
            body["type"],
            body["title"],
            answer.status,
        )
    )
    assert (
        body["detail"].startswith("instances[0]") and body["details"][0]["path"] == "/instances/0"
    )
    assert body["request_id"] == answer.headers["x-request-id"]
