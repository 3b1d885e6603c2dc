"""Where a call belongs: the span around it, its run and its modules, in threads, tasks and nested instrumentations."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from backends import Answering, answer, asked
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import lmtrace
from lmtrace import _record
from lmtrace import _semconv as names
from lmtrace._traced import TracedBackend
from lmtrace.testing import Captured, capture


def call(backend: Any = None) -> Any:
    return TracedBackend(backend or Answering()).call(asked(), {})[1]


def in_thread(function: Any) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(60)


def parents(captured: Captured) -> dict[str, str | None]:
    """For each span its parent's name, or None."""
    by_id = {span["span_id"]: span["name"] for span in captured.spans}
    return {span["name"]: by_id.get(span["parent_span_id"]) for span in captured.spans}


def test_below_the_applications_span(ask: Any, captured: Captured) -> None:
    """A call is a child of the span that is current where it is made, and the row says so."""
    with captured.tracer.start_as_current_span("app") as span:
        ask(Answering(), asked())
        assert trace.get_current_span() is span
    assert parents(captured) == {"app": None, "chat gpt-4o-mini": "app"}
    assert captured.rows[0]["parent_span_id"] == captured.spans[0]["span_id"]


def test_the_provider_is_below_the_call(ask: Any, captured: Captured) -> None:
    """Spans of the provider's own libraries, of its HTTP client for instance, are children of the call."""

    def reply(request: Any, secrets: Any) -> Any:
        with captured.tracer.start_as_current_span("POST"):
            return answer()

    ask(Answering(reply), asked())
    assert parents(captured) == {"chat gpt-4o-mini": None, "POST": "chat gpt-4o-mini"}


def test_nothing_stays_current(ask: Any, captured: Captured) -> None:
    """After a call, and after one that failed, the context is what it was."""
    before = otel_context.get_current()
    ask(Answering(), asked())
    with pytest.raises(ValueError, match="no"):
        ask(Answering(ValueError("no")), asked())
    assert otel_context.get_current() == before
    assert _record.active_call() is None


class TestRuns:
    """Calls belong to the run around them, in whichever thread or task they are made."""

    def test_executors_and_threads(self, captured: Captured) -> None:
        """With one active run, calls from threads without a context of their own belong to it and to its trace."""
        with lmtrace.run("r") as run, ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: call(), range(4)))
            in_thread(call)
        assert run.calls == 5
        assert {row["run_id"] for row in captured.rows} == {run.id}
        assert {span["trace_id"] for span in captured.spans} == {run.trace_id}

    def test_two_runs(self, captured: Captured) -> None:
        """With several active runs a bare thread's call belongs to none, and one with a context to its own."""
        first, second = lmtrace.run("1"), lmtrace.run("2")

        def work(run: lmtrace.Run) -> None:
            with run:
                barrier.wait(60)
                call()
                barrier.wait(60)

        barrier = threading.Barrier(3)
        threads = [threading.Thread(target=work, args=(run,)) for run in (first, second)]
        for thread in threads:
            thread.start()
        barrier.wait(60)
        call()
        barrier.wait(60)
        for thread in threads:
            thread.join(60)
        assert (first.calls, second.calls) == (1, 1)
        assert sorted(row.get("run_name", "none") for row in captured.rows) == ["1", "2", "none"]

    async def test_tasks(self, captured: Captured) -> None:
        """Concurrent tasks keep their runs apart."""

        async def work(name: str) -> None:
            with lmtrace.run(name) as run:
                await asyncio.sleep(0)
                await TracedBackend(Answering()).acall(asked(), {})
                assert run.calls == 1

        await asyncio.gather(*(work(str(number)) for number in range(5)))
        assert sorted(row["run_name"] for row in captured.rows) == list("01234")

    def test_nested(self, captured: Captured) -> None:
        """The innermost run counts; the outer one is its parent."""
        with lmtrace.run("outer") as outer, lmtrace.run("inner") as inner:
            call()
        assert (outer.calls, inner.calls) == (0, 1)
        assert parents(captured) == {"outer": None, "inner": "outer", "chat gpt-4o-mini": "inner"}

    def test_of_the_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`lmtrace run` gives the process a run, below which those of the code are."""
        monkeypatch.setenv("LMTRACE_RUN_ID", "run-1")
        monkeypatch.setenv("LMTRACE_RUN_NAME", "evaluate.py")
        monkeypatch.setenv("LMTRACE_RUN_TAGS", '{"exp": "a"}')
        with capture() as captured:
            call()
            with lmtrace.run("mine"):
                call()
        assert [(row["run_name"], row.get("tags")) for row in captured.rows] == [
            ("evaluate.py", {"exp": "a"}),
            ("mine", None),
        ]

    def test_of_another_program(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is in the variables of the command and not from it is left out."""
        monkeypatch.setenv("LMTRACE_RUN_ID", "run-1")
        monkeypatch.setenv("LMTRACE_RUN_TAGS", "[1")
        with capture() as captured:
            call()
        assert [row.get("tags") for row in captured.rows] == [None]


