"""Configuring, flushing, shutting down and figures: the functions at the edges of a program."""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from backends import Answering, answer, asked
from patience import assert_within

import lmtrace
from lmtrace import SettingsError, _compose, _recorder
from lmtrace._traced import TracedBackend


def call() -> lmtrace.HistoryEntry:
    return TracedBackend(Answering()).call(asked(), {})[1]


def count(store: Path) -> int:
    """The rows anyone can read from a store."""
    with lmtrace.history(store) as history:
        return int(history.sql("select count(*) from calls").fetchall()[0][0])


class Sink:
    """An exporter of the user's that remembers what was done with it."""

    def __init__(self, *, flushed: bool = True) -> None:
        self.done: list[str] = []
        self._flushed = flushed

    def export(self, records: Any) -> None:
        self.done.append("export")

    def force_flush(self, timeout_millis: float = 0) -> bool:
        self.done.append("flush")
        return self._flushed

    def shutdown(self, timeout_millis: float = 0) -> None:
        self.done.append("shutdown")


class TestConfigure:
    """New settings hold for the calls that begin afterwards."""

    def test_what_is_not_given_stays(self, tmp_path: Path) -> None:
        """Settings add up over several calls of `configure`."""
        lmtrace.configure(store=tmp_path / "a", capture="metadata")
        lmtrace.configure(content="span_only")
        settings = _recorder.current().settings
        assert (settings.store, settings.capture, settings.content) == (tmp_path / "a", "metadata", "span_only")

    def test_a_refused_setting_changes_nothing(self, tmp_path: Path) -> None:
        """After an error everything is as it was."""
        lmtrace.configure(store=tmp_path / "a", capture="metadata")
        recorder = _recorder.current()
        with pytest.raises(SettingsError):
            lmtrace.configure(store=tmp_path / "b", capture="spam")
        assert _recorder.current() is recorder
        lmtrace.configure(metrics="off")
        assert _recorder.current().settings.store == tmp_path / "a"

    def test_the_old_store_is_flushed_and_closed(self, tmp_path: Path) -> None:
        """Another process may take the old store's journal at once."""
        lmtrace.configure(store=tmp_path / "a")
        call()
        (exporter,) = _recorder.current().exporters
        lmtrace.configure(store=tmp_path / "b")
        call()
        assert exporter._closed  # type: ignore[attr-defined]
        assert (count(tmp_path / "a"), count(tmp_path / "b")) == (1, 1)

    @pytest.mark.parametrize("end", ["finish", "fail"])
    def test_calls_in_flight(self, end: str, tmp_path: Path) -> None:
        """A call that began before ends in the store it began with, however often `configure` is called meanwhile."""

        def reply(request: Any, secrets: Any) -> Any:
            lmtrace.configure(store=tmp_path / "b")
            lmtrace.configure(store=tmp_path / "c")
            lmtrace.flush()
            if end == "fail":
                raise KeyError
            return answer()

        lmtrace.configure(store=tmp_path / "a")
        before = lmtrace.stats()["failures"]
        exporter = _recorder.current().exporters[0]
        try:
            TracedBackend(Answering(reply)).call(asked(), {})
        except KeyError:
            assert end == "fail"
        gc.collect()
        assert count(tmp_path / "a") == 1
        assert exporter._closed  # type: ignore[attr-defined]
        assert lmtrace.stats()["failures"] == before

    def test_a_run_around_it(self, tmp_path: Path) -> None:
        """A run ends in the store it began with."""
        lmtrace.configure(store=tmp_path / "a")
        with lmtrace.run("r"):
            lmtrace.configure(store=tmp_path / "b")
        with lmtrace.history(tmp_path / "a") as history:
            assert history.sql("select name from spans").fetchall() == [("r",)]

    def test_exporters_of_the_user(self) -> None:
        """They are flushed, never shut down: they belong to the user, and may be given again."""
        sink = Sink()
        lmtrace.configure(store=None, exporters=[sink])
        call()
        lmtrace.configure(content="span_only")
        call()
        lmtrace.shutdown()
        assert sink.done.count("export") == 2
        assert "flush" in sink.done
        assert "shutdown" not in sink.done

    def test_racing_with_the_first_call(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A thread that is just making a recorder does not bring old settings back."""
        build, building, go_on = _compose.build, threading.Event(), threading.Event()

        def slow(settings: Any) -> Any:
            building.set()
            assert go_on.wait(60)
            return build(settings)

        monkeypatch.setattr(_compose, "build", slow)
        first = threading.Thread(target=call)
        first.start()
        assert building.wait(60)
        second = threading.Thread(target=lmtrace.configure, kwargs={"store": tmp_path / "new"})
        second.start()
        go_on.set()
        first.join(60)
        second.join(60)
        assert _recorder.current().settings.store == tmp_path / "new"

    def test_a_store_that_is_off(self) -> None:
        """Without a store calls are answered and nothing is written."""
        lmtrace.configure(store=None)
        assert call().response == answer()
        assert _recorder.current().exporters == ()
        with pytest.raises(SettingsError, match="store is off"):
            lmtrace.history()


class TestFlush:
    """Everything that was recorded is where it goes, or it is said that it is not."""

    def test_nothing_recorded(self) -> None:
        """There is nothing to wait for."""
        assert lmtrace.flush() is True

    def test_rows(self, tmp_path: Path) -> None:
        """Rows of calls are readable, those of replaced settings included."""
        lmtrace.configure(store=tmp_path / "a")
        call()
        assert lmtrace.flush() is True
        assert count(tmp_path / "a") == 1

    def test_not_in_time(self) -> None:
        """An exporter that is not done is reported, and does not keep the others from flushing."""
        slow, quick = Sink(flushed=False), Sink()
        lmtrace.configure(store=None, exporters=[slow, quick])
        call()
        assert lmtrace.flush() is False
        assert quick.done == ["export", "flush"]

    def test_failing(self, failing: None) -> None:
        """One that raises is counted and reported the same way."""

        class Broken(Sink):
            def force_flush(self, timeout_millis: float = 0) -> bool:
                raise OSError

        lmtrace.configure(store=None, exporters=[Broken()])
        call()
        assert lmtrace.flush() is False
        assert lmtrace.stats()["failures"]["flushing Broken"] >= 1


class TestShutdown:
    """After a shutdown everything starts afresh."""

    def test_afresh(self, tmp_path: Path) -> None:
        """What was configured is forgotten; a later call records with the environment's settings."""
        lmtrace.configure(store=tmp_path / "a", capture="metadata")
        call()
        lmtrace.shutdown()
        lmtrace.shutdown()
        assert _recorder.current_or_none() is None
        call()
        settings = _recorder.current().settings
        assert (settings.capture, settings.store) == ("full", tmp_path / "store")
        assert (count(tmp_path / "a"), count(tmp_path / "store")) == (1, 1)


class TestStats:
    """What was done, and what went wrong."""

    def test_the_store(self, tmp_path: Path) -> None:
        """The store tells how many rows it has written."""
        lmtrace.configure(store=tmp_path / "a")
        call()
        stats = lmtrace.stats()
        assert stats.keys() == {"failures", "last_failures", "exporters", "cache"}
        assert stats["exporters"]["StoreExporter"]["written"] == 1

    def test_a_broken_exporter(self) -> None:
        """An exporter that cannot tell is left out."""

        class Broken(Sink):
            def stats(self) -> Any:
                raise OSError

        lmtrace.configure(store=None, exporters=[Broken()])
        call()
        assert lmtrace.stats()["exporters"] == {}


def run_python(code: str, *, cwd: Path, **environ: str) -> tuple[float, str]:
    """Seconds from the last statement to the end of the process, and what it wrote to standard error."""
    started = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code) + "\nimport time; print(time.monotonic())"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), **environ},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    assert time.monotonic() > started
    return time.monotonic() - float(process.stdout.split()[-1]), process.stderr


