"""The child of an isolated engine: loads and runs models for its parent until that closes the
connection.

``python -m headrace.server.engines.child FD OPTIONS``; OPTIONS is what isolated.py writes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from headrace.protocol.errors import HeadraceError, Internal
from headrace.protocol.signatures import Signature
from headrace.server.engines import LoadedModel, frames
from headrace.server.engines.frames import Frames, Head
from headrace.server.engines.options import SessionOptions
from headrace.server.engines.tensorflow import TensorFlowEngine

_THREADS = 64


class Child:
    def __init__(self, connection: Frames, engine: TensorFlowEngine) -> None:
        self._connection = connection
        self._engine = engine
        self._models: dict[int, LoadedModel] = {}

    def serve(self) -> None:
        with ThreadPoolExecutor(_THREADS) as pool:
            while True:
                try:
                    head, arrays = self._connection.receive()
                except EOFError:
                    # Runs under way have nobody to answer.
                    os._exit(0)
                pool.submit(self._answer, head, arrays)

    def _answer(self, head: Head, arrays: Mapping[str, np.ndarray]) -> None:
        answer: Head = {}
        found: Mapping[str, np.ndarray] = {}
        try:
            match head["do"]:
                case "load":
                    answer = self._load(head)
                case "run":
                    found = self._run(head, arrays)
                case "close":
                    self._models.pop(head["model"]).close()
        except HeadraceError as error:
            answer = frames.of_error(error)
        except Exception as error:
            answer = frames.of_error(Internal(f"{type(error).__name__}: {error}"))
        try:
            self._send({"id": head["id"], **answer}, found)
        except OSError:
            os._exit(0)

    def _send(self, answer: Head, found: Mapping[str, np.ndarray]) -> None:
        """Something in any case: whoever is not answered waits for ever."""
        try:
            self._connection.send(answer, found)
        except OSError:
            raise
        except Exception as error:
            # Before a byte of it was sent: no message holds outputs of 2 GiB.
            told = Internal(f"the outputs cannot be handed over: {type(error).__name__}: {error}")
            self._connection.send({"id": answer["id"], **frames.of_error(told)})

    def _load(self, head: Head) -> Head:
        model = self._models[head["model"]] = self._engine.load(Path(head["folder"]))
        definitions = {
            name: bytes(d.SerializeToString()).hex() for name, d in model.signature_defs.items()
        }
        return {"signature_defs": definitions, "not_row_wise": dict(model.not_row_wise)}

    def _run(self, head: Head, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        model = self._models[head["model"]]
        signature = model.signatures.get(head["signature"]) or _joined(model, head)
        return model.run(signature, arrays, head["outputs"], timeout_s=head["timeout_s"])


def _joined(model: LoadedModel, head: Head) -> Signature:
    """One that asks for the outputs of several, by the names of their tensors."""
    sides: dict[str, Any] = {"inputs": {}, "outputs": {}}
    for signature in model.signatures.values():
        for side, specs in (("inputs", signature.inputs), ("outputs", signature.outputs)):
            for spec in specs.values():
                sides[side].update(
                    {
                        alias: spec
                        for alias, name in head[f"{side}_of"].items()
                        if name == spec.tensor_name
                    }
                )
    return Signature(head["signature"], sides["inputs"], sides["outputs"])


def main(descriptor: str, options: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        # A terminal tells them to the whole group; the parent says when to end.
        signal.signal(number, signal.SIG_IGN)
    given = json.loads(options)
    session = SessionOptions(
        **{**given["options"], "base": bytes.fromhex(given["options"]["base"])}
    )
    connection = Frames(socket.socket(fileno=int(descriptor)))
    Child(connection, TensorFlowEngine(tuple(given["tags"]), session)).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
