"""gRPC's server reflection, v1alpha and v1, over our own descriptors: what grpcurl and its like ask
a server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from headrace.protocol import messages
from headrace.server.grpc.requests import parse_or_abort

_NOT_FOUND = grpc.StatusCode.NOT_FOUND.value[0]
_UNIMPLEMENTED = grpc.StatusCode.UNIMPLEMENTED.value[0]


class Reflection:
    """``services`` are the full names of what the server serves beside reflection itself."""

    def __init__(self, services: Sequence[str], pool: ThreadPoolExecutor) -> None:
        self._services = sorted((*services, *messages.REFLECTION_SERVICES))
        self._pool = pool

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        return [self._handler(service) for service in messages.REFLECTION_SERVICES]

    def _handler(self, service: str) -> grpc.GenericRpcHandler:
        package = service.rpartition(".")[0]
        request, response = (
            messages.message(f"{package}.ServerReflection{kind}")
            for kind in ("Request", "Response")
        )

        def info(requests: Iterable[bytes], context: grpc.ServicerContext) -> Iterator[Any]:
            return (
                self._answer(parse_or_abort(request, data, context), response) for data in requests
            )

        # A stream holds a thread for as long as it is open: not one of those that predict.
        info.experimental_thread_pool = self._pool  # type: ignore[attr-defined]
        rpc = grpc.stream_stream_rpc_method_handler(
            info, response_serializer=response.SerializeToString
        )
        return grpc.method_handlers_generic_handler(service, {"ServerReflectionInfo": rpc})

    def _answer(self, asked: Any, kind: Any) -> Any:
        answer = kind(valid_host=asked.host, original_request=asked)
        match asked.WhichOneof("message_request"):
            case "list_services":
                for name in self._services:
                    answer.list_services_response.service.add(name=name)
            case "file_by_filename":
                _tell_file(answer, messages.POOL.FindFileByName, asked.file_by_filename)
            case "file_containing_symbol":
                _tell_file(answer, _file_of, asked.file_containing_symbol)
            case "file_containing_extension":
                _refuse(answer, _NOT_FOUND, "there are no extensions")
            case "all_extension_numbers_of_type":
                _tell_no_extensions(answer, asked.all_extension_numbers_of_type)
            case _:
                _refuse(answer, _UNIMPLEMENTED, "not a request of this protocol")
        return answer


def _tell_file(answer: Any, find: Callable[[str], Any], name: str) -> None:
    """The file and all it needs."""
    try:
        found = find(name)
    except KeyError:
        _refuse(answer, _NOT_FOUND, f"{name} not found")
        return
    waiting, told = [found], set()
    while waiting:
        file = waiting.pop(0)
        if file.name in told:
            continue
        told.add(file.name)
        proto = FileDescriptorProto()
        file.CopyToProto(proto)
        answer.file_descriptor_response.file_descriptor_proto.append(proto.SerializeToString())
        waiting += file.dependencies


def _file_of(symbol: str) -> Any:
    """Also of a service's method, which the pool does not look for."""
    try:
        return messages.POOL.FindFileContainingSymbol(symbol)
    except KeyError:
        service, _, method = symbol.rpartition(".")
        return (
            messages.POOL.FindServiceByName(service).methods_by_name[method].containing_service.file
        )


def _tell_no_extensions(answer: Any, name: str) -> None:
    try:
        messages.POOL.FindMessageTypeByName(name)
    except KeyError:
        _refuse(answer, _NOT_FOUND, f"{name} not found")
        return
    answer.all_extension_numbers_response.base_type_name = name


def _refuse(answer: Any, code: int, text: str) -> None:
    answer.error_response.error_code = code
    answer.error_response.error_message = text
