"""The law: whatever fails in here, a call returns or raises exactly what it would without lmtrace."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from backends import PROMPT, Answering, answer, asked
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult

import lmtrace
from lmtrace import _recorder
from lmtrace._failures import LOG_INTERVAL_S, Failures, failures
from lmtrace._traced import TracedBackend
from lmtrace.testing import Captured, capture


class Sink:
    """An exporter that does what it is told."""

    def __init__(self, export: Any = list) -> None:
        self._export = export

    def export(self, records: Any) -> None:
        self._export(records)

    def force_flush(self, timeout_millis: float = 0) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 0) -> None:
        return None


def raising(error: BaseException) -> Any:
    def work(*args: Any, **kwargs: Any) -> Any:
        raise error

    return work


def new_failures(before: dict[str, int]) -> dict[str, int]:
    return {
        kind: count - before.get(kind, 0) for kind, count in failures.counts().items() if count != before.get(kind, 0)
    }


@pytest.fixture
def before() -> dict[str, int]:
    return failures.counts()


def test_an_exporter_that_fails(ask: Any, failing: None, before: dict[str, int]) -> None:
    """The call has its answer, the other exporters their rows, and the failure is counted."""
    with capture(exporters=[Sink(raising(OSError(28, "No space left on device")))]) as captured:
        response, _ = ask(Answering(), asked())
        with lmtrace.run("r"):
            pass
    assert response == answer()
    assert (len(captured.rows), len(captured.spans), len(captured.span_rows)) == (1, 2, 1)
    assert new_failures(before) == {"exporting to Sink": 2}
    assert lmtrace.stats()["last_failures"]["exporting to Sink"] == "OSError: No space left on device"


def test_interrupts_are_no_failures() -> None:
    """Ctrl-C while a row is written is not swallowed; the span is closed before it passes."""
    with capture(exporters=[Sink(raising(KeyboardInterrupt()))]) as captured:
        with pytest.raises(KeyboardInterrupt):
            TracedBackend(Answering()).call(asked(), {})
        assert len(captured.spans) == 1


def test_raised_in_our_tests(captured: Captured) -> None:
    """With LMTRACE_TEST_RAISE a failure of ours is an error, so that no test can overlook it."""
    with capture(exporters=[Sink(raising(OSError("x")))]), pytest.raises(OSError, match="x"):
        TracedBackend(Answering()).call(asked(), {})


class TestLog:
    """Failures are logged once a minute for each kind, without content."""

    def test_once_a_minute(self, failing: None, caplog: pytest.LogCaptureFixture) -> None:
        """The first is logged at once, the next after a minute, with the number so far."""
        now = [0.0]
        counted = Failures(lambda: now[0])
        for _ in range(3):
            counted.note("exporting", OSError(28, "No space left on device"))
            counted.note("else", ValueError("a prompt"))
        now[0] = LOG_INTERVAL_S
        counted.note("exporting", OSError(28, "No space left on device"))
        texts = [record.getMessage() for record in caplog.records]
        assert texts == [
            "lmtrace: exporting failed (OSError: No space left on device), 1 so far; the LM call is not affected.",
            "lmtrace: else failed (ValueError), 1 so far; the LM call is not affected.",
            "lmtrace: exporting failed (OSError: No space left on device), 4 so far; the LM call is not affected.",
        ]

    def test_a_handler_that_fails(self, failing: None) -> None:
        """A logging handler of the application's cannot break the call either."""

        class Broken(logging.Filter):
            def filter(self, record: Any) -> bool:
                raise RuntimeError

        logger, broken = logging.getLogger("lmtrace"), Broken()
        logger.addFilter(broken)
        try:
            Failures().note("a kind", ValueError())
        finally:
            logger.removeFilter(broken)


class BrokenSampler(Sampler):
    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        raise RuntimeError

    def get_description(self) -> str:
        return "broken"


def test_a_sampler_that_fails(ask: Any, failing: None, before: dict[str, int]) -> None:
    """Without its span the call is still a whole row."""
    with capture(sampler=BrokenSampler()) as captured:
        response, _ = ask(Answering(), asked())
    assert response == answer()
    assert captured.rows[0]["messages"][0]["content"] == PROMPT
    assert new_failures(before) == {"opening a span": 1}


class BrokenSpan:
    """A span of some vendor's that fails at everything but its context."""

    def __init__(self) -> None:
        self._context = TracerProvider(shutdown_on_exit=False).get_tracer("x").start_span("x").get_span_context()

    def get_span_context(self) -> Any:
        return self._context

    def is_recording(self) -> bool:
        return True

    add_event = set_attributes = set_status = end = raising(RuntimeError())


