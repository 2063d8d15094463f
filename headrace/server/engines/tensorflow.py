"""Runs SavedModels through TensorFlow's C API: TF Serving's kernels and error texts, without
``import tensorflow``."""

from __future__ import annotations

import ctypes
import functools
import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.protocol import errors, signatures
from headrace.protocol.signatures import Signature, TensorSpec
from headrace.server import rowwise
from headrace.server.engines import Arrays, capi, graph_traits, tensors
from headrace.server.engines.options import CALLERS_THREAD, SessionOptions, run_options

# A run in the caller's thread is quickest (40 us instead of 80 for a small network, as nothing is
# handed to a pool), but TensorFlow cannot stop it at its timeout. So only graphs that cannot loop
# run there, and only while they are quick.
_INLINE = run_options(inter_op_pool=CALLERS_THREAD)
_INLINE_BUFFER = capi.buffer_over(_INLINE)
_QUICK_S = 0.01
# Callers can ask for outputs in any order and send tensors of any shape; only so many are cached.
_MAX_CACHED = 256

_Ends = ctypes.Array[capi.Output]


@dataclass(frozen=True, slots=True)
class TensorFlowEngine:
    tags: tuple[str, ...] = ("serve",)
    options: SessionOptions = field(default_factory=SessionOptions)

    def load(self, folder: Path) -> SavedModel:
        return SavedModel(folder, self.tags, self.options)


