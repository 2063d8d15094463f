"""Runs SavedModels through TensorFlow's C API: TF Serving's kernels and error texts, without
``import tensorflow``."""

from __future__ import annotations

import ctypes
import functools
import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headrace.protocol import errors, signatures
from headrace.protocol.signatures import Signature, TensorSpec
from headrace.server import rowwise
from headrace.server.engines import bytes_in, capi, graph, tensors
from headrace.server.engines.options import CALLERS_THREAD, SessionOptions, run_options

# In the caller's thread a run is quickest (40 us instead of 80 for a small network: no hand-over to
# a pool) but deaf to its timeout. So only graphs that cannot loop run there, and only while they
# are quick.
_INLINE = run_options(inter_op_pool=CALLERS_THREAD)
_INLINE_BUFFER = capi.buffer_over(_INLINE)
_QUICK_S = 0.01
_KEPT = (
    # Of what strangers can ask for in many ways: outputs in any order, tensors of any shape.
    256
)


@dataclass(frozen=True, slots=True)
class TensorFlowEngine:
    tags: tuple[str, ...] = ("serve",)
    options: SessionOptions = field(default_factory=SessionOptions)

    def load(self, folder: Path) -> SavedModel:
        return SavedModel(folder, self.tags, self.options)


class SavedModel:
    """One session. Names are resolved when it loads, so that a run looks nothing up."""

    def __init__(self, folder: Path, tags: Sequence[str], options: SessionOptions) -> None:
        self._lib = lib = capi.library()
        self._graph = lib.TF_NewGraph()
        self._session = None
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._under_way = 0
        self._closing = False
        try:
            self._session, described = _load(folder, tags, options, self._graph)
            meta_graph = graph.meta_graph(folder, tags, described)
            self.signature_defs: Mapping[str, Any] = dict(meta_graph.signature_def)
            self.signatures: Mapping[str, Signature] = {
                name: signatures.from_signature_def(name, definition)
                for name, definition in self.signature_defs.items()
            }
            self.traits = graph.traits(meta_graph)
            self.not_row_wise: Mapping[str, str] = {
                name: rowwise.reason(meta_graph, signature)
                for name, signature in self.signatures.items()
            }
            self._took_s: dict[tuple[str, int], float] = {}
            self._ends: dict[tuple[str, bool, tuple[str, ...]], ctypes.Array[capi.Output]] = {}
            self._fitting: set[tuple[object, ...]] = set()
            self._resolved = {
                spec.tensor_name: self._resolve(spec.tensor_name)
                for signature in self.signatures.values()
                for spec in (*signature.inputs.values(), *signature.outputs.values())
            }
        except BaseException:
            self.close()
            raise

    def run(
        self,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        *,
        timeout_s: float | None = None,
    ) -> dict[str, np.ndarray]:
        """The named outputs. A run that may take long is stopped by TensorFlow itself after
        ``timeout_s``."""
        self._protect(signature, inputs)
        with self._lock:
            if self._closing:
                raise errors.Unavailable("This version is being unloaded")
            self._under_way += 1
        try:
            return self._run(signature, inputs, outputs, timeout_s)
        finally:
            with self._lock:
                self._under_way -= 1
                if self._closing:
                    self._idle.notify_all()

    def close(self) -> None:
        """Once the runs under way have ended: their callers may have stopped waiting, TensorFlow
        has not."""
        with self._lock:
            self._closing = True
            self._idle.wait_for(lambda: self._under_way == 0)
        lib = self._lib
        if self._session:
            with capi.checked() as status:
                lib.TF_CloseSession(self._session, status)
            with capi.checked() as status:
                lib.TF_DeleteSession(self._session, status)
        if self._graph:
            lib.TF_DeleteGraph(self._graph)
        self._session = self._graph = None

    def _run(
        self,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
        timeout_s: float | None,
    ) -> dict[str, np.ndarray]:
        lib = self._lib
        feeds = self._outputs(signature, tuple(inputs), is_input=True)
        fetches = self._outputs(signature, tuple(outputs), is_input=False)
        fed = _pointers(len(inputs))()
        fetched = _pointers(len(outputs))()
        try:
            for i, (alias, array) in enumerate(inputs.items()):
                fed[i] = tensors.to_tensor(alias, array)
            size = bytes_in(inputs)
            options = self._run_options(signature, size, timeout_s)
            started = time.perf_counter()
            status = lib.TF_NewStatus()
            try:
                lib.TF_SessionRun(
                    self._session,
                    ctypes.byref(options),
                    feeds,
                    fed,
                    len(inputs),
                    fetches,
                    fetched,
                    len(outputs),
                    None,
                    0,
                    None,
                    status,
                )
                if lib.TF_GetCode(status):
                    capi.refuse(status)
            finally:
                lib.TF_DeleteStatus(status)
            key, took = (signature.name, size.bit_length()), time.perf_counter() - started
            # One that was kept from a core, or from the interpreter's lock after it, says little
            # about the next.
            self._took_s[key] = min(took, 2 * self._took_s.get(key, math.inf))
            return {alias: tensors.to_array(fetched[i] or 0) for i, alias in enumerate(outputs)}
        finally:
            for tensor in fed:
                # None is none to it.
                lib.TF_DeleteTensor(tensor)
            for tensor in fetched:
                lib.TF_DeleteTensor(tensor)

    def expected_s(self, signature: Signature, size: int) -> float:
        """As long as the last run over inputs of about this size, at most twice what was expected
        of it; or in proportion as one over half as much."""
        if self.traits.may_take_long and (
            signature.name in self.traits.may_take_long
            or self.signatures.get(signature.name) is not signature
        ):
            # One put together by a caller may ask for anything.
            return math.inf
        bits = size.bit_length()
        took = self._took_s.get((signature.name, bits))
        return (
            took if took is not None else 2 * self._took_s.get((signature.name, bits - 1), math.inf)
        )

    def _run_options(self, signature: Signature, size: int, timeout_s: float | None) -> capi.Buffer:
        if self.expected_s(signature, size) < _QUICK_S:
            return _INLINE_BUFFER
        return capi.buffer_over(
            run_options(timeout_ms=max(1, math.ceil(timeout_s * 1000)))
            if timeout_s is not None
            else b""
        )

    def _protect(self, signature: Signature, inputs: Mapping[str, np.ndarray]) -> None:
        """Says no to what would end the process inside a kernel; any other shape is the graph's own
        business."""
        if self.traits.shapes_bind:
            # Dtypes are left to the runtime, which checks them itself before anything runs.
            key = (signature.name, *[(alias, array.shape) for alias, array in inputs.items()])
            is_own = self.signatures.get(signature.name) is signature
            if not is_own or key not in self._fitting:
                signatures.check(
                    signature, {alias: (None, array.shape) for alias, array in inputs.items()}
                )
                if is_own and len(self._fitting) < _KEPT:
                    self._fitting.add(key)
        if self.traits.empty_kills:
            for alias, array in inputs.items():
                if array.size == 0:
                    raise errors.InvalidArgument(
                        f"{alias}: shape {signatures.shape_text(array.shape)} has no elements"
                    )

    def _outputs(
        self, signature: Signature, aliases: tuple[str, ...], *, is_input: bool
    ) -> ctypes.Array[capi.Output]:
        """The ends of the graph that these are; TensorFlow only reads them."""
        key = (signature.name, is_input, aliases)
        # One put together by a caller may be named like it.
        is_own = self.signatures.get(signature.name) is signature
        if is_own and (ends := self._ends.get(key)) is not None:
            return ends
        specs = signature.inputs if is_input else signature.outputs
        ends = self._found([specs[alias] for alias in aliases])
        if is_own and len(self._ends) < _KEPT:
            self._ends[key] = ends
        return ends

    def _found(self, specs: Sequence[TensorSpec]) -> ctypes.Array[capi.Output]:
        found = (capi.Output * len(specs))()
        for i, spec in enumerate(specs):
            found[i] = self._resolved[spec.tensor_name]
            if not found[i].oper:
                raise errors.InvalidArgument(
                    f"Tensor {spec.tensor_name or '(no name)'}, specified in the signature, was "
                    "not found in the Graph"
                )
        return found

    def _resolve(self, tensor_name: str) -> capi.Output:
        name, _, index = tensor_name.rpartition(":")
        if not name or not index.isdigit():
            name, index = tensor_name, "0"
        operation = self._lib.TF_GraphOperationByName(self._graph, name.encode())
        if operation and int(index) < self._lib.TF_OperationNumOutputs(operation):
            return capi.Output(operation, int(index))
        return capi.Output(None, 0)


@functools.lru_cache(maxsize=64)
def _pointers(count: int) -> type[ctypes.Array[ctypes.c_void_p]]:
    return ctypes.c_void_p * count


def _load(
    folder: Path, tags: Sequence[str], options: SessionOptions, into: int
) -> tuple[int, bytes]:
    """The session and, as TensorFlow read it, the serialized MetaGraphDef."""
    lib = capi.library()
    session_options = lib.TF_NewSessionOptions()
    described = lib.TF_NewBuffer()
    try:
        config = options.config_proto()
        with capi.checked() as status:
            lib.TF_SetConfig(session_options, config, len(config), status)
        names = (ctypes.c_char_p * len(tags))(*(t.encode() for t in tags))
        with capi.checked() as status:
            session = lib.TF_LoadSessionFromSavedModel(
                session_options,
                None,
                str(folder).encode(),
                names,
                len(tags),
                into,
                described,
                status,
            )
        return session, capi.buffer_bytes(described.contents)
    finally:
        lib.TF_DeleteBuffer(described)
        lib.TF_DeleteSessionOptions(session_options)
