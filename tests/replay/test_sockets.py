"""The guard: nothing is connected to while a test replays, and everything is as before afterwards."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from lmtrace_replay._sockets import NetworkBlockedError, SocketGuard

NAMES = ("connect", "connect_ex", "sendto", "sendmsg")
FAR = ("192.0.2.1", 80)


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    """Something on this machine that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()


@pytest.mark.parametrize("address", [FAR, ("127.0.0.1", 9)])
@pytest.mark.parametrize("method", ["connect", "connect_ex"])
def test_connections_are_refused(method: str, address: tuple[str, int]) -> None:
    """A raw socket opens no connection, not even to the machine itself; the guard knows where it would have gone."""
    with SocketGuard() as guard, socket.socket() as connection, pytest.raises(NetworkBlockedError, match="replays"):
        getattr(connection, method)(address)
    assert guard.refused == [f"{address[0]}:{address[1]}"]


def test_datagrams_are_refused() -> None:
    """Nothing is sent without a connection either."""
    with SocketGuard() as guard, socket.socket(type=socket.SOCK_DGRAM) as connection:
        with pytest.raises(NetworkBlockedError):
            connection.sendto(b"x", FAR)
        with pytest.raises(NetworkBlockedError):
            connection.sendto(b"x", 0, FAR)
        with pytest.raises(NetworkBlockedError):
            connection.sendmsg([b"x"], [], 0, FAR)
    assert len(guard.refused) == 3


@pytest.mark.parametrize(
    "look_up", [lambda: socket.getaddrinfo("api.example", 443), lambda: socket.gethostbyname("api.example")]
)
def test_names_are_not_looked_up(look_up) -> None:
    """Nobody is asked for the address of a host."""
    with SocketGuard(), pytest.raises(NetworkBlockedError, match=r"api\.example"):
        look_up()


async def test_async_connections_are_refused() -> None:
    """Streams of asyncio are connections like others."""
    with SocketGuard():
        with pytest.raises(NetworkBlockedError):
            await asyncio.open_connection(*FAR)
        with pytest.raises(NetworkBlockedError):
            await asyncio.open_connection("api.example", 443)


def test_threads_are_guarded() -> None:
    """The guard holds in the whole process."""
    caught: list[BaseException] = []

    def connect() -> None:
        try:
            socket.create_connection(FAR)
        except OSError as error:
            caught.append(error)

    with SocketGuard():
        thread = threading.Thread(target=connect)
        thread.start()
        thread.join()
    assert isinstance(caught[0], NetworkBlockedError)


@pytest.mark.parametrize("allow", ["loopback", "127.0.0.1", "localhost", "127.0.0.1:{port}", "LOCALHOST:{port}"])
def test_allowed_hosts(allow: str, server: tuple[str, int]) -> None:
    """What is allowed by name, with a port or as loopback is connected to."""
    host = "localhost" if "localhost" in allow.lower() else "127.0.0.1"
    with SocketGuard([allow.format(port=server[1])]):
        socket.create_connection((host, server[1])).close()


def test_other_ports_are_refused(server: tuple[str, int]) -> None:
    """A host allowed with a port is allowed with that port only."""
    with SocketGuard([f"127.0.0.1:{server[1] - 1}"]), pytest.raises(NetworkBlockedError, match="loopback"):
        socket.create_connection(server)


def test_allowed_names_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a name is allowed, so are the addresses it has, at the port that was allowed."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, **_: [(2, 1, 6, "", ("192.0.2.7", port))])
    guard = SocketGuard(["api.example:443", "db.example"])
    with guard:
        socket.getaddrinfo("api.example", 443)
        guard.check("192.0.2.7", 443)
        with pytest.raises(NetworkBlockedError):
            guard.check("192.0.2.7", 80)
        socket.getaddrinfo("db.example", port=5432)
        guard.check("192.0.2.7", 80)


async def test_servers_and_event_loops_work() -> None:
    """A test may listen, make event loops and pairs of sockets."""
    with SocketGuard():
        one, other = socket.socketpair()
        one.send(b"x")
        assert other.recv(1) == b"x"
        one.close()
        other.close()
        started = await asyncio.start_server(lambda *_: None, "localhost", 0)
        started.close()
        await started.wait_closed()
        assert await asyncio.to_thread(lambda: asyncio.run(asyncio.sleep(0, "done"))) == "done"


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no sockets in the file system")
def test_file_sockets_work(tmp_path) -> None:
    """Sockets of the file system are not the network."""
    place = str(tmp_path / "s")
    with SocketGuard(), socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as connection:
        listening.bind(place)
        listening.listen()
        connection.connect(place)


def test_everything_is_restored(server: tuple[str, int]) -> None:
    """After the last of nested guards, `socket` holds the very objects it held before."""
    before = {name: vars(socket.socket).get(name) for name in NAMES}, socket.getaddrinfo, socket.socketpair
    outer, inner = SocketGuard(), SocketGuard(["loopback"])
    outer.start()
    inner.start()
    outer.stop()
    socket.create_connection(server).close()
    inner.stop()
    inner.stop()
    assert before == ({name: vars(socket.socket).get(name) for name in NAMES}, socket.getaddrinfo, socket.socketpair)


def test_another_patch_stays(monkeypatch: pytest.MonkeyPatch, server: tuple[str, int]) -> None:
    """A patch put over the guard's is not undone with it, and the guard under it lets pass."""
    guard = SocketGuard()
    guard.start()
    ours = socket.socket.connect

    def theirs(*args) -> None:
        ours(*args)

    socket.socket.connect = theirs
    try:
        guard.stop()
        assert socket.socket.connect is theirs
        socket.create_connection(server).close()
    finally:
        del socket.socket.connect
