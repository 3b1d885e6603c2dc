"""The public class: start, script, look at what was received, close."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from itertools import count, islice
from types import TracebackType
from typing import Any, Self

from lmtrace.testing._provider._answer import complete
from lmtrace.testing._provider._canned import canned_reply
from lmtrace.testing._provider._dialect import Dialect, dumps
from lmtrace.testing._provider._openai import error as openai_error
from lmtrace.testing._provider._reply import Failure, Reply
from lmtrace.testing._provider._request import ReceivedRequest
from lmtrace.testing._provider._routes import read, unanswerable
from lmtrace.testing._provider._script import Responder, Script
from lmtrace.testing._provider._server import HOST, CutError, Received, Sent, Server


class LoopbackProvider:
    """A provider of your own on 127.0.0.1 that speaks the wire formats of OpenAI, Anthropic, Gemini and Ollama.

    ```python
    with LoopbackProvider() as provider:
        provider.reply("Paris.")
        litellm.completion("openai/gpt-4o-mini", messages, api_base=provider.openai_base, api_key="any")
        assert provider.requests[0].prompt == "What is the capital of France?"
    ```

    Scripted outcomes are used in the order they were added, each once; requests beyond them are answered by the callable
    given to `respond`, or by a small deterministic function of the request. Safe to use from many threads.
    """

    def __init__(self, *, port: int = 0, delta_size: int = 8, latency: float = 0.0) -> None:
        """Listen, without accepting yet.

        Args:
            port: The port; any free one by default.
            delta_size: How many characters each piece of a streamed answer has.
            latency: Seconds every answer takes at least.

        Raises:
            OSError: the port is taken.
            ValueError: `delta_size` is not positive.
        """
        if delta_size < 1:
            raise ValueError(f"delta_size must be 1 or more characters, not {delta_size}")
        self._delta_size = delta_size
        self._latency = latency
        self._script = Script()
        self._serials = count(1)
        self._requests: list[ReceivedRequest] = []
        self._arrived = threading.Condition()
        self._state = "new"
        self._server = Server(self._application, port)

    # where it is

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://{HOST}:{self._server.port}"

    @property
    def openai_base(self) -> str:
        """``api_base`` for LiteLLM's ``openai/…`` and ``text-completion-openai/…``, ``base_url`` of OpenAI's client."""
        return f"{self.url}/v1"

    @property
    def anthropic_base(self) -> str:
        """``api_base`` for LiteLLM's ``anthropic/…``, ``base_url`` of Anthropic's client."""
        return self.url

    @property
    def gemini_base(self) -> str:
        """``api_base`` for LiteLLM's ``gemini/…``."""
        return f"{self.url}/v1beta"

    @property
    def ollama_base(self) -> str:
        """``api_base`` for LiteLLM's ``ollama_chat/…`` and ``ollama/…``."""
        return self.url

    # what it does next

    def reply(self, reply: str | Reply | None = None, /, **fields: Any) -> None:
        """Answer one request with this text or `Reply`; keyword arguments are the fields of `Reply`.

        Raises:
            TypeError: a field is unknown, or fields are given beside a `Reply`.
        """
        if isinstance(reply, Reply):
            if fields:
                raise TypeError("give the fields in the Reply, or as keyword arguments, not both")
            self._script.add(reply)
        else:
            self._script.add(Reply(text=reply, **fields))

    def respond(self, responder: Responder) -> None:
        """Let a callable answer every request that finds nothing scripted.

        It gets the `ReceivedRequest`, runs in the thread of the connection and returns a text, a `Reply` or a `Failure`.
        When it raises, the client gets status 500 with the error in its message.
        """
        self._script.answer_with(responder)

    def fail(self, *, status: int = 500, times: int = 1, **fields: Any) -> None:
        """Answer the next `times` requests with an HTTP error; keyword arguments are the fields of `Failure`.

        Raises:
            TypeError: a field is unknown.
        """
        self._add_failure(times, status=status, **fields)

    def disconnect(self, *, times: int = 1, after: int | None = None, reply: Reply | None = None) -> None:
        """Close the connection instead of answering, or after so many events of a stream that would say `reply`."""
        self._add_failure(times, kind="disconnect", after=after, reply=reply)

    def garble(self, *, times: int = 1, after: int | None = None, reply: Reply | None = None) -> None:
        """Answer with half a JSON text, or send half an event after so many whole ones."""
        self._add_failure(times, kind="malformed", after=after, reply=reply)

    def hang(self, *, after: int | None = None, reply: Reply | None = None) -> threading.Event:
        """Make the next request wait, or its stream after so many events, until the returned event is set.

        Then it is answered as if nothing had been; closing the provider sets the event and cuts the connection.
        """
        until = threading.Event()
        self._add_failure(1, kind="hang", after=after, reply=reply, until=until)
        return until

    def _add_failure(self, times: int, **fields: Any) -> None:
        for _ in range(times):
            self._script.add(Failure(**fields))

    # what it was asked

    @property
    def requests(self) -> tuple[ReceivedRequest, ...]:
        """Everything received so far, in order of arrival."""
        with self._arrived:
            return tuple(self._requests)

    def wait_for(self, requests: int = 1, *, timeout: float = 10.0) -> tuple[ReceivedRequest, ...]:
        """Block until so many requests have arrived, and return them.

        Raises:
            TimeoutError: they did not arrive in `timeout` seconds.
        """
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self._requests) >= requests, timeout):
                raise TimeoutError(f"{len(self._requests)} of {requests} requests arrived within {timeout} s")
            return tuple(self._requests)

    # its life

    def start(self) -> Self:
        """Begin to answer; `with` does this.

        Raises:
            RuntimeError: it was started before: make a new one.
        """
        if self._state != "new":
            raise RuntimeError(f"this LoopbackProvider is {self._state}; make a new one")
        self._state = "running"
        self._server.start()
        return self

    def close(self) -> None:
        """Cut open connections, release what hangs, end all threads; harmless when repeated."""
        was, self._state = self._state, "closed"
        self._script.end()
        if was == "running":
            self._server.stop()
        elif was == "new":
            self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # how a request is answered

    def _application(self, received: Received) -> Sent:
        try:
            return self._answer(received)
        except CutError:
            raise
        except Exception as error:  # an odd request or a wrongly typed reply: told to the client, who is under test
            message = f"The loopback provider cannot answer this: {type(error).__name__}: {error}"
            return Sent(status=500, body=dumps(openai_error(Failure(message=message))))

    def _answer(self, received: Received) -> Sent:
        request, dialect = read(received)
        with self._arrived:
            self._requests.append(request)
            self._arrived.notify_all()
        if dialect is None:
            return unanswerable(request)
        outcome = self._script.next(request)
        if isinstance(outcome, Failure):
            return self._fail(request, dialect, outcome)
        return self._reply(request, dialect, outcome)

    def _reply(self, request: ReceivedRequest, dialect: Dialect, reply: Reply) -> Sent:
        answer = complete(request, reply, next(self._serials), self._delta_size)
        latency = max(self._latency, reply.latency)
        if request.stream:
            frames = dialect.events(answer)
            return Sent(content_type=dialect.stream_type, headers=reply.headers, body=frames, latency=latency)
        return Sent(headers=reply.headers, body=dumps(dialect.body(answer)), latency=latency)

    def _fail(self, request: ReceivedRequest, dialect: Dialect, failure: Failure) -> Sent:
        whole = self._reply(request, dialect, failure.reply or canned_reply(request))
        if failure.after is not None and not isinstance(whole.body, bytes):
            frames = self._broken(iter(whole.body), dialect, failure, failure.after)
            return Sent(content_type=whole.content_type, headers=whole.headers, body=frames)
        if failure.kind == "error":
            return Sent(status=failure.status, headers=_headers(failure), body=dumps(dialect.error(failure)))
        if failure.kind == "malformed":
            body = whole.body if isinstance(whole.body, bytes) else b"".join(islice(whole.body, 1))
            return Sent(content_type=whole.content_type, body=body[: len(body) // 2])
        if failure.kind == "disconnect" or not self._script.hold(failure.until):
            raise CutError
        return whole

    def _broken(self, frames: Iterator[bytes], dialect: Dialect, failure: Failure, after: int) -> Iterator[bytes]:
        """The first frames of a stream, and what becomes of it then."""
        yield from islice(frames, after)
        if failure.kind == "error":
            yield dialect.error_event(failure)
        elif failure.kind == "malformed":
            frame = next(frames, b"{}")
            yield frame[: len(frame) // 2] + b"\n\n"
        elif failure.kind == "disconnect" or not self._script.hold(failure.until):
            raise CutError
        else:
            yield from frames


def _headers(failure: Failure) -> Mapping[str, str]:
    wait = {} if failure.retry_after is None else {"Retry-After": f"{failure.retry_after:g}"}
    return {**wait, **failure.headers}
