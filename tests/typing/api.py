"""The public interface as a type checker sees it: checked by pyright (strict) and mypy, never run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, assert_type

import lmtrace
from lmtrace import testing as lmtrace_testing
from lmtrace_exporters import (
    DuckDBExporter,
    History,
    InMemoryExporter,
    JSONLExporter,
    OTLPExporter,
    ParquetExporter,
    Problem,
    StoreExporter,
    open_history,
)
from lmtrace_replay import Miss, Recording, ReplayMiss, Session, Verdict


class Sink:
    """An exporter of a user."""

    def export(self, records: Sequence[lmtrace.Record]) -> None: ...

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000) -> None: ...


def calls() -> None:
    """Calling a model."""
    lm = lmtrace.LM("openai/gpt-4o-mini", temperature=0.7, api_key="any")
    assert_type(lm("Say this is a test!", rollout_id=1), list[str | dict[str, Any]])
    assert_type(lm(messages=[{"role": "user", "content": "hi"}]), list[str | dict[str, Any]])
    response = lm.forward("hi")
    assert_type(response, lmtrace.LMResponse)
    assert_type(response.outputs[0], lmtrace.LMOutput)
    assert_type(response.outputs[0].text, str | None)
    assert_type(response.usage, lmtrace.LMUsage | None)
    assert_type(response.cost, float | None)
    assert_type(lm.copy(rollout_id=2), lmtrace.LM)
    assert_type(lm.dump_state(), dict[str, Any])
    assert_type(lmtrace.LM.load_state(lm.dump_state()), lmtrace.LM)
    with lm.stream("hi") as stream:
        for text in stream:
            assert_type(text, str)
    assert_type(stream.response, lmtrace.LMResponse)


def replays() -> None:
    """Recorded answers in the provider's place."""
    with lmtrace.replay("a.cassette", mode="record-missing", rollouts="ordinal", normalisers=[str.lower]) as session:
        assert_type(session, Session)
    assert_type(session.calls, list[lmtrace.HistoryEntry])
    assert_type(session.cost, float | None)
    assert_type(session.misses, tuple[Miss, ...])
    assert_type(session.recordings, list[Recording])
    for verdict in session.verdicts:
        assert_type(verdict, Verdict)
    try:
        pass
    except ReplayMiss as miss:
        assert_type(miss.miss, Miss)


async def async_calls() -> None:
    """The async twins."""
    lm = lmtrace.LM("openai/gpt-4o-mini")
    assert_type(await lm.acall("hi"), list[str | dict[str, Any]])
    assert_type(await lm.aforward("hi"), lmtrace.LMResponse)
    async for text in lm.astream("hi"):
        assert_type(text, str)


def errors() -> None:
    """What a call raises."""
    try:
        lmtrace.LM("openai/gpt-4o-mini")("hi")
    except lmtrace.ContextWindowExceededError as error:
        assert_type(error, lmtrace.ContextWindowExceededError)
    except lmtrace.LMError as error:
        assert_type(error.model, str | None)


def recording() -> None:
    """Configuration, runs, scopes."""
    exporter: lmtrace.Exporter = Sink()
    lmtrace.configure(store=Path("store"), otlp="http://localhost:4318", exporters=[exporter])
    lmtrace.instrument()
    with lmtrace.run("rag-v2", tags={"exp": "a"}) as run, lmtrace.caller_module(object(), "answer"):
        assert_type(run, lmtrace.Run)
    with lmtrace.conversation("thread-1", agent_name="support"):
        assert_type(run.calls, int)
    assert_type(run.cost, float | None)
    assert_type(run.id, str)
    run.show()
    lmtrace.uninstrument()
    assert_type(lmtrace.flush(timeout=5.0), bool)
    assert_type(lmtrace.stats(), dict[str, Any])
    lmtrace.shutdown()


def reading(since: datetime) -> None:
    """The history."""
    with lmtrace.history() as history:
        assert_type(history, History)
        assert_type(history.recent(10), list[dict[str, Any]])
        assert_type(history.call("0193"), dict[str, Any] | None)
        assert_type(history.problems, tuple[Problem, ...])
        history.sql("select model, sum(cost) from calls where model = ? group by 1", ["openai/gpt-4o-mini"]).fetchall()
    assert_type(open_history("store", since=since), History)
    exporters: list[lmtrace.Exporter] = [
        StoreExporter("store"),
        InMemoryExporter(),
        JSONLExporter("rows.jsonl"),
        DuckDBExporter("calls.duckdb", seconds=0.5),
        ParquetExporter("lake", seconds=5.0, size=1 << 20),
        OTLPExporter("http://localhost:4318", content=True),
    ]
    assert exporters


def entries(lm: lmtrace.LM) -> None:
    """The in-memory history."""
    lm.inspect_history(n=2)
    entry = lm.history[-1]
    assert_type(entry, Any)
    typed: lmtrace.HistoryEntry = entry
    assert_type(typed.uuid, str)
    assert_type(typed.kwargs, Mapping[str, Any])
    assert_type(typed["cost"], Any)


def helpers() -> None:
    """What tests use."""
    with lmtrace_testing.LoopbackProvider() as provider:
        assert_type(provider, lmtrace_testing.LoopbackProvider)
        provider.reply("Paris.")
        assert_type(provider.openai_base, str)