class SavedModel:
    """One session. Tensor names are resolved when it loads, so that a run looks nothing up."""

    def __init__(self, folder: Path, tags: Sequence[str], options: SessionOptions) -> None:
        self._lib = lib = capi.library()
        self._graph = lib.TF_NewGraph()
        self._session = None
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._under_way = 0
        self._closing = False
        try:
            self._session, serialized = _load(folder, tags, options, self._graph)
            meta_graph = graph_traits.meta_graph(folder, tags, serialized)
            self.signature_defs: Mapping[str, Any] = dict(meta_graph.signature_def)
            self.signatures: Mapping[str, Signature] = signatures.from_signature_defs(
                self.signature_defs
            )
            self.traits = graph_traits.traits(meta_graph)
            self._needs_check = self.traits.shapes_bind or self.traits.empty_kills
            self.not_row_wise: Mapping[str, str | None] = {
                name: rowwise.reason(meta_graph, signature)
                for name, signature in self.signatures.items()
            }
            self._run_times_s: dict[tuple[str, int], float] = {}
            self._cached_ends: dict[tuple[object, ...], tuple[_Ends, _Ends]] = {}
            self._checked_shapes: set[tuple[object, ...]] = set()
            self._resolved = self._resolve_all()
        except BaseException:
            self.close()
            raise

    def run(
        self,
        signature: Signature,
        inputs: Arrays,
        outputs: Sequence[str],
        *,
        timeout_s: float | None = None,
    ) -> Arrays:
        """The named outputs. TensorFlow itself stops a long run after ``timeout_s``."""
        if self._needs_check:
            self._check(signature, inputs)
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
        """Waits for the runs under way: even where their callers have stopped waiting, TensorFlow
        still uses the session."""
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

    def expected_s(self, signature: Signature, requests: Iterable[Arrays]) -> float:
        return self._expected_s(signature, sum([_bytes_in(inputs) for inputs in requests]))

    def _expected_s(self, signature: Signature, size: int) -> float:
        """The time of the last run over inputs of about this many bytes, or in proportion that of a
        run over half as much."""
        may_take_long = self.traits.may_take_long
        if may_take_long:
            # A signature that a caller put together may ask for any part of the graph.
            is_own = self.signatures.get(signature.name) is signature
            if signature.name in may_take_long or not is_own:
                return math.inf
        bits = size.bit_length()
        run_time_s = self._run_times_s.get((signature.name, bits))
        if run_time_s is not None:
            return run_time_s
        return 2 * self._run_times_s.get((signature.name, bits - 1), math.inf)

    def _run(
        self,
        signature: Signature,
        inputs: Arrays,
        outputs: Sequence[str],
        timeout_s: float | None,
    ) -> Arrays:
        lib = self._lib
        feeds, fetches = self._ends(signature, tuple(inputs), tuple(outputs))
        fed = _pointers(len(inputs))()
        fetched = _pointers(len(outputs))()
        try:
            for i, (alias, array) in enumerate(inputs.items()):
                fed[i] = tensors.to_tensor(alias, array)
            size = _bytes_in(inputs)
            options = self._run_options(signature, size, timeout_s)
            started = time.perf_counter()
            self._session_run(options, feeds, fed, fetches, fetched)
            seconds = time.perf_counter() - started
            key = (signature.name, size.bit_length())
            # A run that waited for a core or for the interpreter's lock says little about the next,
            # so the expected time at most doubles.
            self._run_times_s[key] = min(seconds, 2 * self._run_times_s.get(key, math.inf))
            return {alias: tensors.to_array(fetched[i] or 0) for i, alias in enumerate(outputs)}
        finally:
            # TensorFlow ignores a null pointer here.
            for tensor in fed:
                lib.TF_DeleteTensor(tensor)
            for tensor in fetched:
                lib.TF_DeleteTensor(tensor)

    def _session_run(
        self,
        options: capi.Buffer,
        feeds: _Ends,
        fed: ctypes.Array[ctypes.c_void_p],
        fetches: _Ends,
        fetched: ctypes.Array[ctypes.c_void_p],
    ) -> None:
        lib = self._lib
        status = lib.TF_NewStatus()
        try:
            lib.TF_SessionRun(
                self._session,
                ctypes.byref(options),
                feeds,
                fed,
                len(feeds),
                fetches,
                fetched,
                len(fetches),
                None,
                0,
                None,
                status,
            )
            if lib.TF_GetCode(status):
                capi.refuse(status)
        finally:
            lib.TF_DeleteStatus(status)

    def _run_options(self, signature: Signature, size: int, timeout_s: float | None) -> capi.Buffer:
        if self._expected_s(signature, size) < _QUICK_S:
            return _INLINE_BUFFER
        if timeout_s is None:
            return capi.buffer_over(b"")
        timeout_ms = max(1, math.ceil(timeout_s * 1000))
        return capi.buffer_over(run_options(timeout_ms=timeout_ms))

    def _check(self, signature: Signature, inputs: Arrays) -> None:
        """Rejects shapes that would end the process inside a kernel; any other shape is left to the
        graph."""
        if self.traits.shapes_bind:
            self._check_shapes(signature, inputs)
        if self.traits.empty_kills:
            for alias, array in inputs.items():
                if array.size == 0:
                    shape = signatures.shape_text(array.shape)
                    raise errors.InvalidArgument(f"{alias}: shape {shape} has no elements")

    def _check_shapes(self, signature: Signature, inputs: Arrays) -> None:
        key = (signature.name, *[(alias, array.shape) for alias, array in inputs.items()])
        # A signature that a caller put together may have the name of one of ours.
        is_own = self.signatures.get(signature.name) is signature
        if is_own and key in self._checked_shapes:
            return
        # The runtime checks dtypes itself before anything runs.
        shapes = {alias: (None, array.shape) for alias, array in inputs.items()}
        signatures.check(signature, shapes)
        if is_own and len(self._checked_shapes) < _MAX_CACHED:
            self._checked_shapes.add(key)

    def _ends(
        self, signature: Signature, inputs: tuple[str, ...], outputs: tuple[str, ...]
    ) -> tuple[_Ends, _Ends]:
        """The ends of the graph that are fed and fetched. TensorFlow only reads them, so runs share
        them."""
        key = (signature.name, inputs, outputs)
        is_own = self.signatures.get(signature.name) is signature
        if is_own:
            ends = self._cached_ends.get(key)
            if ends is not None:
                return ends
        feeds = self._look_up([signature.inputs[alias] for alias in inputs])
        fetches = self._look_up([signature.outputs[alias] for alias in outputs])
        ends = feeds, fetches
        if is_own and len(self._cached_ends) < _MAX_CACHED:
            self._cached_ends[key] = ends
        return ends

    def _look_up(self, specs: Sequence[TensorSpec]) -> _Ends:
        ends = (capi.Output * len(specs))()
        for i, spec in enumerate(specs):
            ends[i] = self._resolved[spec.tensor_name]
            if not ends[i].oper:
                raise errors.InvalidArgument(
                    f"Tensor {spec.tensor_name or '(no name)'}, specified in the signature, was "
                    "not found in the Graph"
                )
        return ends

    def _resolve_all(self) -> dict[str, capi.Output]:
        resolved = {}
        for signature in self.signatures.values():
            for spec in (*signature.inputs.values(), *signature.outputs.values()):
                resolved[spec.tensor_name] = self._resolve(spec.tensor_name)
        return resolved

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


def _bytes_in(inputs: Arrays) -> int:
    """The size of the inputs, strings by their own length."""
    total = 0
    for array in inputs.values():
        if array.dtype.kind == "O":
            total += sum(map(len, array.ravel()))
        else:
            total += array.nbytes
    return total


def _load(
    folder: Path, tags: Sequence[str], options: SessionOptions, into: int
) -> tuple[int, bytes]:
    """The session, and the serialized MetaGraphDef as TensorFlow read it."""
    lib = capi.library()
    session_options = lib.TF_NewSessionOptions()
    meta_graph = lib.TF_NewBuffer()
    try:
        config = options.config_proto()
        with capi.checked() as status:
            lib.TF_SetConfig(session_options, config, len(config), status)
        names = (ctypes.c_char_p * len(tags))(*[tag.encode() for tag in tags])
        with capi.checked() as status:
            session = lib.TF_LoadSessionFromSavedModel(
                session_options,
                None,
                str(folder).encode(),
                names,
                len(tags),
                into,
                meta_graph,
                status,
            )
        return session, capi.buffer_bytes(meta_graph.contents)
    finally:
        lib.TF_DeleteBuffer(meta_graph)
        lib.TF_DeleteSessionOptions(session_options)
