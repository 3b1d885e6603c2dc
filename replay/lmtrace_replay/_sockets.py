"""Nothing leaves the machine while a test replays: what would open a connection or look up a name is refused.

This is the second line of defence. Calls through lmtrace and LiteLLM are answered before they reach a socket; what comes here
went another way, and would otherwise be answered by a live provider without anyone noticing. Loopback is refused too, because
models are served there, unless it is allowed. Sockets of the file system are not: databases and Docker live there.

The guard sees Python's sockets, sync and async, in every thread. Libraries that bring their own in C (gRPC, libcurl, libuv)
are out of its reach. Every patch is undone when the last guard ends; a patch that somebody put over it meanwhile stays.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, Self

from lmtrace._errors import LMTraceError

LOOPBACK: Final = "loopback"
"""What to allow for every address of the machine itself."""

_METHODS: Final = {"connect": 0, "connect_ex": 0, "sendto": -1, "sendmsg": 3}
"""Methods of a socket that take an address, and at which position; the last one of `sendto` may be its second or third."""

_LOOKUPS: Final = ("getaddrinfo", "gethostbyname", "gethostbyname_ex")

_pairing = threading.local()
"""Windows makes a socket pair, which every event loop needs, of two sockets connected over loopback."""


class NetworkBlockedError(LMTraceError, ConnectionError):
    """A connection that replay refused to open; a `ConnectionError`, so that it is handled where failures of the network are."""


class SocketGuard:
    """Refuses connections from `start` to `stop`, or in a ``with`` block, in the whole process.

    Args:
        allow: Hosts that may be reached, as ``host``, ``host:port`` or ``"loopback"``.
    """

    def __init__(self, allow: Iterable[str] = ()) -> None:
        self._allowed = {host.strip().lower() for host in allow}
        self.refused: list[str] = []
        """Where connections were about to go, as ``host:port``, in the order they were refused."""

    def start(self) -> None:
        with _lock:
            if not _guards:
                _patches.apply()
            _guards.append(self)

    def stop(self) -> None:
        """Refuse nothing any more; twice is once."""
        with _lock, suppress(ValueError):
            _guards.remove(self)
            if not _guards:
                _patches.undo()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def check(self, host: Any, port: Any) -> None:
        """Raise unless the host may be reached.

        Raises:
            NetworkBlockedError: it may not.
        """
        name = _text(host).lower()
        names = (name, "localhost", LOOPBACK) if is_loopback(name) else (name,)
        if not self._allowed.isdisjoint((*names, *(f"{one}:{port}" for one in names))):
            return
        place = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
        self.refused.append(place)
        raise NetworkBlockedError(
            f"{place}: the test replays recorded answers, so no connection is opened. A call to a model that is made neither "
            "by lmtrace.LM nor by LiteLLM cannot be replayed; another service is allowed with "
            f'@pytest.mark.lmtrace(allow=["{LOOPBACK if is_loopback(name) else name}"]) or the setting lmtrace_allow.'
        )

    def allow_addresses(self, host: Any, port: Any, addresses: Iterable[Any]) -> None:
        """Let the addresses of an allowed name be reached, at the port that is allowed."""
        end = "" if _text(host).lower() in self._allowed else f":{port}"
        self._allowed.update(f"{address}{end}".lower() for address in addresses)


def is_loopback(host: str) -> bool:
    """Whether an address or name is the machine itself."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _text(host: Any) -> str:
    return host.decode("ascii", "replace") if isinstance(host, (bytes, bytearray)) else str(host)


_lock = threading.RLock()
_guards: list[SocketGuard] = []


def _check_address(connection: socket.socket, address: Any) -> None:
    internet = connection.family in (socket.AF_INET, socket.AF_INET6)
    if internet and isinstance(address, tuple) and len(address) >= 2 and not getattr(_pairing, "active", False):
        for guard in tuple(_guards):
            guard.check(address[0], address[1])


def _guarded(original: Callable[..., Any], position: int) -> Callable[..., Any]:
    def method(self: socket.socket, *args: Any) -> Any:
        if len(args) > max(position, 0):
            _check_address(self, args[position])
        return original(self, *args)

    return method


def _guarded_lookup(original: Callable[..., Any]) -> Callable[..., Any]:
    def lookup(host: Any, *args: Any, **options: Any) -> Any:
        guards = tuple(_guards) if host and not _is_local(host) else ()
        port = args[0] if args else options.get("port", "")
        for guard in guards:
            guard.check(host, port)
        found = original(host, *args, **options)
        for guard in guards:
            guard.allow_addresses(host, port, _addresses(found))
        return found

    return lookup


def _is_local(host: Any) -> bool:
    """Whether a look-up asks nobody: an address, or a name of the machine itself, which servers bind to."""
    name = _text(host).lower()
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return is_loopback(name)
    return True


def _addresses(found: Any) -> list[Any]:
    """Of what `getaddrinfo`, `gethostbyname` and `gethostbyname_ex` return."""
    if isinstance(found, str):
        return [found]
    return list(found[2]) if isinstance(found, tuple) else [entry[4][0] for entry in found]


def _paired(original: Callable[..., Any]) -> Callable[..., Any]:
    def socketpair(*args: Any, **options: Any) -> Any:
        before, _pairing.active = getattr(_pairing, "active", False), True
        try:
            return original(*args, **options)
        finally:
            _pairing.active = before

    return socketpair


class _Patches:
    """What stands in `socket` in the place of the originals."""

    def __init__(self) -> None:
        self._applied: list[tuple[Any, str, Any, Any]] = []

    def apply(self) -> None:
        for name, position in _METHODS.items():
            if hasattr(socket.socket, name):  # Windows has no sendmsg
                self._put(socket.socket, name, _guarded(getattr(socket.socket, name), position))
        for name in _LOOKUPS:
            self._put(socket, name, _guarded_lookup(getattr(socket, name)))
        self._put(socket, "socketpair", _paired(socket.socketpair))

    def _put(self, owner: Any, name: str, value: Any) -> None:
        self._applied.append((owner, name, vars(owner).get(name), value))
        setattr(owner, name, value)

    def undo(self) -> None:
        """Put the originals back, except where another patch has been put over ours: that one then calls ours, which lets pass."""
        for owner, name, before, ours in self._applied:
            if vars(owner).get(name) is not ours:
                continue
            if before is None:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
        self._applied.clear()


_patches = _Patches()
