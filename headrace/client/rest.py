"""REST: the calls in TensorFlow Serving's JSON, and the requests adapter that carries them."""

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
from headrace.client.core import Metadata, Misfit, Prediction, VersionStatus
from headrace.client.deadline import Deadline
from headrace.client.errors import Unreachable, WrongProtocol
from headrace.codec import answers, predict
from headrace.protocol import dtypes, messages, rest_paths, signatures
from headrace.protocol.errors import HeadraceError, InvalidArgument, Unimplemented, from_http_status
from headrace.protocol.model_spec import ModelSpec
from headrace.protocol.signatures import Signature, TensorSpec

_HEADERS = {
    "Accept": "application/json",
    # Unpacking costs more than a local network does.
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": f"headrace/{headrace.__version__}",
}
_READ_BYTES = 1 << 18
_CONNECTIONS_KEPT = 32
# The frame that a gRPC server begins with, where a status line should be: its length, its type.
_HTTP2_SETTINGS = re.compile(r"\0\0[\s\S]\x04")
_JSON_LACKS = (dtypes.HALF, dtypes.BFLOAT16, dtypes.COMPLEX64, dtypes.COMPLEX128)


@dataclass(frozen=True, slots=True)
class RestCall:
    """``read`` turns the status and the body of an answer into what was asked for, or raises."""

    method: str
    path: str
    read: Callable[[int, bytes], Any]
    body: bytes | None = None


class RestWire:
    def predict(
        self, target: ModelSpec, arrays: Mapping[str, np.ndarray], signature: Signature
    ) -> RestCall:
        for name, array in arrays.items():
            _check_json_holds(name, array, signature.inputs[name])
        body = predict.build_predict(
            arrays,
            signature_name=signature.name,
            row_format=_fits_rows(arrays, signature),
            signature=signature,
        )
        return RestCall("POST", rest_paths.path(target, ":predict"), _accepted, body)

    def prediction(self, answer: bytes, signature: Signature) -> Prediction:
        try:
            found = answers.parse_predictions(answer, signature)
        except InvalidArgument as cause:
            raise Misfit(
                f"the answer does not fit signature {signature.name}: {cause.message}"
            ) from cause
        return Prediction(
            {name: _shaped(array, signature.outputs[name]) for name, array in found.items()}
        )

    def metadata(self, target: ModelSpec) -> RestCall:
        return RestCall(
            "GET",
            rest_paths.path(target, rest_paths.METADATA),
            lambda status, body: _metadata(_json(status, body)),
        )

    def status(self, target: ModelSpec) -> RestCall:
        return RestCall(
            "GET", rest_paths.path(target), lambda status, body: _statuses(_json(status, body))
        )

    def models(self) -> RestCall:
        return RestCall("GET", rest_paths.MODELS, _models)

    def ready(self) -> RestCall:
        return RestCall("GET", "/readyz", _ready)


