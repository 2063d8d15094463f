"""The REST upstream against sockets that misbehave in every way a backend can."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc.aio
import pytest
import uvloop

from gateway.errors import BackendDown
from gateway.upstream.address import Address
from gateway.upstream.base import CutOff, GrpcChannel
from gateway.upstream.http1 import Pool
from headrace.protocol.errors import DeadlineExceeded, HeadraceError, Unavailable

LIMIT = 2**20
run = uvloop.run  # the loop the gateway runs on; its transports are not asyncio's

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(talk: Talk) -> AsyncIterator[int]:
    talks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the gateway's side is closed: that ends every talk
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        async with asyncio.timeout(5):
            for _ in range(10):  # the turns of the loop from an accepted connection to its talk
                await asyncio.sleep(0)
            await asyncio.gather(*talks)


@contextlib.asynccontextmanager
async def backend(talk: Talk, *, connections: int = 4) -> AsyncIterator[Pool]:
    async with listening(talk) as port:
        upstream = Pool(
            Address("127.0.0.1", port),
            connections=connections,
            connect_timeout_s=1,
            max_answer_bytes=LIMIT,
        )
        try:
            yield upstream
        finally:
            await upstream.close()


async def head_of(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            head += await reader.readexactly(int(line.split(b":")[1]))
    return head


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def test_the_body_travels_untouched_under_our_own_head():
    seen: list[bytes] = []

    async def talk(reader, writer):
        while True:
            seen.append(await head_of(reader))
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\nok"
            )

    async def main():
        async with backend(talk) as upstream:
            for _ in range(2):
                reply = await upstream.send(
                    "POST", "/v1/models/a%2Fb/versions/1:predict", b"\x00{ }", timeout_s=5
                )
                assert reply == (200, "application/json", b"ok")

    run(main())
    head, _, body = seen[0].partition(b"\r\n\r\n")
    names = {line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:]}
    assert head.startswith(b"POST /v1/models/a%2Fb/versions/1:predict HTTP/1.1\r\n")
    assert body == b"\x00{ }"
    assert names == {b"host", b"content-type", b"content-length"}
    assert len(seen) == 2


def test_a_body_of_megabytes_arrives_whole():
    body = bytes(range(256)) * 2**13 + b"end"
    seen: list[bytes] = []

    async def talk(reader, writer):
        seen.append(await head_of(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def main():
        async with backend(talk) as upstream:
            await upstream.send("POST", "/x", body, timeout_s=5)

    run(main())
    assert seen[0].partition(b"\r\n\r\n")[2] == body


def test_connections_are_kept():
    connections = 0

    async def talk(reader, writer):
        nonlocal connections
        connections += 1
        while True:
            await head_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def main():
        async with backend(talk) as upstream:
            for _ in range(5):
                await upstream.send("POST", "/x", b"{}", timeout_s=5)

    run(main())
    assert connections == 1


async def _silent(reader, writer):
    while await reader.read(1024):
        pass


async def _hangs_up(reader, writer):
    await head_of(reader)


async def _half_an_answer(reader, writer):
    await head_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")


async def _garbage(reader, writer):
    await head_of(reader)
    writer.write(b"\x16\x03\x01garbage\r\n\r\n")


@pytest.mark.parametrize(
    ("talk", "error", "said"),
    [
        (_silent, DeadlineExceeded, "did not answer within 0.2 s"),
        (_hangs_up, Unavailable, "closed the connection before its answer was complete"),
        (_half_an_answer, Unavailable, "closed the connection before its answer was complete"),
        (_garbage, Unavailable, "not valid HTTP"),
    ],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_what_goes_wrong_has_a_name(talk, error, said):
    async def main():
        async with backend(talk) as upstream:
            with pytest.raises(error, match=said) as told:
                await upstream.send("POST", "/x", b"{}", timeout_s=0.2 if talk is _silent else 5)
            assert not isinstance(told.value, BackendDown)

    run(main())


OK = (200, "application/json", b"ok")


@pytest.mark.parametrize(
    ("answer", "expected", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", OK, True),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\nX: "
            b"y\r\n\r\n",
            OK,
            True,
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", OK, True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, "application/json", b""), True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", OK, False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", OK, False),
    ],
    ids=["length", "chunked", "interim", "no body", "close", "http 1.0"],
)
def test_answers_are_read_exactly_and_only_clean_connections_are_kept(answer, expected, kept):
    connections = 0

    async def talk(reader, writer):
        nonlocal connections
        connections += 1
        while True:
            await head_of(reader)
            writer.write(answer)

    async def main():
        async with backend(talk) as upstream:
            for _ in range(3):
                assert await upstream.send("POST", "/x", b"{}", timeout_s=5) == expected

    run(main())
    assert connections == (1 if kept else 3)


def test_without_a_length_the_end_of_the_connection_ends_the_answer():
    async def talk(reader, writer):
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\no")
        await writer.drain()
        await asyncio.sleep(0.01)
        writer.write(b"k")

    async def main():
        async with backend(talk) as upstream:
            for _ in range(2):
                assert await upstream.send("GET", "/x", None, timeout_s=5) == OK

    run(main())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: "
        b"chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: "
        b"3\r\n\r\nbad",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (LIMIT + 1),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 20,
    ],
    ids=[
        "two lengths",
        "length and chunked",
        "gzip transfer",
        "bare LF",
        "negative length",
        "bad chunk size",
        "a second answer",
        "bytes after the answer",
        "upgrade",
        "huge head",
        "interim answers without end",
        "too long",
        "too long in chunks",
    ],
)
def test_answers_that_cannot_be_trusted_are_refused(answer):
    async def talk(reader, writer):
        await head_of(reader)
        writer.write(answer)
        await reader.read()

    async def main():
        async with backend(talk) as upstream:
            with pytest.raises(CutOff):
                await upstream.send("POST", "/x", b"{}", timeout_s=5)

    run(main())


def test_bytes_nobody_asked_for_end_the_connection():
    asked = asyncio.Event()
    connections = 0

    async def talk(reader, writer):
        nonlocal connections
        connections += 1
        while True:
            await head_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            if connections == 1:
                await asked.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
                assert await reader.read() == b""

    async def main():
        async with backend(talk) as upstream:
            assert await upstream.send("POST", "/x", b"{}", timeout_s=5) == OK
            asked.set()
            await asyncio.sleep(0.05)
            assert await upstream.send("POST", "/x", b"{}", timeout_s=5) == OK

    run(main())
    assert connections == 2


def test_an_answer_before_the_body_was_read_ends_the_connection():
    connections = 0

    async def talk(reader, writer):
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        await asyncio.sleep(0.05)

    async def main():
        async with backend(talk) as upstream:
            for _ in range(2):
                reply = await upstream.send("POST", "/x", bytes(2**25), timeout_s=5)
                assert reply == (413, "application/json", b"no")

    run(main())
    assert connections == 2


def test_calls_beyond_the_limit_wait_in_line_and_not_past_their_deadline():
    go = asyncio.Event()

    async def talk(reader, writer):
        while True:
            await head_of(reader)
            await go.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def main():
        async with backend(talk, connections=1) as upstream:
            first = asyncio.create_task(upstream.send("POST", "/x", b"{}", timeout_s=5))
            await asyncio.sleep(0)
            given_up = asyncio.create_task(upstream.send("POST", "/x", b"{}", timeout_s=5))
            with pytest.raises(DeadlineExceeded, match=r"busy for 0\.05 s"):
                await upstream.send("POST", "/x", b"{}", timeout_s=0.05)
            given_up.cancel()
            last = asyncio.create_task(upstream.send("POST", "/x", b"{}", timeout_s=5))
            go.set()
            assert await first == await last == OK

    run(main())


def test_a_unix_socket(tmp_path):
    async def talk(reader, writer):
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    async def main():
        path = tmp_path / "rest.sock"
        server = await asyncio.start_unix_server(talk, path)
        upstream = Pool(Address.parse(f"unix:{path}"), connections=1, connect_timeout_s=1)
        try:
            assert await upstream.send("GET", "/x", None, timeout_s=5) == OK
            server.close()
            path.unlink(missing_ok=True)
            await asyncio.sleep(0.02)  # the turn of the loop that tells of the closed connection
            with pytest.raises(BackendDown, match=r"rest\.sock cannot be reached"):
                await upstream.send("GET", "/x", None, timeout_s=5)
        finally:
            await upstream.close()

    run(main())


def test_nobody_there_is_known_at_once():
    async def main():
        upstream = Pool(Address("127.0.0.1", free_port()), connections=1, connect_timeout_s=1)
        try:
            with pytest.raises(BackendDown, match="cannot be reached: connect"):
                await upstream.send("POST", "/x", b"{}", timeout_s=5)
        finally:
            await upstream.close()

    run(main())


def test_cancelling_closes_the_connection():
    closed = asyncio.Event()

    async def talk(reader, writer):
        await head_of(reader)
        assert await reader.read() == b""
        closed.set()

    async def main():
        async with backend(talk) as upstream:
            call = asyncio.create_task(upstream.send("POST", "/x", b"{}", timeout_s=5))
            await asyncio.sleep(0.05)
            call.cancel()
            await asyncio.wait([call])
            async with asyncio.timeout(5):
                await closed.wait()

    run(main())


def test_grpc_nobody_there_is_known_and_so_is_the_return():
    async def main():
        port = free_port()
        channel = GrpcChannel(f"127.0.0.1:{port}")
        try:
            with pytest.raises(BackendDown, match="cannot be reached"):
                await channel.call("/a.B/C", b"", timeout_s=5)
            server = grpc.aio.server()
            server.add_insecure_port(f"127.0.0.1:{port}")
            await server.start()
            async with asyncio.timeout(2):
                while True:
                    try:
                        await channel.call("/a.B/C", b"", timeout_s=1)
                    except BackendDown:
                        await asyncio.sleep(0.02)
                    except HeadraceError as e:
                        assert e.status_name == "UNIMPLEMENTED"
                        break
            await server.stop(0)
        finally:
            await channel.close()

    run(main())


def test_grpc_deadline():
    async def main():
        async with listening(_silent) as port:
            channel = GrpcChannel(f"127.0.0.1:{port}")
            try:
                with pytest.raises((DeadlineExceeded, Unavailable)):
                    await channel.call("/a.B/C", b"", timeout_s=0.2)
            finally:
                await channel.close()

    run(main())
