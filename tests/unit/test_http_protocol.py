"""The protocol between httptools and an ASGI app: one write an answer, and everything else as
uvicorn has it."""

import asyncio
import socket
import threading

import pytest
import uvicorn

from headrace.http.protocol import HttpProtocol


async def app(scope, receive, send):
    async def answer(body, *headers, length=None):
        size = str(len(body) if length is None else length).encode()
        start = {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", size), *headers],
        }
        await send(start)
        await send({"type": "http.response.body", "body": body})

    match scope["path"]:
        case "/echo":
            body = b""
            while True:
                message = await receive()
                body += message["body"]
                if not message["more_body"]:
                    break
            await answer(
                body, (b"x-query", scope["query_string"] or b"-"), (b"x-raw", scope["raw_path"])
            )
        case "/pieces":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for part in (b"one", b"two"):
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        case "/close":
            await answer(b"bye", (b"connection", b"close"))
        case "/raises":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise RuntimeError("after the head")
        case "/splits":
            await answer(b"x", (b"x-id", b"a\r\nset-cookie: b"))
        case "/wrong":
            await answer(b"four", length=9)
        case path:
            await answer(path.encode())


@pytest.fixture
def port():
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=HttpProtocol, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(10)
    listener.close()
    assert not thread.is_alive()


def talk(port, *requests):
    """Everything that comes back until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
        for request in requests:
            s.sendall(request)
        return b"".join(iter(lambda: s.recv(65536), b""))


def request(path, *, method="GET", body=b"", headers=(), version="1.1"):
    lines = [
        f"{method} {path} HTTP/{version}",
        "Host: h",
        *headers,
        f"Content-Length: {len(body)}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


LAST = ("Connection: close",)


def test_a_body_in_pieces_arrives_whole_and_the_query_apart(port):
    whole = request("/echo?a=1", method="POST", body=b"x" * 200_000, headers=LAST)
    answer = talk(port, whole[:50], whole[50:100_000], whole[100_000:])
    assert answer.count(b"x" * 200_000) == 1
    assert b"x-query: a=1\r\n" in answer and b"x-raw: /echo\r\n" in answer


def test_pipelined_requests_are_answered_in_order(port):
    many = b"".join(request(f"/n{i}") for i in range(20)) + request("/last", headers=LAST)
    answer = talk(port, many)
    places = [answer.index(f"\r\n\r\n/n{i}HTTP".encode()) for i in range(20)]
    assert places == sorted(places) and answer.endswith(b"/last")


def test_chunked_bodies_are_read(port):
    head = (
        b"POST /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert talk(port, head, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n").endswith(b"\r\n\r\nabcde")


def test_an_answer_in_pieces_is_chunked(port):
    answer = talk(port, request("/pieces", headers=LAST))
    assert b"transfer-encoding: chunked" in answer and answer.endswith(
        b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    )


def test_head_has_no_body(port):
    answer = talk(port, request("/some", method="HEAD", headers=LAST))
    assert b"content-length: 5" in answer and answer.endswith(b"\r\n\r\n")


def test_http_1_0_is_closed_after_the_answer(port):
    answer = talk(port, request("/old", version="1.0"))
    assert b"connection: close" in answer and answer.endswith(b"/old")


def test_the_app_may_close(port):
    answer = talk(port, request("/close"))
    assert answer.count(b"connection: close") == 1 and answer.endswith(b"bye")


def test_100_continue_is_said_before_the_body_is_read(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
        head = request(
            "/echo", method="POST", body=b"12345", headers=("Expect: 100-continue", *LAST)
        )[:-5]
        s.sendall(head)
        assert s.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(b"12345")
        assert b"".join(iter(lambda: s.recv(65536), b"")).endswith(b"12345")


@pytest.mark.parametrize("path", ["/raises", "/splits", "/wrong"])
def test_a_faulty_answer_is_an_error_and_not_sent(port, path):
    answer = talk(port, request(path, headers=LAST))
    assert b"set-cookie" not in answer.lower()
    assert answer.startswith(b"HTTP/1.1 500 ") or not answer.endswith(b"0\r\n\r\n")