def test_a_span_that_fails(read: Any, failing: None, before: dict[str, int]) -> None:
    """The row, the metrics and the stream do not depend on the span."""
    with capture() as captured:
        recorder = _recorder.current()
        recorder.tracer = type("Tracer", (), {"start_span": lambda *args, **kwargs: BrokenSpan()})()
        assert read(Answering(pieces=("a", "b")), asked(stream=True)) == ["a", "b"]
    assert len(captured.rows) == 1
    assert captured.metrics()["lmtrace.calls"]
    assert new_failures(before) == {"noting the first chunk": 1, "closing a span": 1}


@pytest.mark.parametrize("reply", [None, "text", 5, object()], ids=lambda reply: type(reply).__name__)
def test_a_backend_that_answers_something_else(reply: Any, ask: Any, failing: None, before: dict[str, int]) -> None:
    """What a backend of the user's returns is returned, and the call is recorded as far as can be."""
    with capture() as captured:
        response, entry = ask(Answering(lambda request, secrets: reply), asked())
    assert response is reply
    assert entry.request == asked()
    assert (len(captured.rows), len(captured.spans)) == (1, 1)
    assert new_failures(before) in ({}, {"reading an answer": 1})


class HostileError(Exception):
    """An exception that cannot be shown."""

    @property
    def status_code(self) -> int:
        raise RuntimeError

    def __str__(self) -> str:
        raise RuntimeError


def test_an_error_that_cannot_be_shown(ask: Any, captured: Captured) -> None:
    """It passes like any other, and its type is recorded."""
    error = HostileError()
    with pytest.raises(HostileError) as caught:
        ask(Answering(error), asked())
    assert caught.value is error
    assert captured.rows[0]["error_message"] == "<the exception cannot be shown>"


class TestReentrancy:
    """LM calls made by the user's redactors and exporters are answered, and not recorded: it would never end."""

    def test_an_exporter_that_asks(self, ask: Any) -> None:
        """An exporter may ask a model about the row."""
        answers = []
        sink = Sink(lambda records: answers.append(TracedBackend(Answering()).call(asked(), {})))
        with capture(exporters=[sink]) as captured:
            ask(Answering(), asked())
        assert (len(answers), len(captured.rows)) == (1, 1)

    def test_a_redactor_that_asks(self) -> None:
        """So may a redactor about the text."""

        def redact(text: str) -> str:
            return TracedBackend(Answering(answer("clean"))).call(asked(), {})[0].outputs[0].text or ""

        with capture(redact=[redact]) as captured:
            TracedBackend(Answering()).call(asked(), {})
        assert captured.rows[0]["messages"] == [{"role": "user", "content": "clean"}]


class TestRedactors:
    """A redactor that fails withholds; it never lets content out and never costs the call anything."""

    @pytest.mark.parametrize("content", ["no_content", "span_only", "event_only", "span_and_event"])
    @pytest.mark.parametrize("redact", [raising(ValueError()), lambda text: None], ids=["raises", "None"])
    def test_failing(self, redact: Any, content: str, ask: Any) -> None:
        """The row, the span and the metrics are there, without a word of the content."""
        with capture(redact=[redact], content=content) as captured:
            response, _ = ask(Answering(), asked())
        assert response == answer()
        recorded = json.dumps([captured.spans, captured.rows, captured.events])
        assert PROMPT not in recorded
        assert "Paris" not in recorded
        assert captured.spans[0]["attributes"]["gen_ai.usage.input_tokens"] == 9
        assert captured.rows[0]["input_tokens"] == 9

    @pytest.mark.parametrize("content", ["no_content", "span_and_event"])
    def test_working(self, content: str, ask: Any) -> None:
        """What it removes is nowhere, errors included."""
        with capture(redact=["France", "too fast"], content=content) as captured:
            ask(Answering(answer("France it is")), asked())
            with pytest.raises(ValueError, match="France"):
                ask(Answering(ValueError("too fast in France")), asked())
        assert "France" not in json.dumps([captured.spans, captured.rows, captured.events])
        assert "too fast" not in json.dumps([captured.spans, captured.rows, captured.events])

    @pytest.mark.parametrize("content", ["no_content", "span_and_event"])
    def test_names_are_no_content(self, content: str, ask: Any) -> None:
        """A redactor that changes every text changes no name of a model and no id: what is measured stays comparable."""
        with capture(redact=[lambda text: "***"], content=content) as captured:
            ask(Answering(answer(response_id="id-1")), asked())
            measured = captured.metrics()["gen_ai.client.inference.duration"][0]["attributes"]
        attributes = captured.spans[0]["attributes"]
        assert attributes["gen_ai.response.model"] == measured["gen_ai.response.model"] == "gpt-4o-mini-2024-07-18"
        assert (attributes["gen_ai.request.model"], attributes["gen_ai.response.id"]) == ("gpt-4o-mini", "id-1")
        assert captured.rows[0]["response_model"] == "gpt-4o-mini-2024-07-18"


