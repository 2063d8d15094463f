"""The REST door with a backend in memory: what goes through, what comes back, what never reaches
the backend."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gateway import routes
from gateway.app import App
from gateway.upstream.base import Reply
from headrace.protocol import messages
from tests.unit.gateway_backend import (
    Answer,
    FakeBackend,
    Version,
    ask,
    eventually,
    gateway,
    model_list,
    signature,
)

HALF = "/v1/models/half:predict"
GOOD = b'{"instances": [1.0, 2.0]}'
FLOAT, STRING = 1, 7


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "multimodel.config"
    path.write_text(model_list("half", "image", "text", labels={"half": {"stable": 1}}))
    return path


@pytest.fixture
def backend():
    return FakeBackend(
        models={
            "half": {1: Version(), 2: Version()},
            "image": {1: Version()},
            "text": {1: Version()},
        },
        signatures={
            "half": {
                "serving_default": signature({"x": (FLOAT, [-1])}),
                "two": signature({"a": (FLOAT, [-1]), "b": (FLOAT, [-1])}),
            },
            "image": {"serving_default": signature({"image": (FLOAT, [-1, 2, 2, 1])})},
            "text": {"serving_default": signature({"s": (STRING, [-1])})},
        },
    )


@contextlib.asynccontextmanager
async def running(backend: FakeBackend, config: Any, **changes: Any) -> AsyncIterator[App]:
    app = gateway(backend, config, **changes)
    async with app.core:
        await eventually(
            lambda: all(m.has_status for m in app.core.catalog.models.values()) or backend.down
        )
        yield app


def run(
    backend: FakeBackend, config: Any, work: Callable[[App], Awaitable[Any]], **changes: Any
) -> Any:
    async def main() -> Any:
        async with running(backend, config, **changes) as app:
            return await work(app)

    return asyncio.run(main())


def post(
    backend: FakeBackend,
    config: Any,
    path: str,
    body: Any = GOOD,
    *,
    headers: Any = None,
    **changes: Any,
) -> Answer:
    return run(
        backend, config, lambda app: ask(app, "POST", path, body, headers=headers), **changes
    )


def test_a_good_call_reaches_its_pinned_version_untouched_and_the_answer_comes_back_untouched(
    backend, config
):
    body = b' {"instances" :[1.00, 2e0]}'
    answer = post(backend, config, HALF, body, headers={"X-Request-Id": "abc-1"})
    assert (answer.status, answer.body) == (200, backend.answer.body)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"] == "abc-1"
    assert backend.predicts == [("half", 2, body)]


@pytest.mark.parametrize("which", ["/versions/1", "/labels/stable", "/Versions/1"])
def test_an_explicit_version_or_label_goes_to_that_version(backend, config, which):
    assert post(backend, config, f"/v1/models/half{which}:predict").status == 200
    assert backend.predicts[0][1] == 1


def test_a_request_id_that_could_break_a_header_is_replaced(backend, config):
    answer = post(backend, config, HALF, headers={"X-Request-Id": 'a b"'})
    assert len(answer.headers["x-request-id"]) == 16


def test_gzip_is_checked_and_forwarded_inflated(backend, config):
    answer = post(backend, config, HALF, gzip.compress(GOOD), headers={"Content-Encoding": "gzip"})
    assert answer.status == 200
    assert backend.predicts[0][2] == GOOD


def test_a_big_body_is_checked_in_a_thread_with_the_same_outcome(backend, config):
    assert post(backend, config, HALF, thread_body_bytes=0).status == 200
    assert post(backend, config, HALF, b'{"instances": [[1]]}', thread_body_bytes=0).status == 400


IMAGE = "/v1/models/image:predict"
ROW = [[[0.0], [0.0]], [[0.0], [0.0]]]


def _rows(*rows: Any) -> bytes:
    return json.dumps({"instances": rows}).encode()


def test_a_wrong_shape_is_told_in_numbers(backend, config):
    told = post(backend, config, IMAGE, _rows(ROW, [[[0.0], [0.0]]])).json()
    assert "instances[1]" in told["error"]
    assert "(2, 2, 1)" in told["error"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
def test_other_methods_are_told_the_right_one(backend, config, method):
    answer = run(backend, config, lambda app: ask(app, method, HALF))
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert "error" in answer.json()


def test_a_body_over_the_limit_is_refused_before_it_is_read(backend, config):
    async def work(app: App) -> tuple[Any, ...]:
        declared = await ask(
            app, "POST", HALF, GOOD, headers={"Content-Length": "1001", "Expect": "100-continue"}
        )
        streamed = await ask(app, "POST", HALF, [b"x" * 400] * 3)
        inflated = await ask(
            app, "POST", HALF, gzip.compress(b" " * 10**6), headers={"Content-Encoding": "gzip"}
        )
        return declared, streamed, inflated

    for answer in run(backend, config, work, max_body_bytes=1000):
        assert answer.status == 413
        assert "larger than 1000 bytes" in answer.json()["error"]
        assert answer.headers["connection"] == "close"
    assert backend.predicts == []


@pytest.mark.parametrize(
    ("body", "encoding", "status", "said"),
    [
        (gzip.compress(GOOD)[:-6], "gzip", 400, "cut short"),
        (gzip.compress(GOOD)[:-8] + b"\0" * 8, "gzip", 400, "broken"),
        (gzip.compress(GOOD) * 2, "gzip", 400, "bytes follow"),
        (GOOD, "gzip", 400, "broken"),
        (GOOD, "br", 415, "not supported"),
    ],
    ids=["cut", "checksum", "two members", "not gzip", "brotli"],
)
def test_a_body_that_does_not_inflate_is_refused(backend, config, body, encoding, status, said):
    answer = post(backend, config, HALF, body, headers={"Content-Encoding": encoding})
    assert answer.status == status and said in answer.json()["error"]
    assert backend.predicts == []


def test_lenient_models_get_shapes_through_but_not_names_or_dtypes(backend, config):
    assert (
        post(
            backend, config, HALF, b'{"instances": [[1.0], [2.0]]}', lenient_models=("half",)
        ).status
        == 200
    )
    assert (
        post(backend, config, HALF, b'{"instances": ["a"]}', lenient_models=("half",)).status == 400
    )
    assert (
        post(backend, config, HALF, b'{"instances": [{"z": 1.0}]}', lenient_models=("half",)).status
        == 400
    )


def test_backend_down_is_503_and_readiness_knows_at_once(backend, config):
    async def work(app: App) -> Answer:
        backend.down = True
        answer = await ask(app, "POST", HALF, GOOD)
        assert not app.core.health.up
        return answer

    answer = run(backend, config, work, probe_s=60)
    assert answer.status == 503
    assert "cannot be reached" in answer.json()["error"]


def test_backend_never_there_is_503_with_the_reason(backend, config):
    async def work(app: App) -> Answer:
        await eventually(lambda: "cannot be reached" in app.core.health.reason)
        return await ask(app, "POST", HALF, GOOD)

    backend.down = True
    answer = run(backend, config, work)
    assert answer.status == 503
    assert (
        "does not answer: the serving backend at fake cannot be reached" in answer.json()["error"]
    )


def test_every_503_says_when_to_come_again(backend, config):
    backend.models["text"] = {1: Version("LOADING")}
    text = "/v1/models/text:predict"

    async def work(app: App) -> list[Answer]:
        await eventually(lambda: app.core.readiness().models)
        answers = [
            await ask(app, "POST", text, b'{"instances": ["a"]}'),
            await ask(app, "GET", "/readyz?model=text"),
        ]
        backend.answer = Reply(503, "application/json", b'{"error": "the queue is full"}')
        answers.append(await ask(app, "POST", HALF, GOOD))
        backend.down = True
        answers.append(await ask(app, "POST", HALF, GOOD))
        answers.append(await ask(app, "GET", "/v1/models/half"))
        return [*answers, await ask(app, "GET", "/readyz")]

    answers = run(backend, config, work)
    assert [answer.status for answer in answers] == [503] * 6
    assert [answer.headers.get("retry-after") for answer in answers] == ["1"] * 6
    assert "retry-after" not in post(FakeBackend(), config, HALF).headers  # 404


@pytest.mark.parametrize(
    ("which", "version"), [("", "2"), ("/versions/1", "1"), ("/labels/stable", "1")]
)
def test_an_answer_names_the_version_that_gave_it(backend, config, which, version):
    path = f"/v1/models/half{which}:predict"
    assert post(backend, config, path).headers["headrace-model-version"] == version
    refused = post(backend, config, path, b'{"instances": ["a"]}')
    assert (refused.status, refused.headers["headrace-model-version"]) == (400, version)
    backend.answer = Reply(400, "application/json", b'{"error": "x must be positive"}')
    assert post(backend, config, path).headers["headrace-model-version"] == version


def test_metadata_and_schema_name_their_version_and_an_answer_about_none_names_none(
    backend, config
):
    async def work(app: App) -> list[str | None]:
        paths = [
            "/v1/models/half/metadata",
            "/v1/models/half/schema",
            "/v1/models/half",
            "/v1/models/nobody/schema",
        ]
        return [
            (await ask(app, "GET", path)).headers.get("headrace-model-version") for path in paths
        ]

    assert run(backend, config, work) == ["2", "2", None, None]


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/predict", 404, routes.NO_SUCH_PATH),
        ("POST", "/v1", 404, routes.NO_SUCH_PATH),
        ("GET", "/docs/nothing", 404, routes.NO_SUCH_PATH),
        ("POST", "/v1/models", 404, routes.NO_SUCH_PATH),
        ("GET", "/v1/nothing", 404, routes.NO_SUCH_PATH),
        ("POST", "/readyz", 405, "POST is not served on this path; GET is"),
        ("GET", HALF, 405, "GET is not served on this path; POST is"),
    ],
)
def test_a_path_that_is_not_there_is_told_with_those_that_are(
    backend, config, method, path, status, said
):
    answer = run(
        backend, config, lambda app: ask(app, method, path, headers={"X-Request-Id": "abc-1"})
    )
    assert answer.status == status
    assert answer.json() == {"error": said, "details": [], "request_id": "abc-1"}
    assert answer.headers["x-request-id"] == "abc-1"
    assert ("allow" in answer.headers) is (status == 405)


def test_the_paths_that_are_told_are_the_paths_that_are_there(backend, config):
    app = gateway(backend, config)
    there = {route.path for route in app.fastapi.routes}
    told = set(
        re.findall(r"/[a-z0-9/.]+(?=, | and |$)", routes.NO_SUCH_PATH.partition("and GET")[2])
    )
    assert told == {
        path for path in there if "{" not in path and path.count("/") < 2 and path != "/"
    } | {"/v1/models"}


def test_backend_slow_is_504_at_the_deadline(backend, config):
    async def work(app: App) -> Answer:
        backend.delay_s = 5
        return await ask(app, "POST", HALF, GOOD)

    answer = run(backend, config, work, timeout_s=0.05)
    assert answer.status == 504
    assert "did not answer within 0.0" in answer.json()["error"]


def test_a_body_that_never_arrives_is_408(backend, config):
    async def work(app: App) -> Answer:
        async def stalled() -> Any:
            if not started:
                started.append(1)
                return {"type": "http.request", "body": b"{", "more_body": True}
            await asyncio.sleep(5)

        started: list[int] = []
        sent: list[Any] = []
        scope = {
            "type": "http",
            "method": "POST",
            "path": HALF,
            "raw_path": HALF.encode(),
            "query_string": b"",
            "headers": [(b"expect", b"x")],
        }

        async def send(message: Any) -> None:
            sent.append(message)

        await app(scope, stalled, send)
        return sent

    assert run(backend, config, work, body_s=0.05)[0]["status"] == 408


def test_a_graphs_own_404_is_told_and_not_sent_again(backend, config):
    backend.answer = Reply(404, "application/json", b'{"error": "no row 7 in the table"}')

    async def work(app: App) -> Answer | None:
        return await ask(app, "POST", HALF, GOOD)

    answer = run(backend, config, work)
    assert (answer.status, answer.json()["error"]) == (404, "no row 7 in the table")
    assert len(backend.predicts) == 1


def test_a_caller_that_hangs_up_cancels_the_call_upstream(backend, config):
    async def work(app: App) -> Answer | None:
        backend.delay_s = 5
        hang_up = asyncio.Event()
        call = asyncio.create_task(ask(app, "POST", HALF, GOOD, hang_up=hang_up))
        await asyncio.sleep(0.05)
        hang_up.set()
        return await asyncio.wait_for(call, 2)

    assert run(backend, config, work, probe_s=60, refresh_s=60) is None
    assert backend.cancelled.count("/v1/models/half/versions/2:predict") == 1


def test_a_pinned_version_that_is_gone_is_looked_up_and_the_call_sent_once_more(backend, config):
    async def work(app: App) -> Answer:
        assert app.core.catalog.models["half"].latest.version == 2
        backend.models["half"] = {3: Version()}
        return await ask(app, "POST", HALF, GOOD)

    answer = run(backend, config, work, probe_s=60, refresh_s=60)
    assert answer.status == 200
    assert backend.predicts == [("half", 3, GOOD)]


def test_the_second_check_is_against_the_new_versions_signature(backend, config):
    async def work(app: App) -> Answer:
        backend.models["half"] = {3: Version()}
        backend.signatures["half"] = {"serving_default": signature({"x": (STRING, [-1])})}
        return await ask(app, "POST", HALF, GOOD)

    answer = run(backend, config, work, probe_s=60, refresh_s=60)
    assert answer.status == 400
    assert backend.predicts == []


def test_an_explicit_version_that_is_gone_is_404(backend, config):
    async def work(app: App) -> Answer:
        backend.models["half"] = {2: Version()}
        return await ask(app, "POST", "/v1/models/half/versions/1:predict", GOOD)

    answer = run(backend, config, work, probe_s=60, refresh_s=60)
    assert answer.status == 404 and "no version 1 here; available: 2" in answer.json()["error"]


def test_a_version_published_a_moment_ago_is_found_on_the_first_call(backend, config):
    async def work(app: App) -> Answer:
        backend.models["half"][7] = Version()
        return await ask(app, "POST", "/v1/models/half/versions/7:predict", GOOD)

    assert run(backend, config, work, probe_s=60, refresh_s=60).status == 200


def test_backend_errors_keep_their_status_and_lose_the_graphs_names(backend, config):
    text = "{{function_node __inference_f_12}} x must be positive\n\t [[{{node assert/Assert}}]]"
    backend.answer = Reply(400, "application/json", json.dumps({"error": text}).encode())
    answer = post(backend, config, HALF)
    assert answer.status == 400
    assert answer.json() == {
        "error": "x must be positive",
        "details": [],
        "request_id": answer.headers["x-request-id"],
    }


def test_metadata_never_runs_ahead_of_what_calls_are_checked_against(backend, config):
    async def work(app: App) -> tuple[Answer, Answer]:
        backend.signatures["half"]["serving_default"] = signature({"z": (1, [-1])})
        backend.models["half"] = {3: Version()}
        metadata = await ask(app, "GET", "/v1/models/half/metadata")
        return metadata, await ask(app, "POST", HALF, b'{"inputs": {"z": [1.0]}}')

    metadata, answer = run(backend, config, work, refresh_s=60.0)
    assert metadata.json()["model_spec"]["version"] == "3"
    assert answer.status == 200, answer.body
    assert [(m, v) for m, v, _ in backend.predicts] == [("half", 3)]


def test_status_and_metadata_pass_through_for_configured_models_only(backend, config):
    async def work(app: App) -> list[int]:
        paths = [
            "/v1/models/half",
            "/v1/models/half/versions/1",
            "/v1/models/half/metadata",
            "/v1/models/nobody",
        ]
        backend.asked.clear()
        return [(await ask(app, "GET", path)).status for path in paths]

    assert run(backend, config, work, probe_s=60, refresh_s=60) == [200, 200, 200, 404]
    assert [a for a in backend.asked if a.startswith("GET")] == [
        "GET /v1/models/half",
        "GET /v1/models/half/versions/1",
        "GET /v1/models/half/metadata",
    ]


def test_a_model_that_failed_to_load_is_not_asked_after_more_often_than_the_others(backend, config):
    backend.models["text"] = {1: Version("END", "corrupt")}

    async def work(app: App) -> int:
        await eventually(lambda: app.core.readiness().ready)
        before = len(backend.asked)
        await asyncio.sleep(0.3)  # a dozen probes' time
        return sum(path == messages.GET_MODEL_STATUS.path for path in backend.asked[before:])

    probes = run(backend, config, work, probe_s=0.025, refresh_s=60)
    assert (
        probes <= 12 + 3
    )  # one a probe; looks at three models each time would be four times as many


def test_the_list_of_models(backend, config):
    listed = run(backend, config, lambda app: ask(app, "GET", "/v1/models")).json()["models"]
    half = next(m for m in listed if m["name"] == "half")
    assert (half["state"], half["default_version"], half["labels"]) == (
        "AVAILABLE",
        2,
        {"stable": 1},
    )
    assert half["signatures"]["two"]["inputs"]["b"] == {"dtype": "float", "shape": [-1]}


def test_readyz_and_livez(backend, config):
    async def work(app: App) -> None:
        await eventually(lambda: app.core.readiness().ready)
        assert (await ask(app, "GET", "/readyz")).status == 200
        assert (await ask(app, "GET", "/readyz?model=half")).status == 200
        assert (await ask(app, "GET", "/readyz?model=nobody")).status == 404
        backend.down = True
        await eventually(lambda: not app.core.readiness().ready, within_s=1)
        answer = await ask(app, "GET", "/readyz")
        assert answer.status == 503 and "cannot be reached" in answer.json()["reason"]
        assert (await ask(app, "GET", "/livez")).status == 200
        backend.down = False
        await eventually(lambda: app.core.readiness().ready, within_s=1)

    run(backend, config, work)


def test_an_idle_gateway_asks_once_a_second_and_tells_of_readiness_as_it_is_now(backend, config):
    async def work(app: App) -> int:
        await eventually(lambda: app.core.readiness().ready)
        await asyncio.sleep(1.2)  # nobody asks any more
        before = len(backend.asked)
        await asyncio.sleep(1.5)
        asked = len(backend.asked) - before
        backend.down = True
        assert (await ask(app, "GET", "/readyz")).status == 503
        backend.down = False
        await eventually(lambda: app.core.readiness().ready, within_s=1)
        return asked

    assert (
        2 <= run(backend, config, work, probe_s=0.05, refresh_s=60) <= 4
    )  # both ports once or twice


def test_metrics_count_by_model_and_never_by_junk(backend, config):
    async def work(app: App) -> str:
        await ask(app, "POST", HALF, GOOD)
        await ask(app, "POST", "/v1/models/junk-7f3a:predict", GOOD)
        await ask(app, "POST", HALF, b'{"signature_name": "junk-7f3a", "instances": [1.0]}')
        return (await ask(app, "GET", "/metrics")).body.decode()

    text = run(backend, config, work)
    assert (
        'requests_total{code="200",door="rest",model="half",'
        'signature="serving_default",version="2"} 1.0' in text
    )
    assert (
        'requests_total{code="404",door="rest",model="unknown",'
        'signature="unknown",version="unknown"} 1.0' in text
    )
    assert (
        'requests_total{code="400",door="rest",model="half",signature="unknown",version="2"} 1.0'
        in text
    )
    assert "headrace_gateway_in_flight 0.0" in text and "junk" not in text


def test_docs_work_without_a_cdn_and_show_the_predict_path(backend, config):
    async def work(app: App) -> None:
        page = (await ask(app, "GET", "/docs")).body.decode()
        assert "cdn" not in page
        assert (await ask(app, "GET", "/docs/swagger-ui-bundle.js")).status == 200
        document = (await ask(app, "GET", "/openapi.json")).json()
        operation = document["paths"]["/v1/models/half:predict"]["post"]
        assert operation["requestBody"]["content"]["application/json"]["schema"]
        assert set(operation["responses"]) >= {"200", "400", "404", "413", "503", "504"}

    run(backend, config, work)


def test_the_access_log_is_one_json_line_a_request(backend, config, capsys):
    post(backend, config, HALF, headers={"X-Request-Id": "abc"}, access_log=True)
    line = json.loads(capsys.readouterr().err.strip())
    assert (line["event"], line["request_id"], line["path"], line["status"]) == (
        "request",
        "abc",
        HALF,
        200,
    )
    assert line["version"] == "2" and line["duration_ms"] >= 0