CALL = """
    import lmtrace
    from backends import *
    {configure}
    TracedBackend(Answering()).call(asked(), {{}})
"""


class TestExit:
    """The end of a process loses nothing and takes at most two seconds longer."""

    @pytest.mark.parametrize(
        "configure", ["", "lmtrace.configure(otlp='http://10.255.255.1:4318')"], ids=["store", "dead"]
    )
    def test_in_time(self, configure: str, tmp_path: Path) -> None:
        """Rows are kept and the exit is quick, with a collector that never answers, too."""
        stores = (tmp_path / f"store{number}" for number in itertools.count())

        def end() -> float:
            store = next(stores)
            seconds, errors = run_python(CALL.format(configure=configure), cwd=tmp_path, LMTRACE_STORE=str(store))
            assert count(store) == 1
            assert "Traceback" not in errors
            return seconds

        assert_within(4, end)  # two are ours

    def test_a_call_at_exit(self, tmp_path: Path) -> None:
        """A call made by an exit handler that runs after ours is answered and recorded."""
        code = """
            import atexit
            atexit.register(lambda: TracedBackend(Answering()).call(asked(), {}))
            import lmtrace
            from backends import *
            TracedBackend(Answering()).call(asked(), {})
        """
        store = tmp_path / "store"
        _, errors = run_python(code, cwd=tmp_path, LMTRACE_STORE=str(store))
        assert "Traceback" not in errors
        assert count(store) == 2

    def test_nothing_recorded(self, tmp_path: Path) -> None:
        """A program that only imports and configures writes nothing and imports nothing heavy."""
        code = """
            import sys, lmtrace
            lmtrace.configure(capture="metadata")
            lmtrace.flush(); lmtrace.stats(); lmtrace.shutdown()
            assert not {"opentelemetry", "duckdb", "litellm"} & sys.modules.keys()
        """
        run_python(code, cwd=tmp_path, LMTRACE_STORE=str(tmp_path / "store"))
        assert not (tmp_path / "store").exists()