class TestSetup:
    """Setting up never costs a call, whatever is wrong."""

    def test_a_store_that_cannot_be(self, failing: None, tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
        """A store below a file: one warning, the rows wait or are lost and counted, the call has its answer."""
        (tmp_path / "file").write_text("")
        lmtrace.configure(store=tmp_path / "file" / "store")
        for _ in range(3):
            assert TracedBackend(Answering()).call(asked(), {})[0] == answer()
        assert len([record for record in caplog.records if record.name == "lmtrace"]) == 1
        assert sum(lmtrace.stats()["failures"].values())

    def test_anything_else(self, failing: None, monkeypatch: pytest.MonkeyPatch, before: dict[str, int]) -> None:
        """When nothing can be set up, nothing is recorded and everything is answered."""
        monkeypatch.setattr("lmtrace._compose.build", raising(RuntimeError("broken")))
        response, entry = TracedBackend(Answering()).call(asked(), {})
        assert (response, entry.response) == (answer(), response)
        assert new_failures(before) == {"setting up": 1}

    def test_otlp(self, failing: None, monkeypatch: pytest.MonkeyPatch, before: dict[str, int]) -> None:
        """Without telemetry there are still rows."""
        monkeypatch.setattr("lmtrace_exporters.setup_otlp", raising(ImportError("no grpc")), raising=False)
        monkeypatch.setenv("LMTRACE_OTLP", "http://localhost:1")
        TracedBackend(Answering()).call(asked(), {})
        assert lmtrace.stats()["exporters"]["StoreExporter"]["written"] == 1
        assert new_failures(before) == {"setting up OTLP": 1}


class Concurrent(dict[str, Any]):
    """A dictionary that another thread changes while it is read."""

    def items(self) -> Any:
        for item in list(super().items()):
            self[str(len(self))] = 1
            yield item


def test_messages_that_change_while_they_are_read(ask: Any, captured: Captured) -> None:
    """They are recorded in some form, and the call has its answer."""
    response, _ = ask(Answering(), asked(messages=[Concurrent(role="user", content="x")]))
    assert response == answer()
    assert captured.rows[0]["messages"][0]["role"] == "user"


def test_a_large_prompt(ask: Any, captured: Captured) -> None:
    """Ten megabytes are a row like others."""
    ask(Answering(), asked(messages=[{"role": "user", "content": "x" * 10_000_000}]))
    assert len(captured.rows[0]["messages"][0]["content"]) == 10_000_000


def run_python(code: str, *, cwd: Any, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "LMTRACE_TEST_RAISE"}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**kept, "PYTHONPATH": str(Path(__file__).parent), **environ},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork(tmp_path: Any) -> None:
    """Forked children record with ids of their own, and nobody's rows are lost or written twice."""
    code = """
        import os, lmtrace
        from backends import *
        backend = TracedBackend(Answering())
        backend.call(asked(), {})
        children = []
        for _ in range(3):
            pid = os.fork()
            if not pid:
                for _ in range(20):
                    backend.call(asked(), {})
                lmtrace.flush()
                os._exit(0)
            children.append(pid)
        for _ in range(20):
            backend.call(asked(), {})
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        lmtrace.flush()
        row = lmtrace.history().sql("select count(*), count(distinct uuid), count(distinct span_id), count(distinct pid) from calls")
        print(row.fetchall()[0])
    """
    assert run_python(code, cwd=tmp_path).stdout.strip() == "(81, 81, 81, 4)"


def test_a_stream_nobody_reads_at_exit(tmp_path: Any) -> None:
    """A stream that is still open when the process ends is a row."""
    code = """
        import tempfile, weakref
        weakref.finalize(object, print)  # registers its exit handler before ours
        from backends import *
        stream = TracedBackend(Answering(pieces=("a", "b"))).stream(asked(stream=True), {})
        next(stream)
    """
    done = run_python(code, cwd=tmp_path)
    assert "failed" not in done.stderr
    with lmtrace.history() as history:
        rows = history.sql("select error_type, output_text from calls").fetchall()
    assert rows == [("lmtrace.StreamAbandoned", "a")]
