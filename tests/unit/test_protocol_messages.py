"""Our .proto files against the official descriptors, our bytes against the official classes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy import protos
from headrace.protocol import messages
from headrace.protocol.errors import ConfigError, InvalidArgument
from tests.forks import ForkServer
from tests.unit import official

ROOT = Path(__file__).resolve().parents[2]

# Left out on purpose: nothing of ours reads them, and unknown bytes survive. The right side is all
# that may be missing.
LEFT_OUT = {
    "tensorflow.NodeDef": {"experimental_debug_info", "experimental_type"},
    "tensorflow.OpDef.ArgDef": {"experimental_full_type"},
    "tensorflow.GraphDef": {"debug_info"},
    "tensorflow.MetaGraphDef": {"object_graph_def"},
    "tensorflow.TensorInfo.CompositeTensor": {"type_spec"},
    "tensorflow.BundleEntryProto": {"slices"},
    "tensorflow.ConfigProto": {"rpc_options", "cluster_def", "pluggable_device_options"},
    "tensorflow.ConfigProto.Experimental": {"coordination_config", "session_metadata"},
    "tensorflow.GPUOptions.Experimental": {"stream_merge_options", "virtual_devices"},
    "tensorflow.RewriterConfig": {
        "auto_parallel",
        "custom_optimizers",
        "inter_optimizer_verifier_config",
        "post_optimization_verifier_config",
        "scoped_allocator_opts",
    },
    "tensorflow.RunOptions": {"trace_level", "debug_options", "experimental"},
    "tensorflow.serving.SessionRunResponse": {"metadata"},
}
# Files that the client package does not ship: what the server reads as text, and the profiler's
# service, of which we know what it answers when there is nothing to tell.
SERVER_ONLY = {
    "tensorflow.MonitorRequest",
    "tensorflow.MonitorResponse",
    "tensorflow.ProfileRequest",
    "tensorflow.ProfileResponse",
    "tensorflow.TerminateRequest",
    "tensorflow.TerminateResponse",
    "tensorflow.serving.BatchingParameters",
    "tensorflow.serving.MonitoringConfig",
    "tensorflow.serving.PrometheusConfig",
    "tensorflow.serving.SSLConfig",
}
# Reflection's v1 is v1alpha under another name, and no package ships it.
FILES = FileDescriptorSet.FromString(messages.DESCRIPTORS.read_bytes()).file


def nested(
    outer: FileDescriptorProto | DescriptorProto, prefix: str
) -> Iterator[tuple[str, DescriptorProto | EnumDescriptorProto]]:
    """Every message and enum by its full name."""
    inner = outer.message_type if isinstance(outer, FileDescriptorProto) else outer.nested_type
    for enum in outer.enum_type:
        yield f"{prefix}.{enum.name}", enum
    for message in inner:
        if not message.options.map_entry:
            yield f"{prefix}.{message.name}", message
            yield from nested(message, f"{prefix}.{message.name}")


TYPES = dict(pair for file in FILES for pair in nested(file, file.package))
ENUMS = sorted(name for name, type_ in TYPES.items() if isinstance(type_, EnumDescriptorProto))
OURS = sorted(
    name
    for name in TYPES.keys() - ENUMS - SERVER_ONLY
    if not name.startswith("grpc.reflection.v1.")
)


def test_the_descriptors_are_those_of_the_proto_files(tmp_path: Path) -> None:
    protos.compile_to(tmp_path / "descriptors.binpb")
    compiled = FileDescriptorSet.FromString((tmp_path / "descriptors.binpb").read_bytes())
    assert compiled == FileDescriptorSet.FromString(messages.DESCRIPTORS.read_bytes())


def facts(descriptor: Any) -> dict[str, tuple[Any, ...]]:
    return {field.name: facts_of(field) for field in descriptor.fields}


def facts_of(field: Any) -> tuple[Any, ...]:
    inner = field.message_type or field.enum_type
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    return (
        field.number,
        field.type,
        field.is_repeated,
        field.is_repeated and field.is_packed,
        field.has_presence,
        field.json_name,
        tuple(facts(field.message_type).items()) if is_map else inner and inner.full_name,
        field.containing_oneof and field.containing_oneof.name,
    )


@pytest.mark.parametrize("name", OURS)
def test_fields_are_the_official_ones(name: str) -> None:
    theirs = facts(official.pool().FindMessageTypeByName(name))
    ours = facts(messages.POOL.FindMessageTypeByName(name))
    assert ours == {
        field: fact for field, fact in theirs.items() if field not in LEFT_OUT.get(name, set())
    }
    assert set(theirs) - set(ours) == LEFT_OUT.get(name, set())


@pytest.mark.parametrize("name", ENUMS)
def test_enums_are_the_official_ones(name: str) -> None:
    ours, theirs = messages.enum(name), official.pool().FindEnumTypeByName(name)
    assert {v.name: v.number for v in ours.values} == {v.name: v.number for v in theirs.values}


def test_methods_are_the_official_services() -> None:
    theirs = {
        f"/{file.package}.{service.name}/{method.name}": (
            method.input_type[1:],
            method.output_type[1:],
        )
        for file in official.files().values()
        for service in file.service
        for method in service.method
        if service.name in ("PredictionService", "ModelService")
    }
    ours = {
        m.path: (m.request.DESCRIPTOR.full_name, m.response.DESCRIPTOR.full_name)
        for m in messages.METHODS
    }
    assert ours == theirs


_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=8),
    FieldDescriptor.TYPE_DOUBLE: st.floats(allow_nan=False),
    FieldDescriptor.TYPE_FIXED32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_FLOAT: st.floats(width=32, allow_nan=False),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SFIXED64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SINT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_STRING: st.text(max_size=8),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_ENUM: st.integers(0, 130),
}


def fill(draw: Any, message: Any, depth: int) -> Any:
    """Some of the fields of any message, down to ``depth``."""
    for field in message.DESCRIPTOR.fields:
        if field.full_name.startswith("google.protobuf.Any") or not draw(st.integers(0, 2)) == 0:
            continue
        value = getattr(message, field.name)
        if field.message_type is None:
            if field.is_repeated:
                value.extend(draw(st.lists(_SCALARS[field.type], max_size=3)))
            else:
                setattr(message, field.name, draw(_SCALARS[field.type]))
        elif field.message_type.GetOptions().map_entry:
            parts = field.message_type.fields_by_name
            for key in draw(st.lists(_SCALARS[parts["key"].type], max_size=2)):
                if parts["value"].message_type is None:
                    value[key] = draw(_SCALARS[parts["value"].type])
                elif depth:
                    fill(draw, value[key], depth - 1)
        elif depth:
            fill(draw, value.add() if field.is_repeated else value, depth - 1)
            if not field.is_repeated:
                value.SetInParent()
    return message


@st.composite
def official_messages(draw: Any) -> Any:
    name = draw(st.sampled_from(OURS))
    return fill(draw, official.message(name)(), 2)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(official_messages())
def test_official_bytes_survive_our_classes(theirs: Any) -> None:
    """Fields we left out ride along as unknown bytes, so the whole message comes back, not only
    what we know."""
    ours = messages.message(theirs.DESCRIPTOR.full_name).FromString(theirs.SerializeToString())
    assert type(theirs).FromString(ours.SerializeToString()) == theirs
    if not any(n in LEFT_OUT for n in _names_within(theirs)):
        assert str(ours) == str(theirs)


def _names_within(message: Any) -> set[str]:
    names = {message.DESCRIPTOR.full_name}
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        inner = value.values() if hasattr(value, "values") and field.is_repeated else value
        for item in inner if field.is_repeated else [inner]:
            if hasattr(item, "DESCRIPTOR"):
                names |= _names_within(item)
    return names


def test_what_we_do_not_know_is_kept() -> None:
    theirs = official.message("tensorflow.NodeDef")(name="n", op="Add")
    theirs.experimental_debug_info.original_node_names.append("first")
    ours = messages.NodeDef.FromString(theirs.SerializeToString())
    ours.name = "renamed"
    back = type(theirs).FromString(ours.SerializeToString())
    assert (back.name, list(back.experimental_debug_info.original_node_names)) == (
        "renamed",
        ["first"],
    )


def test_metadata_any_packs_and_unpacks_both_ways() -> None:
    signatures = messages.SignatureDefMap()
    signatures.signature_def["serving_default"].inputs["x"].name = "x:0"
    answer = messages.GetModelMetadataResponse()
    answer.metadata["signature_def"].CopyFrom(messages.pack(signatures))

    theirs = official.message("tensorflow.serving.GetModelMetadataResponse").FromString(
        answer.SerializeToString()
    )
    unpacked = official.message("tensorflow.serving.SignatureDefMap")()
    assert theirs.metadata["signature_def"].Unpack(unpacked)
    assert unpacked.signature_def["serving_default"].inputs["x"].name == "x:0"
    assert messages.signature_def_map(theirs) == signatures


def test_metadata_without_signatures_is_an_empty_map() -> None:
    answer = messages.GetModelMetadataResponse()
    assert messages.signature_def_map(answer) == messages.SignatureDefMap()
    assert "signature_def" not in answer.metadata


def test_an_any_of_another_type_is_refused() -> None:
    with pytest.raises(
        InvalidArgument, match=r"holds tensorflow\.serving\.ModelSpec, expected .*SignatureDefMap"
    ):
        messages.unpack(messages.SignatureDefMap, messages.pack(messages.ModelSpec()))


@pytest.mark.parametrize("data", [b"\x0a\xff", b"\x0b", b"\xff" * 12, b"\x0a\x03\x0a\x01\xff"])
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument, match=r"not a tensorflow\.serving\.PredictRequest message"):
        messages.parse(messages.PredictRequest, data)


def test_files_only_the_server_reads_are_read() -> None:
    batching = messages.parse_text(
        messages.BatchingParameters,
        "max_batch_size { value: 128 } batch_timeout_micros { value: 0 } thread_pool_name { "
        'value: "pool" }\n'
        "allowed_batch_sizes: 64, allowed_batch_sizes: 128 pad_variable_length_inputs: true # "
        "padded\n"
        "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 64 }",
    )
    assert (batching.max_batch_size.value, list(batching.allowed_batch_sizes)) == (128, [64, 128])
    assert batching.HasField("batch_timeout_micros") and not batching.HasField("num_batch_threads")
    monitoring = messages.parse_text(
        messages.MonitoringConfig, 'prometheus_config { enable: true path: "/m" }'
    )
    assert (monitoring.prometheus_config.enable, monitoring.prometheus_config.path) == (True, "/m")
    tls = messages.parse_text(
        messages.SSLConfig, 'server_key: "k" server_cert: "c" custom_ca: "" client_verify: true'
    )
    assert (tls.server_key, tls.server_cert, tls.client_verify) == ("k", "c", True)


def test_text_errors_say_source_line_and_column() -> None:
    with pytest.raises(ConfigError) as caught:
        messages.parse_text(
            messages.MonitoringConfig, "prometheus_config {\n  enabled: true\n}\n", "m.config"
        )
    assert (caught.value.line, caught.value.column, caught.value.source) == (2, 3, "m.config")
    assert str(caught.value).startswith("m.config:2:3: ")
    assert caught.value.reason.endswith('has no field named "enabled".')


@pytest.mark.parametrize("text", ["enable: maybe", 'enable: "x"', "enable: 7"])
def test_text_errors_do_not_repeat_the_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        messages.parse_text(messages.message("tensorflow.serving.PrometheusConfig"), text)
    assert text not in str(caught.value)


def test_every_class_has_the_name_it_is_known_by() -> None:
    named = {
        name: value
        for name, value in vars(messages).items()
        if isinstance(value, type) and hasattr(value, "DESCRIPTOR")
    }
    assert len(named) > 40
    for name, cls in named.items():
        assert cls.DESCRIPTOR.name == name.rstrip("_")


BESIDE_TENSORFLOW = """
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2
from headrace.protocol import messages, tensors
"""
SHARE_BYTES = """
import numpy as np
import tensorflow as tf
from google.protobuf import text_format
request = predict_pb2.PredictRequest()
request.model_spec.name = "m"
request.model_spec.version.value = 7
request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.float32([1.5, 2.5])))
ours = messages.PredictRequest.FromString(request.SerializeToString())
assert tensors.from_proto(ours.inputs["x"]).tolist() == [1.5, 2.5]
assert predict_pb2.PredictRequest.FromString(ours.SerializeToString()) == request
ours.inputs["x"].CopyFrom(tensors.to_proto(np.float32([[3.5]])))
back = predict_pb2.PredictRequest.FromString(ours.SerializeToString())
assert tf.make_ndarray(back.inputs["x"]).tolist() == [[3.5]]
signatures = messages.SignatureDefMap()
signatures.signature_def["s"].outputs["y"].dtype = 1
answer = messages.GetModelMetadataResponse()
answer.metadata["signature_def"].CopyFrom(messages.pack(signatures))
theirs = get_model_metadata_pb2.GetModelMetadataResponse.FromString(answer.SerializeToString())
unpacked = get_model_metadata_pb2.SignatureDefMap()
assert theirs.metadata["signature_def"].Unpack(unpacked)
assert messages.signature_def_map(theirs) == signatures
assert unpacked.signature_def["s"].outputs["y"].dtype == 1
text = text_format.MessageToString(request.model_spec)
assert messages.parse_text(messages.ModelSpec, text).version.value == 7
assert type(ours) is not type(request)
print("shared")
"""


def run(code: str, **environment: str) -> str:
    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    return child.stdout


def test_our_classes_share_a_process_with_tensorflow_that_came_first(
    with_tensorflow: ForkServer,
) -> None:
    done = with_tensorflow.run(BESIDE_TENSORFLOW + SHARE_BYTES)
    assert (done.returncode, done.stdout) == (0, "shared\n"), done.stderr


def test_our_classes_share_a_process_with_tensorflow_that_comes_second() -> None:
    imports = reversed(BESIDE_TENSORFLOW.strip().splitlines())
    assert run("\n".join(imports) + SHARE_BYTES) == "shared\n"


def test_messages_work_without_the_compiled_protobuf() -> None:
    code = """
from google.protobuf.internal import api_implementation
from headrace.protocol import messages, tensors
from headrace.store import model_list
import numpy as np
assert api_implementation.Type() == "python"
request = messages.PredictRequest()
request.inputs["x"].CopyFrom(tensors.to_proto(np.float32([[1.5]]), as_content=False))
ours = messages.parse(messages.PredictRequest, request.SerializeToString())
assert tensors.from_proto(ours.inputs["x"]) == 1.5
packed = messages.pack(messages.SignatureDefMap())
assert messages.unpack(messages.SignatureDefMap, packed) == messages.SignatureDefMap()
assert model_list.parse(model_list.render(model_list.ServingConfig())) == model_list.ServingConfig()
print("worked")
"""
    assert run(code, PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION="python") == "worked\n"


def test_protocol_and_store_do_not_import_tensorflow_or_a_transport() -> None:
    code = """
import sys
from headrace.protocol import messages, tensors
from headrace.store import folders, model_list
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & {"tensorflow", "grpc", "requests", "fastapi"}))
"""
    assert run(code) == "[]\n"
