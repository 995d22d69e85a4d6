"""KerasTuner's chief, which hands out trials to workers in other processes.

The protocol and its environment variables are KerasTuner's: `KERASTUNER_TUNER_ID`
(`chief`, or a different name for each worker), `KERASTUNER_ORACLE_IP` and
`KERASTUNER_ORACLE_PORT`. KerasTuner's own loop is not used: it waits forever for a dead
worker, and up to 20 seconds for a live one.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import keras_tuner

LOOPBACK = "127.0.0.1"
_POLL_SECONDS = 0.1
_GOODBYE_SECONDS = 5.0


class AddressError(OSError):
    """The chief cannot listen on its address."""


class StrangerError(Exception):
    """The chief at this address belongs to another search than the worker."""


class UnreachableError(Exception):
    """No chief answers at the address, or no longer."""


def role() -> str | None:
    """`"chief"` or `"worker"` by KerasTuner's variables; None if they are not set."""
    if "KERASTUNER_TUNER_ID" not in os.environ:
        return None
    return "chief" if "chief" in os.environ["KERASTUNER_TUNER_ID"] else "worker"


def address() -> str:
    """`host:port` of the chief; without a role, loopback with any free port.

    Raises:
        AddressError: If the environment sets a role but no address.
    """
    if role() is None:
        return f"{LOOPBACK}:0"
    names = ("KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise AddressError(f"no {' and no '.join(missing)}")
    return ":".join(os.environ[name] for name in names)


def check_address() -> None:
    """Checks that a chief could listen on `address()`.

    Raises:
        AddressError: If it could not, or the address is not set.
    """
    host, _, port = address().rpartition(":")
    if role() is not None and port == "0":
        raise AddressError(f"{address()} (any free port, which no worker would know)")
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
        family, kind, protocol, _, (name, _, *others) = found[0]
        with socket.socket(family, kind, protocol) as probe:
            # As gRPC: a port that was closed a moment ago is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((name, int(port), *others))
    except (OSError, OverflowError, ValueError) as error:
        raise AddressError(f"{address()} ({error})") from None


def answers(patience_seconds: float = 5.0) -> bool:
    """Whether a process listens on `address()`; it need not be a chief.

    Args:
        patience_seconds: Longest time to wait for an answer.
    """
    host, _, port = address().rpartition(":")
    try:
        socket.create_connection(
            (host.strip("[]"), int(port)), patience_seconds
        ).close()
    except (OSError, OverflowError, ValueError):
        return False
    return True


def member(tuner_id: str, search_id: str) -> str:
    """The name by which a worker of a search asks its chief for trials."""
    return f"{tuner_id}@{search_id}"


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """Translates gRPC's errors in a `with` block in which a worker asks its chief.

    Raises:
        StrangerError: If the chief belongs to another search.
        UnreachableError: If the chief does not answer within KerasTuner's time limit.
    """
    import grpc

    try:
        yield
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.PERMISSION_DENIED:
            raise StrangerError(error.details()) from None
        unreachable = grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE
        if error.code() in unreachable:
            raise UnreachableError(f"nobody answers at {address()}") from None
        raise


@contextlib.contextmanager
def _server(
    oracle: keras_tuner.Oracle, search_id: str, listen_to: str
) -> Iterator[tuple[Any, int]]:
    """Yields KerasTuner's servicer of the oracle, and the port it listens on."""
    # The import of gRPC takes a second, and only a chief needs it
    import grpc
    from keras_tuner.src import protos
    from keras_tuner.src.distribute.oracle_chief import OracleServicer

    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=1), options=[("grpc.so_reuseport", 0)]
    )

    class MembersOnly(OracleServicer):
        """Refuses workers of other searches, whose trials would spoil this one."""

        def CreateTrial(self, request: Any, context: Any) -> Any:
            name, _, theirs = request.tuner_id.rpartition("@")
            if theirs != search_id:
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "of another search")
            request.tuner_id = name
            return super().CreateTrial(request, context)

    servicer = MembersOnly(oracle)
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    try:
        port = server.add_insecure_port(listen_to)
    except RuntimeError as error:
        raise AddressError(f"{listen_to} ({error})") from None
    server.start()
    try:
        yield servicer, port
    finally:
        server.stop(grace=None).wait()


def serve(
    oracle: keras_tuner.Oracle,
    search_id: str,
    listen_to: str,
    on_start: Callable[[int], None],
    lost_workers: Callable[[], list[str]],
    on_lost: Callable[[str, str | None], None],
) -> None:
    """Hands out trials until the search is over.

    Args:
        oracle: The oracle of the search; it is a `durable.Durable`.
        search_id: Id of the search. Workers that do not ask as a `member` of it are
            refused.
        listen_to: `host:port`; port 0 means any free port.
        on_start: Function that is called with the port once workers can connect.
        lost_workers: Function that gives the ids of workers lost since its last call;
            an exception from it ends the search.
        on_lost: Function that is called with the id of a lost worker and the id of its
            trial, which is handed out again; None if the worker had no trial.

    Raises:
        AddressError: If the chief cannot listen on the address.
    """
    with _server(oracle, search_id, listen_to) as (servicer, port):
        on_start(port)
        while not servicer.stop_triggered:
            for tuner_id in lost_workers():
                on_lost(tuner_id, oracle.lose_worker(tuner_id))
            time.sleep(_POLL_SECONDS)
        # The other workers learn of the end with their next question
        patience = time.monotonic() + _GOODBYE_SECONDS
        while oracle.tuner_ids and time.monotonic() < patience:
            time.sleep(_POLL_SECONDS)
