"""ML Metadata's gRPC service, as a cluster has it, on loopback: ml-metadata's own library over a sqlite file."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as library
from ml_metadata.proto import metadata_store_pb2, metadata_store_service_pb2

_SERVICE = metadata_store_service_pb2.DESCRIPTOR.services_by_name["MetadataStoreService"]
_CODES = {code.value[0]: code for code in grpc.StatusCode}


@contextlib.contextmanager
def metadata_service(path: Path) -> Iterator[int]:
    """Serves a store within the context, and gives the port."""
    connection = metadata_store_pb2.ConnectionConfig()
    connection.sqlite.filename_uri = str(path)
    connection.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    migration = metadata_store_pb2.MigrationOptions()
    store = library.CreateMetadataStore(connection.SerializeToString(), migration.SerializeToString())
    # The library has every method of the service but three, by the same names, from bytes to bytes.
    methods = {
        method.name: grpc.unary_unary_rpc_method_handler(functools.partial(_answer, store, method.name))
        for method in _SERVICE.methods
        if hasattr(library, method.name)
    }
    server = grpc.server(futures.ThreadPoolExecutor(1), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE.full_name, methods),))
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(1).wait()


def _answer(store: object, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
    response, message, code = getattr(library, method)(store, request)
    if code:
        context.abort(_CODES[code], message.decode())
    return response
