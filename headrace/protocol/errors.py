"""One tree of errors for every part of Headrace.

Each class knows its canonical status: name, gRPC code and HTTP status, as plain values, so that
nothing here imports a transport. Doors translate; they never invent.

    HeadraceError
    ├── Cancelled            CANCELLED            1   499
    ├── Unknown              UNKNOWN              2   500
    ├── InvalidArgument      INVALID_ARGUMENT     3   400
    │   ├── RequestTimeout                        3   408
    │   ├── BodyTooLarge                          3   413
    │   ├── UnsupportedMedia                      3   415
    │   ├── NotAcceptable                         3   406
    │   └── ConfigError      a model config: line and column
    ├── DeadlineExceeded     DEADLINE_EXCEEDED    4   504
    ├── NotFound             NOT_FOUND            5   404
    ├── AlreadyExists        ALREADY_EXISTS       6   409
    ├── PermissionDenied     PERMISSION_DENIED    7   403
    ├── ResourceExhausted    RESOURCE_EXHAUSTED   8   429
    ├── FailedPrecondition   FAILED_PRECONDITION  9   400
    ├── Aborted              ABORTED             10   409
    ├── OutOfRange           OUT_OF_RANGE        11   400
    ├── Unimplemented        UNIMPLEMENTED       12   501
    ├── Internal             INTERNAL            13   500
    ├── Unavailable          UNAVAILABLE         14   503
    ├── DataLoss             DATA_LOSS           15   500
    └── Unauthenticated      UNAUTHENTICATED     16   401
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from headrace.protocol.faults import Fault


# gRPC's trailing metadata: what REST has under "details", as JSON.
DETAILS_METADATA = "headrace-details"


class HeadraceError(Exception):
    """Anything a caller can be told about. ``fault`` says where in the request, when there is a
    place.

    ``details`` is what a server said beside its message, as it came: a list of objects with path,
    expected, got.
    """

    status_name: ClassVar[str] = "UNKNOWN"
    grpc_code: ClassVar[int] = 2
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, fault: Fault | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fault = fault
        self.details: list[dict[str, Any]] = []


class Cancelled(HeadraceError):
    status_name, grpc_code, http_status = "CANCELLED", 1, 499


class Unknown(HeadraceError):
    status_name, grpc_code, http_status = "UNKNOWN", 2, 500


class InvalidArgument(HeadraceError):
    status_name, grpc_code, http_status = "INVALID_ARGUMENT", 3, 400


class RequestTimeout(InvalidArgument):
    http_status = 408


class BodyTooLarge(InvalidArgument):
    http_status = 413


class UnsupportedMedia(InvalidArgument):
    http_status = 415


class NotAcceptable(InvalidArgument):
    http_status = 406


class ConfigError(InvalidArgument):
    """A model config that cannot be used; ``line`` and ``column`` count from 1, 0 when no place is
    known.

    ``serving_text`` is what TensorFlow Serving says of it, which knows no places; ``unparsed`` the
    full name of the message that the text is not, where that is what is wrong.
    """

    def __init__(
        self,
        message: str,
        *,
        line: int = 0,
        column: int = 0,
        source: str = "",
        serving_text: str = "",
        unparsed: str = "",
    ) -> None:
        place = (
            f"{source or 'config'}:{line}:{column}: " if line else (f"{source}: " if source else "")
        )
        super().__init__(place + message)
        self.reason = message
        self.line = line
        self.column = column
        self.source = source
        self.serving_text = serving_text or self.message
        self.unparsed = unparsed


class DeadlineExceeded(HeadraceError):
    status_name, grpc_code, http_status = "DEADLINE_EXCEEDED", 4, 504


class NotFound(HeadraceError):
    status_name, grpc_code, http_status = "NOT_FOUND", 5, 404


class AlreadyExists(HeadraceError):
    status_name, grpc_code, http_status = "ALREADY_EXISTS", 6, 409


class PermissionDenied(HeadraceError):
    status_name, grpc_code, http_status = "PERMISSION_DENIED", 7, 403


class ResourceExhausted(HeadraceError):
    status_name, grpc_code, http_status = "RESOURCE_EXHAUSTED", 8, 429


class FailedPrecondition(HeadraceError):
    status_name, grpc_code, http_status = "FAILED_PRECONDITION", 9, 400


class Aborted(HeadraceError):
    status_name, grpc_code, http_status = "ABORTED", 10, 409


class OutOfRange(HeadraceError):
    status_name, grpc_code, http_status = "OUT_OF_RANGE", 11, 400


class Unimplemented(HeadraceError):
    status_name, grpc_code, http_status = "UNIMPLEMENTED", 12, 501


class Internal(HeadraceError):
    status_name, grpc_code, http_status = "INTERNAL", 13, 500


class Unavailable(HeadraceError):
    status_name, grpc_code, http_status = "UNAVAILABLE", 14, 503


class DataLoss(HeadraceError):
    status_name, grpc_code, http_status = "DATA_LOSS", 15, 500


class Unauthenticated(HeadraceError):
    status_name, grpc_code, http_status = "UNAUTHENTICATED", 16, 401


_CANONICAL: tuple[type[HeadraceError], ...] = (
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
)
_BY_GRPC_CODE = {cls.grpc_code: cls for cls in _CANONICAL}
# Where several classes share an HTTP status, the one a client would expect first.
_BY_HTTP_STATUS: dict[int, type[HeadraceError]] = {
    400: InvalidArgument,
    401: Unauthenticated,
    403: PermissionDenied,
    404: NotFound,
    409: Aborted,
    413: BodyTooLarge,
    429: ResourceExhausted,
    499: Cancelled,
    500: Internal,
    501: Unimplemented,
    503: Unavailable,
    504: DeadlineExceeded,
}


def from_grpc_code(code: int, message: str) -> HeadraceError:
    return _BY_GRPC_CODE.get(code, Unknown)(message)


def from_http_status(status: int, message: str) -> HeadraceError:
    fallback = InvalidArgument if 400 <= status < 500 else Unknown
    return _BY_HTTP_STATUS.get(status, fallback)(message)
