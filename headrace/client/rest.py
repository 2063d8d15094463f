"""REST: calls in TensorFlow Serving's JSON, and the connection pool that carries them."""

from __future__ import annotations

import http.client
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies

import headrace
from headrace.client.address import Address
from headrace.client.core import Metadata, Prediction, VersionStatus
from headrace.client.deadline import Deadline
from headrace.client.errors import UnexpectedResponse, Unreachable, WrongProtocol, checked_details
from headrace.codec import answers, predict
from headrace.protocol import dtypes, messages, rest_paths, signatures
from headrace.protocol.errors import HeadraceError, InvalidArgument, Unimplemented, from_http_status
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.signatures import Signature, TensorSpec

_HEADERS = {
    "Accept": "application/json",
    # Decompressing costs more than sending the bytes over a local network.
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": f"headrace/{headrace.__version__}",
}
_READ_BYTES = 1 << 18
_POOL_SIZE = 32
# A gRPC server starts with this frame where a status line is expected: its length, its type.
_HTTP2_SETTINGS = re.compile(r"\0\0[\s\S]\x04")
_NOT_IN_JSON = (dtypes.HALF, dtypes.BFLOAT16, dtypes.COMPLEX64, dtypes.COMPLEX128)


@dataclass(frozen=True, slots=True)
class RestCall:
    """``read`` turns the status and the body of the response into what the call returns, or
    raises."""

    method: str
    path: str
    read: Callable[[int, bytes], Any]
    body: bytes | None = None


class RestCodec:
    def predict(
        self, model: ModelSpec, arrays: Mapping[str, np.ndarray], signature: Signature
    ) -> RestCall:
        for name, array in arrays.items():
            _check_fits_json(name, array, signature.inputs[name])
        body = predict.build_predict(
            arrays,
            signature_name=signature.name,
            row_format=_fits_row_format(arrays, signature),
            signature=signature,
        )
        return RestCall("POST", rest_paths.path(model, ":predict"), _read_success, body)

    def prediction(self, response: bytes, signature: Signature) -> Prediction:
        try:
            arrays = answers.parse_predictions(response, signature)
        except InvalidArgument as error:
            raise UnexpectedResponse(
                f"the answer does not fit signature {signature.name}: {error.message}"
            ) from error
        outputs = {name: _shaped(a, signature.outputs[name]) for name, a in arrays.items()}
        return Prediction(outputs)

    def metadata(self, model: ModelSpec) -> RestCall:
        return RestCall("GET", rest_paths.path(model, rest_paths.METADATA), _read_metadata)

    def status(self, model: ModelSpec) -> RestCall:
        return RestCall("GET", rest_paths.path(model), _read_status)

    def models(self) -> RestCall:
        return RestCall("GET", rest_paths.MODELS, _read_models)

    def ready(self) -> RestCall:
        return RestCall("GET", "/readyz", _read_ready)


class RestTransport:
    """One pool of open connections, safe for any number of threads.

    Uses the adapter of requests without a Session: no cookies, redirects or .netrc, and half the
    time a call.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._adapter = HTTPAdapter(pool_maxsize=_POOL_SIZE)
        # Read once from the environment. This machine is never reached through a proxy.
        self._proxies = {} if address.is_loopback else get_environ_proxies(str(address))
        self._verify = (
            os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
        )

    def send(self, call: RestCall, deadline: Deadline) -> Any:
        url = f"{self._address}{call.path}"
        request = requests.Request(call.method, url, headers=_HEADERS, data=call.body)
        # One limit for connecting and for the first byte of the response.
        timeout: Any = urllib3.Timeout(total=deadline.remaining_s())
        try:
            with self._adapter.send(
                request.prepare(),
                stream=True,
                timeout=timeout,
                verify=self._verify,
                proxies=self._proxies,
            ) as response:
                body = _read_body(response.raw, deadline)
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
            raise deadline.exceeded() from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _translated(error, self._address) from error
        return call.read(response.status_code, body)

    def close(self) -> None:
        self._adapter.close()


def _read_body(raw: Any, deadline: Deadline) -> bytes:
    """Checks the deadline after each piece; the socket's timeout starts anew with every byte."""
    pieces = []
    while piece := raw.read1(_READ_BYTES):
        pieces.append(piece)
        deadline.remaining_s()
    return b"".join(pieces)


