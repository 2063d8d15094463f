"""Talk to a model server: Headrace's gateway, ``headrace serve`` or TensorFlow Serving, over REST
or gRPC."""

from headrace.client.async_client import AsyncClient
from headrace.client.client import Client
from headrace.client.core import Result, VersionStatus

__all__ = ["AsyncClient", "Client", "Result", "VersionStatus"]
