"""Streams: however one ends, it is recorded once, with what had arrived, and never leaks its span to its reader."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from backends import Answering, asked
from opentelemetry import context as otel_context
from opentelemetry import trace

import lmtrace
from lmtrace import _recorder
from lmtrace._failures import failures
from lmtrace._ids import Uuid7
from lmtrace._traced import TracedBackend
from lmtrace.testing import Captured, capture, counting_ids

PIECES = ("Pa", "ris", "!")


def outcome(captured: Captured) -> tuple[Any, Any, Any]:
    """How the only call ended, for the row; the span must say the same."""
    (row,), (span,) = captured.rows, captured.spans
    error = row.get("error_type")
    assert span["attributes"].get("error.type") == error
    assert (span["status"] == "UNSET") == (error is None)
    return (error or "").rpartition(".")[2], row.get("outputs"), row.get("time_to_first_chunk_ms") is not None


def open_stream(pieces: tuple[Any, ...] = PIECES) -> Any:
    return TracedBackend(Answering(pieces=pieces)).stream(asked(stream=True), {})


class TestSync:
    """The ways in which a reader stops, and what is left."""

    def test_read_to_the_end(self, captured: Captured) -> None:
        """All chunks make the whole answer."""
        stream = open_stream()
        assert [chunk.text for chunk in stream] == list(PIECES)
        assert outcome(captured) == ("", ["Paris!"], True)
        assert next(stream, None) is None
        assert stream.entry is captured.entries[0]
        assert len(captured.rows) == 1

    @pytest.mark.parametrize("stop", ["close", "del", "cycle"])
    def test_dropped(self, stop: str, captured: Captured) -> None:
        """A stream that is closed or forgotten half-way keeps what had arrived, and says that it was dropped."""
        stream = open_stream()
        next(stream)
        next(stream)
        if stop == "close":
            stream.close()
            stream.close()
        elif stop == "cycle":
            stream.itself = stream
        del stream
        gc.collect()
        assert outcome(captured) == ("StreamAbandoned", ["Paris"], True)

    def test_never_read(self, captured: Captured) -> None:
        """A stream nobody read is a row without an answer."""
        open_stream().close()
        assert outcome(captured) == ("StreamAbandoned", None, False)

    def test_break_in_a_generator(self, captured: Captured) -> None:
        """A reader that is itself a generator, closed by its own reader, drops the stream."""

        def texts() -> Iterator[str]:
            for chunk in open_stream():
                yield chunk.text

        reader = texts()
        assert next(reader) == "Pa"
        reader.close()
        gc.collect()
        assert outcome(captured) == ("StreamAbandoned", ["Pa"], True)

    def test_error_half_way(self, captured: Captured) -> None:
        """An error in the middle passes as it is, and what had arrived is kept beside it."""
        error = ConnectionError("gone")
        stream = open_stream(("Pa", error, "ris"))
        next(stream)
        with pytest.raises(ConnectionError) as caught:
            next(stream)
        assert caught.value is error
        assert outcome(captured) == ("ConnectionError", ["Pa"], True)

    def test_error_at_the_start(self, captured: Captured) -> None:
        """A provider that refuses is an ordinary failed call."""
        error = ConnectionError("refused")
        with pytest.raises(ConnectionError):
            TracedBackend(Answering(error)).stream(asked(stream=True), {})
        assert outcome(captured) == ("ConnectionError", None, False)

    def test_nothing_arrives(self, captured: Captured) -> None:
        """An empty stream ends as it would without lmtrace, and is no error."""
        assert list(open_stream(())) == []
        assert outcome(captured) == ("", None, False)

    def test_close_passes_on(self, captured: Captured) -> None:
        """Closing closes the provider's stream."""
        backend = Answering(pieces=PIECES)
        TracedBackend(backend).stream(asked(), {}).close()
        assert backend.streams[0].closed