def _translated(error: BaseException, address: Address) -> HeadraceError:
    cause = _innermost(error)
    if isinstance(cause, http.client.BadStatusLine) and _HTTP2_SETTINGS.match(str(cause)):
        return WrongProtocol(f"{address} is a gRPC port: use {address.with_other_protocol}")
    reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return Unreachable(f"cannot reach {address}: {reason}")


def _innermost(error: BaseException) -> BaseException:
    """The error below those that requests and urllib3 wrap around it."""
    for inner in (getattr(error, "reason", None), *error.args, error.__cause__):
        if isinstance(inner, BaseException):
            return _innermost(inner)
    return error


def _check_fits_json(name: str, array: np.ndarray, spec: TensorSpec) -> None:
    if spec.dtype in _NOT_IN_JSON:
        raise Unimplemented(f"{name}: {spec.dtype} cannot be sent as JSON; use a grpc:// address")
    if 0 in array.shape[:-1]:
        raise InvalidArgument(
            f"{name}: JSON cannot express the shape {array.shape}; use a grpc:// address"
        )


def _fits_row_format(arrays: Mapping[str, np.ndarray], signature: Signature) -> bool:
    """The row format gives the shorter response, but only holds one batched input and output.

    The column format holds everything.
    """
    if len(signature.inputs) != 1 or len(signature.outputs) != 1:
        return False
    for spec in (*signature.inputs.values(), *signature.outputs.values()):
        if not spec.shape or spec.shape[0] != -1:
            return False
    return all(array.ndim > 0 and len(array) > 0 for array in arrays.values())


def _shaped(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """An empty JSON list does not say the inner dimensions; take them from the signature if they
    are fixed."""
    if array.shape != (0,) or not spec.shape:
        return array
    inner = spec.shape[1:]
    if any(size < 0 for size in inner):
        return array
    return array.reshape(0, *inner)


def _read_success(status: int, body: bytes) -> bytes:
    if status == 200:
        return body
    raise _error(status, body)


def _error(status: int, body: bytes) -> HeadraceError:
    """The server's own error. If the body is something else, its start: it may be a wrong
    address."""
    text = body.decode("utf-8", "replace")
    try:
        content = json.loads(text, strict=False)
        error = from_http_status(status, str(content["error"]))
        error.details = checked_details(content.get("details"))
    except (ValueError, TypeError, KeyError, RecursionError):
        start = text.strip()[:200] or "an empty body"
        return from_http_status(status, f"HTTP status {status}: {start}")
    return error


def _read_json(status: int, body: bytes) -> Any:
    try:
        return json.loads(_read_success(status, body))
    except (ValueError, RecursionError) as error:
        raise UnexpectedResponse(f"not an answer of a model server: {body[:200]!r}") from error


def _read_metadata(status: int, body: bytes) -> Metadata:
    from google.protobuf import json_format

    content = _read_json(status, body)
    definitions = messages.SignatureDefMap()
    try:
        json_format.ParseDict(
            content["metadata"]["signature_def"], definitions, ignore_unknown_fields=True
        )
        version = int(content["model_spec"]["version"])
    except (KeyError, TypeError, ValueError, json_format.ParseError) as error:
        raise UnexpectedResponse(f"the metadata cannot be read: {error}") from error
    return Metadata(version, signatures.from_signature_defs(definitions.signature_def))


def _read_status(status: int, body: bytes) -> list[VersionStatus]:
    content = _read_json(status, body)
    try:
        return [_version_status(version) for version in content["model_version_status"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UnexpectedResponse(f"the status cannot be read: {error!r}") from error


def _version_status(version: Mapping[str, Any]) -> VersionStatus:
    return VersionStatus(
        version=int(version["version"]),
        state=version["state"],
        error_code=version["status"]["error_code"],
        error_message=version["status"]["error_message"],
    )


def _read_models(status: int, body: bytes) -> Any:
    if status in (400, 404) and b'"models"' not in body:
        raise Unimplemented(
            "this server has no list of models (TensorFlow Serving has none); ask for one by "
            "status(model)"
        )
    return _read_json(status, body)["models"]


def _read_ready(status: int, body: bytes) -> bool:
    if status == 404:
        raise Unimplemented(
            "this server has no /readyz (TensorFlow Serving has none); name a model: ready(model)"
        )
    if status not in (200, 503):
        raise _error(status, body)
    return status == 200
