"""`python -m gateway --check`: what a start would find, line by line, and what to do next.

Opens no port.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gateway.contracts.catalog import Catalog
from gateway.core import Core
from gateway.probes import failure_of
from gateway.settings import Settings
from gateway.upstream.address import Address
from gateway.upstream.base import GrpcChannel
from gateway.upstream.http1 import Pool
from headrace.protocol import messages
from headrace.protocol.errors import ConfigError
from headrace.settings import variable
from headrace.store import model_list

# For the signatures of the models.
_TIMEOUT_S = 5.0


def run(settings: Settings) -> int:
    """0 = all is well, 1 = the backend does not answer as it should, 2 = the model list is
    wrong."""
    path = Path(settings.model_config_file)
    try:
        names = [model.name for model in model_list.load(path).models]
    except ConfigError as error:
        print(f"gateway: {error}", file=sys.stderr)
        if path.is_file():
            print("next: mend that line", file=sys.stderr)
        else:
            setting = variable("model_config_file")
            print(f"next: make up renders it; {setting} names another", file=sys.stderr)
        return 2
    print(f"settings are good; {len(names)} models: {', '.join(sorted(names)) or 'none'}")
    for name in settings.lenient_models:
        if name not in names:
            print(f'{variable("lenient_models")} names "{name}", which is not in the model list')
    return asyncio.run(_check_backend(settings))


async def _check_backend(settings: Settings) -> int:
    all_answer = True
    for rest, grpc in zip(settings.upstream_rest, settings.upstream_grpc, strict=True):
        if not await _answers(settings, rest, grpc):
            all_answer = False
    if not all_answer:
        where = f"{variable('upstream_rest')} and {variable('upstream_grpc')}"
        return _next(
            f"start the serving backend (make up, or headrace serve), or name where it is: {where}",
            1,
        )
    catalog = await _catalog(settings)
    are_callable = []
    for name, model in sorted(catalog.models.items()):
        versions = ", ".join(str(version) for version in sorted(model.contracts))
        print(f"  {name}: {model.state} {versions}{model.reason or ''}".rstrip())
        are_callable.append(bool(model.contracts))
    if are_callable and not any(are_callable):
        return _next("make train, or publish a version: no model can answer", 1)
    host = settings.bind_address
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return _next(f"python -m gateway, then curl http://{host}:{settings.http_port}/readyz", 0)


async def _answers(settings: Settings, rest: str, grpc: str) -> bool:
    """Whether both ports of one replica give any answer at all; prints it for each."""
    timeout_s = max(settings.probe_timeout_s, settings.connect_timeout_s)
    pool = Pool(Address.parse(rest), connections=1, connect_timeout_s=timeout_s)
    channel = GrpcChannel(grpc)
    request = messages.GetModelStatusRequest()
    request.model_spec.name = "-"
    answers = await asyncio.gather(
        pool.send("GET", "/v1/models/-", None, timeout_s=timeout_s),
        channel.call(
            messages.GET_MODEL_STATUS.path, request.SerializeToString(), timeout_s=timeout_s
        ),
        return_exceptions=True,
    )
    both_answer = True
    for address, answer in zip((rest, grpc), answers, strict=True):
        error = failure_of(answer)
        if error is None:
            print(f"backend {address}: answers")
        else:
            print(f"backend {address}: {error}")
            both_answer = False
    await pool.close()
    await channel.close()
    return both_answer


async def _catalog(settings: Settings) -> Catalog:
    async with Core(settings) as core:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await core.registry.refresh()
        except TimeoutError:
            print(f"the backend did not describe every model within {_TIMEOUT_S:g} s")
        return core.catalog


def _next(step: str, exit_code: int) -> int:
    print(f"next: {step}")
    return exit_code
