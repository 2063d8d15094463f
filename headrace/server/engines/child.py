"""The child process of an isolated engine: loads and runs models for its parent, until the parent
closes the connection.

``python -m headrace.server.engines.child DESCRIPTOR OPTIONS``; isolated.py writes OPTIONS.
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

from headrace.protocol.errors import HeadraceError, Internal
from headrace.protocol.signatures import Signature, TensorSpec
from headrace.server.engines import Arrays, LoadedModel, frames
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
                    # Nobody waits for the runs under way.
                    os._exit(0)
                pool.submit(self._answer, head, arrays)

    def _answer(self, head: Head, arrays: Arrays) -> None:
        answer: Head = {}
        outputs: Arrays = {}
        try:
            match head["do"]:
                case "load":
                    answer = self._load(head)
                case "run":
                    outputs = self._run(head, arrays)
                case "close":
                    self._models.pop(head["model"]).close()
        except HeadraceError as error:
            answer = frames.from_error(error)
        except Exception as error:
            answer = frames.from_error(Internal(f"{type(error).__name__}: {error}"))
        try:
            self._send({"id": head["id"], **answer}, outputs)
        except OSError:
            os._exit(0)

    def _send(self, answer: Head, outputs: Arrays) -> None:
        """Every request must be answered, as its caller waits for ever."""
        try:
            self._connection.send(answer, outputs)
        except OSError:
            raise
        except Exception as error:
            # A message cannot hold outputs of 2 GiB; this shows before any byte is sent.
            reason = f"{type(error).__name__}: {error}"
            failure = Internal(f"the outputs cannot be handed over: {reason}")
            self._connection.send({"id": answer["id"], **frames.from_error(failure)})

    def _load(self, head: Head) -> Head:
        model = self._engine.load(Path(head["folder"]))
        self._models[head["model"]] = model
        definitions = {}
        for name, definition in model.signature_defs.items():
            definitions[name] = bytes(definition.SerializeToString()).hex()
        return {"signature_defs": definitions, "not_row_wise": dict(model.not_row_wise)}

    def _run(self, head: Head, arrays: Arrays) -> Arrays:
        model = self._models[head["model"]]
        signature = model.signatures.get(head["signature"])
        if signature is None:
            signature = _joined_signature(model, head)
        return model.run(signature, arrays, head["outputs"], timeout_s=head["timeout_s"])


def _joined_signature(model: LoadedModel, head: Head) -> Signature:
    """A signature made of several, by the names of their tensors."""
    inputs: dict[str, TensorSpec] = {}
    outputs: dict[str, TensorSpec] = {}
    for signature in model.signatures.values():
        _add_specs(inputs, signature.inputs, head["inputs_of"])
        _add_specs(outputs, signature.outputs, head["outputs_of"])
    return Signature(head["signature"], inputs, outputs)


def _add_specs(
    joined: dict[str, TensorSpec], specs: Mapping[str, TensorSpec], tensor_names: Mapping[str, str]
) -> None:
    """Adds those of ``specs`` that are among ``tensor_names``, which are by alias."""
    for spec in specs.values():
        for alias, tensor_name in tensor_names.items():
            if tensor_name == spec.tensor_name:
                joined[alias] = spec


def main(descriptor: str, options: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        # A terminal sends these to the whole process group; the parent decides when to stop.
        signal.signal(number, signal.SIG_IGN)
    arguments = json.loads(options)
    session = arguments["options"]
    session["base"] = bytes.fromhex(session["base"])
    engine = TensorFlowEngine(tuple(arguments["tags"]), SessionOptions(**session))
    connection = Frames(socket.socket(fileno=int(descriptor)))
    Child(connection, engine).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
