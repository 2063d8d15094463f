"""The official protocol as an independent witness: its descriptors, its classes, and TensorFlow
reading our bytes.

Descriptors are lifted out of the generated files of tensorflow and tensorflow-serving-api,
unimported, so that their classes cost no TensorFlow and the services can be read although protobuf
7 refuses to import their old modules. What only TensorFlow's own code can say is asked of one child
process.
"""

from __future__ import annotations

import ast
import importlib.util
import pickle
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

from tests.forks import ForkServer

_WANTED = (
    "grpc_health/v1/health.proto",
    "grpc_reflection/v1alpha/reflection.proto",
    "tensorflow/core/example/example.proto",
    "tensorflow/core/protobuf/config.proto",
    "tensorflow/core/protobuf/saved_model.proto",
    "tensorflow/core/protobuf/tensor_bundle.proto",
    "tensorflow_serving/apis/model_service.proto",
    "tensorflow_serving/apis/prediction_log.proto",
    "tensorflow_serving/apis/prediction_service.proto",
    "tensorflow_serving/config/model_server_config.proto",
    "tensorflow_serving/config/platform_config.proto",
)


@cache
def files() -> dict[str, descriptor_pb2.FileDescriptorProto]:
    """Every official file the wire needs, by name, each after those it needs."""
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    for name in _WANTED:
        _gather(name, found)
    return found


@cache
def pool() -> Any:
    official = descriptor_pool.DescriptorPool()
    for file in files().values():
        official.AddSerializedFile(file.SerializeToString())
    return official


def message(full_name: str) -> Any:
    """The official class, in a pool of its own."""
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(full_name))


def _gather(name: str, found: dict[str, descriptor_pb2.FileDescriptorProto]) -> None:
    if name in found:
        return
    file = descriptor_pb2.FileDescriptorProto.FromString(_serialized(name))
    for dependency in file.dependency:
        _gather(dependency, found)
    found[name] = file


def _serialized(name: str) -> bytes:
    """The descriptor inside a generated module: the one long literal that starts with the file's
    own name."""
    known = {"any": any_pb2, "wrappers": wrappers_pb2}
    if name.startswith("google/protobuf/"):
        return bytes(known[Path(name).stem].DESCRIPTOR.serialized_pb)
    package, _, rest = name.partition("/")
    if package == "xla":
        package, rest = "tensorflow", f"compiler/{name}"
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    module = Path(spec.origin).parent / (rest.removesuffix(".proto") + "_pb2.py")
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            value = (
                node.value
                if isinstance(node.value, bytes)
                else node.value.encode("latin1", "ignore")
            )
            if value[:1] == b"\n" and name.encode() in value[:120] and len(value) > 60:
                return value
    raise AssertionError(f"{module} holds no descriptor")


class Witness:
    """TensorFlow in a child process: one question, one answer, pickled."""

    def __init__(self, to: BinaryIO, back: BinaryIO) -> None:
        self._to, self._back = to, back

    def read(self, data: bytes, number: int) -> np.ndarray | str:
        """What TensorFlow's C++ reads from TensorProto bytes; the error's text when it refuses
        them."""
        return self._ask("read", data, number)

    def content(self, array: np.ndarray, number: int) -> bytes:
        """TensorProto bytes as TensorFlow's C++ writes them, by tensor_content."""
        return self._ask("content", array, number)

    def values(self, array: np.ndarray, number: int) -> bytes:
        """TensorProto bytes as TensorFlow's Python writes them, which is by typed values for small
        tensors."""
        return self._ask("values", array, number)

    def _ask(self, *question: Any) -> Any:
        _send(self._to, question)
        return _receive(self._back)


@contextmanager
def witness(with_tensorflow: ForkServer) -> Iterator[Witness]:
    with with_tensorflow.talk("from tests.unit import official; official.answer_questions()") as (
        to,
        back,
    ):
        yield Witness(to, back)


def _send(pipe: BinaryIO, value: Any) -> None:
    data = pickle.dumps(value)
    pipe.write(struct.pack("<Q", len(data)) + data)
    pipe.flush()


def _receive(pipe: BinaryIO) -> Any:
    head = pipe.read(8)
    if len(head) < 8:
        raise EOFError
    return pickle.loads(pipe.read(struct.unpack("<Q", head)[0]))


def answer_questions() -> None:
    import tensorflow as tf
    from tensorflow.python.framework import tensor_util

    def read(data: bytes, number: int) -> np.ndarray | str:
        try:
            return np.asarray(tf.io.parse_tensor(data, number).numpy())
        except tf.errors.OpError as error:
            return str(error.message)

    def content(array: np.ndarray, number: int) -> bytes:
        return bytes(tf.io.serialize_tensor(tf.constant(array, tf.as_dtype(number))).numpy())

    def values(array: np.ndarray, number: int) -> bytes:
        proto = tensor_util.make_tensor_proto(array, tf.as_dtype(number), array.shape)
        return bytes(proto.SerializeToString())

    asked = {"read": read, "content": content, "values": values}
    while True:
        try:
            name, *arguments = _receive(sys.stdin.buffer)
        except EOFError:
            return
        _send(sys.stdout.buffer, asked[name](*arguments))