class TestOtherInstrumentations:
    """One span for each call, whichever layers are instrumented."""

    def test_the_active_call(self, captured: Captured) -> None:
        """While its provider runs, a call is there to be found, and gone afterwards."""
        found = []

        def reply(request: Any, secrets: Any) -> Any:
            found.append(_record.active_call())
            return answer()

        entry = call(Answering(reply))
        assert found[0].entry is entry
        assert _record.active_call() is None

    def test_a_task_that_outlives_its_call(self, captured: Captured) -> None:
        """A context copied inside a call does not make later calls part of it."""
        contexts = []

        def reply(request: Any, secrets: Any) -> Any:
            contexts.append(contextvars.copy_context())
            return answer()

        call(Answering(reply))
        assert contexts[0].run(_record.active_call) is None
        later = contexts[0].run(call)
        assert [span["name"] for span in captured.spans] == ["chat gpt-4o-mini"] * 2
        assert later.span_id == captured.spans[1]["span_id"]

    def test_a_foreign_span_for_the_call(self, ask: Any, captured: Captured) -> None:
        """Another library that already opened the call's span is respected: no second span, the row has its ids."""
        with captured.tracer.start_as_current_span("chat by others") as span:
            token = otel_context.attach(otel_context.set_value(names.INFERENCE_CONTEXT_KEY, object()))
            ask(Answering(), asked())
            otel_context.detach(token)
        (row,) = captured.rows
        assert [span["name"] for span in captured.spans] == ["chat by others"]
        assert row["span_id"] == f"{span.get_span_context().span_id:016x}"
        assert "parent_span_id" not in row
        assert captured.metrics()["lmtrace.calls"][0]["value"] == 1


class TestWithoutSpans:
    """Rows and metrics do not depend on tracing."""

    def test_sampled_out(self, ask: Any) -> None:
        """A call whose span is not sampled is a row and is measured."""
        with capture(sampler=ALWAYS_OFF) as captured:
            _, entry = ask(Answering(), asked())
        assert captured.spans == []
        assert captured.rows[0]["trace_id"] == entry.trace_id
        assert captured.metrics()["lmtrace.calls"][0]["value"] == 1

    def test_no_sdk(self, ask: Any) -> None:
        """Without an SDK, calls and runs have ids all the same, so that the store can show them as a tree."""
        rows: list[dict[str, Any]] = []

        class Rows:
            def export(self, records: Any) -> None:
                rows.extend(record.row for record in records)

            def force_flush(self, timeout_millis: float = 0) -> bool:
                return True

            shutdown = force_flush

        lmtrace.configure(store=None, exporters=[Rows()])
        with lmtrace.run("r"):
            ask(Answering(), asked())
        row, run = rows
        assert (row["trace_id"], row["parent_span_id"]) == (run["trace_id"], run["span_id"])
        assert len({row["span_id"], run["span_id"]}) == 2