class RestTransport:
    """One pool of kept connections, safe for any number of threads.

    The adapter is used without a Session: no cookies, no redirects, no .netrc, half the time a
    call.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._adapter = HTTPAdapter(pool_maxsize=_CONNECTIONS_KEPT)
        # The environment is asked once, and never for a proxy to this very machine.
        self._proxies = {} if address.is_loopback else get_environ_proxies(str(address))
        self._verify = (
            os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
        )

    def send(self, call: RestCall, deadline: Deadline) -> Any:
        request = requests.Request(
            call.method, str(self._address) + call.path, headers=_HEADERS, data=call.body
        )
        # To connect and to begin to answer, together.
        timeout: Any = urllib3.Timeout(total=deadline.left_s())
        try:
            with self._adapter.send(
                request.prepare(),
                stream=True,
                timeout=timeout,
                verify=self._verify,
                proxies=self._proxies,
            ) as response:
                body = _body(response.raw, deadline)
        except (requests.Timeout, urllib3.exceptions.TimeoutError) as cause:
            raise deadline.exceeded() from cause
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as cause:
            raise _unanswered(self._address, cause) from cause
        return call.read(response.status_code, body)

    def close(self) -> None:
        self._adapter.close()


def _body(raw: Any, deadline: Deadline) -> bytes:
    """Read as it comes, because the socket's timeout alone would let a trickling answer go on for
    ever."""
    pieces = []
    while piece := raw.read1(_READ_BYTES):
        pieces.append(piece)
        deadline.left_s()
    return b"".join(pieces)


def _unanswered(address: Address, cause: BaseException) -> HeadraceError:
    inner = _innermost(cause)
    if isinstance(inner, http.client.BadStatusLine) and _HTTP2_SETTINGS.match(str(inner)):
        return WrongProtocol(f"{address} is a gRPC port: use {address.other}")
    reason = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    return Unreachable(f"cannot reach {address}: {reason}")


def _innermost(cause: BaseException) -> BaseException:
    """What lies under the layers of requests and urllib3."""
    inner: BaseException | None = cause
    while inner is not None:
        cause = inner
        below = (getattr(cause, "reason", None), *cause.args, cause.__cause__)
        inner = next((e for e in below if isinstance(e, BaseException)), None)
    return cause


def _check_json_holds(name: str, array: np.ndarray, spec: TensorSpec) -> None:
    if spec.dtype in _JSON_LACKS:
        raise Unimplemented(f"{name}: {spec.dtype} does not travel as JSON; use a grpc:// address")
    if 0 in array.shape[:-1]:
        raise InvalidArgument(
            f"{name}: JSON cannot say the shape {array.shape}; use a grpc:// address"
        )


def _fits_rows(arrays: Mapping[str, np.ndarray], signature: Signature) -> bool:
    """Rows are the shorter answer, but only for one batched tensor in and one out; the columns hold
    everything."""
    specs = [*signature.inputs.values(), *signature.outputs.values()]
    is_simple = len(specs) == 2 and all(s.shape and s.shape[0] == -1 for s in specs)
    return is_simple and all(a.ndim > 0 and len(a) > 0 for a in arrays.values())


def _shaped(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """An empty JSON list has lost its inner dimensions; the signature knows them where they are
    fixed."""
    if array.shape == (0,) and spec.shape and all(d >= 0 for d in spec.shape[1:]):
        return array.reshape(0, *spec.shape[1:])
    return array


def _accepted(status: int, body: bytes) -> bytes:
    if status == 200:
        return body
    raise _error(status, body)


def _error(status: int, body: bytes) -> HeadraceError:
    """The server's words and details; where the body is none of ours, its beginning, so that a
    wrong address shows."""
    text = body.decode("utf-8", "replace")
    try:
        said = json.loads(text, strict=False)
        error = from_http_status(status, str(said["error"]))
        details = said.get("details", [])
    except (ValueError, TypeError, KeyError, RecursionError):
        return from_http_status(
            status, f"HTTP status {status}: {text.strip()[:200] or 'an empty body'}"
        )
    error.details = [d for d in details if isinstance(d, dict)] if isinstance(details, list) else []
    return error


def _json(status: int, body: bytes) -> Any:
    try:
        return json.loads(_accepted(status, body))
    except (ValueError, RecursionError) as cause:
        raise Misfit(f"not an answer of a model server: {body[:200]!r}") from cause


def _metadata(said: Any) -> Metadata:
    from google.protobuf import json_format

    definitions = messages.SignatureDefMap()
    try:
        json_format.ParseDict(
            said["metadata"]["signature_def"], definitions, ignore_unknown_fields=True
        )
        version = int(said["model_spec"]["version"])
    except (KeyError, TypeError, ValueError, json_format.ParseError) as cause:
        raise Misfit(f"the metadata cannot be read: {cause}") from cause
    found = {n: signatures.from_signature_def(n, d) for n, d in definitions.signature_def.items()}
    return Metadata(version, found)


def _statuses(said: Any) -> list[VersionStatus]:
    try:
        return [
            VersionStatus(
                int(row["version"]),
                row["state"],
                row["status"]["error_code"],
                row["status"]["error_message"],
            )
            for row in said["model_version_status"]
        ]
    except (KeyError, TypeError, ValueError) as cause:
        raise Misfit(f"the status cannot be read: {cause!r}") from cause


def _models(status: int, body: bytes) -> Any:
    if status in (400, 404) and b'"models"' not in body:
        raise Unimplemented(
            "this server has no list of models (TensorFlow Serving has none); ask for one by "
            "status(model)"
        )
    return _json(status, body)["models"]


def _ready(status: int, body: bytes) -> bool:
    if status == 404:
        raise Unimplemented(
            "this server has no /readyz (TensorFlow Serving has none); name a model: ready(model)"
        )
    if status not in (200, 503):
        raise _error(status, body)
    return status == 200
