"""`python -m gateway --check`: what a start would find, said line by line, and what to do next.
Opens no port."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gateway.contracts.catalog import Catalog
from gateway.core import Core, trouble
from gateway.settings import Settings
from gateway.upstream.address import Address
from gateway.upstream.base import GrpcChannel
from gateway.upstream.http1 import Pool
from headrace.protocol import messages
from headrace.protocol.errors import ConfigError
from headrace.settings import variable
from headrace.store import model_list

# For the signatures of models that are there.
_PATIENCE_S = 5.0


def run(settings: Settings) -> int:
    """0 = all good, 1 = the backend does not answer as it should, 2 = the model list is wrong."""
    path = Path(settings.model_config_file)
    try:
        models = [m.name for m in model_list.load(path).models]
    except ConfigError as e:
        how = f"make up renders it; {variable('model_config_file')} names another"
        print(f"gateway: {e}\nnext: {'mend that line' if path.is_file() else how}", file=sys.stderr)
        return 2
    print(f"settings are good; {len(models)} models: {', '.join(sorted(models)) or 'none'}")
    for name in settings.lenient_models:
        if name not in models:
            print(f'{variable("lenient_models")} names "{name}", which is not in the model list')
    return asyncio.run(_ask(settings))


async def _ask(settings: Settings) -> int:
    silent = 0
    for rest, grpc in zip(settings.upstream_rest, settings.upstream_grpc, strict=True):
        silent += not await _answers(settings, rest, grpc)
    if silent:
        where = f"{variable('upstream_rest')} and {variable('upstream_grpc')}"
        return _next(
            f"start the serving backend (make up, or headrace serve), or name where it is: {where}",
            1,
        )
    catalog = await _catalog(settings)
    away = []
    for name, model in sorted(catalog.models.items()):
        print(
            (
                f"  {name}: {model.state} "
                f"{', '.join(str(v) for v in sorted(model.contracts))}{model.reason}"
            ).rstrip()
        )
        away += [] if model.contracts else [name]
    if catalog.models and len(away) == len(catalog.models):
        return _next("make train, or publish a version: no model can answer", 1)
    host = "127.0.0.1" if settings.bind_address in ("0.0.0.0", "::") else settings.bind_address
    return _next(f"python -m gateway, then curl http://{host}:{settings.http_port}/readyz", 0)


async def _answers(settings: Settings, rest: str, grpc: str) -> bool:
    """Whether both ports of one replica give any answer at all, said for each."""
    timeout_s = max(settings.probe_timeout_s, settings.connect_timeout_s)
    pool = Pool(Address.parse(rest), connections=1, connect_timeout_s=timeout_s)
    channel = GrpcChannel(grpc)
    request = messages.GetModelStatusRequest()
    request.model_spec.name = "-"
    asked = {
        rest: pool.send("GET", "/v1/models/-", None, timeout_s=timeout_s),
        grpc: channel.call(
            messages.GET_MODEL_STATUS.path, request.SerializeToString(), timeout_s=timeout_s
        ),
    }
    good = True
    for address, answer in zip(
        asked, await asyncio.gather(*asked.values(), return_exceptions=True), strict=True
    ):
        fault = trouble(answer)
        good = good and fault is None
        print(f"backend {address}: {'answers' if fault is None else fault}")
    await pool.close()
    await channel.close()
    return good


async def _catalog(settings: Settings) -> Catalog:
    async with Core(settings) as core:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await core.registry.refresh()
        except TimeoutError:
            print(f"the backend did not describe every model within {_PATIENCE_S:g} s")
        return core.catalog


def _next(what: str, code: int) -> int:
    print(f"next: {what}")
    return code
