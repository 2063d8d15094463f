"""The gRPC load: one prepared call over one channel, so many under way at once."""

from __future__ import annotations

import asyncio
import time

import grpc
import grpc.aio

from benchmarks.load import Load
from headrace.protocol import messages


def drive_grpc(port: int, request: bytes, *, under_way: int, seconds: float) -> Load:
    return asyncio.run(_drive(port, request, under_way, seconds))


async def _drive(port: int, request: bytes, under_way: int, seconds: float) -> Load:
    done = failed = 0
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(messages.PREDICT.path)
        await call(
            request, timeout=30, wait_for_ready=True
        )  # the connection is there before the clock runs
        started = time.perf_counter()

        async def caller() -> None:
            nonlocal done, failed
            while time.perf_counter() - started < seconds:
                try:
                    await call(request, timeout=10)
                except grpc.aio.AioRpcError:
                    failed += 1
                done += 1

        await asyncio.gather(*(caller() for _ in range(under_way)))
        return Load(done, time.perf_counter() - started, failed, "grpc.aio")
