"""HTTP on the loopback interface, and nothing else: connections, framing, latency, closing without leftovers.

What to answer is decided by the application, a callable from `Received` to `Sent`. Connections are kept alive, as with a
real provider; closing cuts those that are open, wakes those that wait, and joins every thread.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A request as HTTP sees it."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A response as HTTP sees it: one body, or pieces sent one by one."""

    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes] = b""
    latency: float = 0.0


class CutError(Exception):
    """Raised by the application, or while it produces pieces: the connection is closed at once."""


Application = Callable[[Received], Sent]


class Server(ThreadingHTTPServer):
    """A server that runs from `start` to `stop` in threads of its own."""

    request_queue_size = 256
    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # elsewhere it would let two servers share a port

    def __init__(self, application: Application, port: int = 0) -> None:
        self.application = application
        self.closing = threading.Event()
        self._workers: dict[threading.Thread, socket.socket] = {}
        self._lock = threading.Lock()
        self._accepting = threading.Thread(target=self._accept, name="lmtrace-loopback", daemon=True)
        super().__init__((HOST, port), _Handler)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server_address[1])

    def server_bind(self) -> None:
        """Bind without asking for the host's name, which `HTTPServer` does and which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.port

    def start(self) -> None:
        """Begin to accept connections."""
        self._accepting.start()

    def stop(self) -> None:
        """Close every connection and wait until every thread has ended."""
        self.closing.set()
        socket.create_connection((HOST, self.port)).close()  # wakes the accepting thread
        self._accepting.join()
        self.server_close()
        with self._lock:
            workers = list(self._workers.items())
        for _, connection in workers:
            _hang_up(connection)
        for worker, _ in workers:
            worker.join(timeout=5.0)  # only a `respond` callable that never returns can outlast this

    def _accept(self) -> None:
        while not self.closing.is_set():
            self.handle_request()  # waits for a connection without polling, unlike serve_forever

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Refuse what comes after the end, the waking connection included."""
        return not self.closing.is_set()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection in a thread that `stop` can join."""
        worker = threading.Thread(
            target=self._serve, args=(request, client_address), name="lmtrace-loopback-connection", daemon=True
        )
        with self._lock:
            self._workers[worker] = request
        worker.start()

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            return  # the client went away, or `stop` hung up: both are part of the tests this serves
        finally:
            self.shutdown_request(request)
            with self._lock:
                self._workers.pop(threading.current_thread(), None)


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # already closed by its own thread


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body leave in one packet
    server_version = "lmtrace-loopback"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Print nothing: what was asked is in `LoopbackProvider.requests`."""

    def _answer(self) -> None:
        try:
            sent = self.server.application(self._received())
            self._wait(sent.latency)
            if isinstance(sent.body, bytes):
                self._head(sent, {"Content-Length": str(len(sent.body))})
                self.wfile.write(sent.body)
            else:
                self._head(sent, {"Transfer-Encoding": "chunked"})
                self._pieces(sent.body)
        except CutError:
            self.close_connection = True

    def _wait(self, seconds: float) -> None:
        if seconds and self.server.closing.wait(seconds):
            raise CutError

    def _received(self) -> Received:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Received(method=self.command, target=self.path, headers=headers, body=body)

    def _head(self, sent: Sent, framing: Mapping[str, str]) -> None:
        self.send_response(sent.status)
        for name, value in {"Content-Type": sent.content_type, **framing, **sent.headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _pieces(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