class TestAsync:
    """The same for streams read with ``async for``."""

    async def open_stream(self, pieces: tuple[Any, ...] = PIECES) -> Any:
        return await TracedBackend(Answering(pieces=pieces)).astream(asked(stream=True), {})

    async def test_read_to_the_end(self, captured: Captured) -> None:
        """All chunks make the whole answer."""
        assert [chunk.text async for chunk in await self.open_stream()] == list(PIECES)
        assert outcome(captured) == ("", ["Paris!"], True)

    @pytest.mark.parametrize("stop", ["aclose", "del"])
    async def test_dropped(self, stop: str, captured: Captured) -> None:
        """A stream that is closed or forgotten half-way says so."""
        stream = await self.open_stream()
        await anext(stream)
        if stop == "aclose":
            await stream.aclose()
        del stream
        gc.collect()
        assert outcome(captured) == ("StreamAbandoned", ["Pa"], True)

    async def test_error_half_way(self, captured: Captured) -> None:
        """An error in the middle passes as it is."""
        error = ConnectionError("gone")
        stream = await self.open_stream(("Pa", error))
        await anext(stream)
        with pytest.raises(ConnectionError) as caught:
            await anext(stream)
        assert caught.value is error
        assert outcome(captured) == ("ConnectionError", ["Pa"], True)

    async def test_cancelled_half_way(self, captured: Captured) -> None:
        """A task cancelled while it waits for a chunk leaves a cancelled call with what had arrived."""
        waiting = asyncio.Event()

        class Slow(Answering):
            async def astream(self, request: Any, secrets: Any) -> Any:
                stream = await super().astream(request, secrets)
                chunks = stream.__aiter__

                async def slow() -> AsyncIterator[Any]:
                    async for chunk in chunks():
                        yield chunk
                        waiting.set()
                        await asyncio.Event().wait()

                class Wrapper:
                    response = property(lambda _: stream.response)

                    def __aiter__(self) -> Any:
                        return slow()

                return Wrapper()

        async def read() -> None:
            async for _ in await TracedBackend(Slow(pieces=PIECES)).astream(asked(stream=True), {}):
                pass

        task = asyncio.create_task(read())
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert outcome(captured) == ("CancelledError", ["Pa"], True)


def current_span_id() -> int:
    return trace.get_current_span().get_span_context().span_id


def test_the_span_stays_inside(captured: Captured) -> None:
    """The provider works inside the call's span; between the steps the reader has its own context back."""
    inside: list[int] = []
    stream = TracedBackend(Answering(pieces=PIECES, between=lambda: inside.append(current_span_id()))).stream(
        asked(), {}
    )
    before = otel_context.get_current()
    for _ in stream:
        assert current_span_id() == 0
        assert otel_context.get_current() == before
        with captured.tracer.start_as_current_span("reader's work"):
            pass
    assert set(inside) == {captured.finished_spans[-1].context.span_id}
    assert all(span["parent_span_id"] is None for span in captured.spans)


async def test_the_span_stays_inside_tasks(captured: Captured) -> None:
    """Two streams read in turns by one task do not take each other for parents."""
    backend = TracedBackend(Answering(pieces=PIECES))
    one, other = await backend.astream(asked(), {}), await backend.astream(asked(), {})
    for _ in PIECES:
        await anext(one)
        await anext(other)
    assert [chunk async for chunk in one] == [chunk async for chunk in other] == []
    assert [span["parent_span_id"] for span in captured.spans] == [None, None]


def read_elsewhere(stream: Any) -> None:
    thread = threading.Thread(target=lambda: [None for _ in stream])
    thread.start()
    thread.join(60)


def test_read_by_another_thread(captured: Captured, caplog: pytest.LogCaptureFixture) -> None:
    """A stream may be opened by one thread and read by another."""
    read_elsewhere(open_stream())
    assert outcome(captured) == ("", ["Paris!"], True)
    assert not caplog.records


@pytest.mark.timeout(60)
def test_dropped_inside_our_own_locks(failing: None) -> None:
    """The collector may drop a stream at any moment, even while its thread holds one of our locks: no deadlock."""

    class Broken:
        def export(self, records: Any) -> None:
            raise OSError

        def force_flush(self, timeout_millis: float = 0) -> bool:
            return True

        shutdown = force_flush

    ids = Uuid7()
    with capture(new_id=ids, exporters=[Broken()]) as captured, lmtrace.run("r") as run:
        for lock in (ids._lock, failures._lock, run._lock, _recorder._lock):
            stream = open_stream()
            with lock:
                del stream
                gc.collect()
    assert len(captured.rows) == run.calls == 4


def test_counting_ids() -> None:
    """Ids of a capture count from one and have the form of real ones."""
    new_id = counting_ids()
    assert (new_id(), new_id()) == ("00000000-0000-7000-8000-000000000001", "00000000-0000-7000-8000-000000000002")
