"""Questions to a history: the views, the quick ways, their errors, and stores that are missing or in use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from lmtrace._exporter import Record
from lmtrace_exporters import HistoryQueryError, StoreExporter, compact, export_history, open_history

Make = Callable[..., StoreExporter]
MakeCall = Callable[..., Record]


@pytest.fixture(params=["journal", "segments", "both"])
def write(request: pytest.FixtureRequest, store: Path, make_exporter: Make) -> Callable[..., None]:
    """Write records so that they are in a journal, in segments, or half and half: every rule holds for all three."""

    def write(*records: Record) -> None:
        half = {"journal": 0, "segments": len(records), "both": len(records) // 2}[request.param]
        exporter = make_exporter()
        exporter.export(records[:half])
        exporter.shutdown()
        compact(store)
        make_exporter().export(records[half:])

    return write


Write = Callable[..., None]


def test_empty_store(store: Path) -> None:
    """A store that does not exist has all views, without rows, and is not made by looking."""
    with open_history(store) as history:
        for view in ("calls", "messages", "spans", "runs", "rollouts", "costs", "candidates", "examples"):
            assert history.sql(f"SELECT * FROM {view}").fetchall() == []
        assert history.recent() == []
        assert history.call("u") is None
        assert history.trace("t") == []
        assert history.problems == ()
    assert not store.exists()


def test_messages(store: Path, write: Write, make_call: MakeCall) -> None:
    """`messages` has one row per message asked and answered, with its text however it was given."""
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "…"}},
        {"type": "text", "text": "b"},
    ]
    write(
        make_call("u1", messages=[{"role": "system", "content": "s"}, {"role": "user", "content": parts}]),
        make_call("u2", messages=None, prompt="p", outputs=[{"text": "t", "reasoning_content": "why"}, "second"]),
        make_call("u3", messages=[{"role": "assistant", "content": None, "tool_calls": []}], outputs=None),
    )
    with open_history(store) as history:
        query = "SELECT uuid, direction, position, role, content FROM messages ORDER BY uuid, direction, position"
        assert history.sql(query).fetchall() == [
            ("u1", "input", 0, "system", "s"),
            ("u1", "input", 1, "user", "a\nb"),
            ("u1", "output", 0, "assistant", "This is a test."),
            ("u2", "input", 0, "user", "p"),
            ("u2", "output", 0, "assistant", "t"),
            ("u2", "output", 1, "assistant", "second"),
            ("u3", "input", 0, "assistant", None),
        ]


def test_runs_and_spans(store: Path, write: Write, make_call: MakeCall) -> None:
    """`runs` sums up calls and the run's own span; `spans` holds stored spans and calls, in one tree."""
    ids = {"run_id": "r", "run_name": "rag", "tags": {"exp": "a"}, "trace_id": "t"}
    span = (
        b'{"kind":"span","span_id":"root","trace_id":"t","timestamp":"2026-11-21T09:15:00Z","duration_ms":2000.0,'
        b'"name":"run rag","run_id":"r","run_name":"rag","tags":{"exp":"a"}}'
    )
    write(
        Record("span", span),
        make_call("u1", **ids, span_id="a", parent_span_id="root", total_tokens=5, cost=0.5, billed_cost=0.5),
        make_call("u2", **ids, span_id="b", parent_span_id="root", error_type="X", model="n", cost=None),
    )
    with open_history(store) as history:
        query = "SELECT run_id, name, tags, duration_ms, calls, errors, tokens, cost, billed_cost, models FROM runs"
        assert history.sql(query).fetchall() == [("r", "rag", {"exp": "a"}, 2000.0, 2, 1, 5, 0.5, 0.5, ["m", "n"])]
        tree = [(span["name"], span["parent_span_id"], span["status"]) for span in history.trace("t")]
    assert tree == [("run rag", None, None), ("chat m", "root", "ok"), ("chat n", "root", "error")]


def test_rollouts(store: Path, write: Write, make_call: MakeCall) -> None:
    """`rollouts` puts the answers to one request side by side; a request made in one way only is not there."""
    write(
        make_call("u1", request_key="k", rollout_id="1", outputs=["one"]),
        make_call("u2", request_key="k", rollout_id="2", outputs=["two"], timestamp="2026-11-21T09:16:00Z"),
        make_call("u3", request_key="other", rollout_id="1"),
        make_call("u4", request_key="other", rollout_id="1"),
    )
    with open_history(store) as history:
        query = "SELECT request_key, rollouts, rollout_ids, outputs, uuids FROM rollouts"
        assert history.sql(query).fetchall() == [("k", 2, ["1", "2"], ["one", "two"], ["u1", "u2"])]


def test_costs(store: Path, write: Write, make_call: MakeCall) -> None:
    """`costs` sums by day, provider and model; what is unknown stays unknown."""
    write(
        make_call("u1", provider="p", cost=0.25, total_tokens=3),
        make_call("u2", provider="p", cost=0.5, total_tokens=4),
        make_call("u3", provider="p", model="free"),
    )
    with open_history(store) as history:
        query = "SELECT day::VARCHAR, provider, model, calls, tokens, cost FROM costs ORDER BY model"
        rows = history.sql(query).fetchall()
    assert rows == [("2026-11-21", "p", "free", 1, None, None), ("2026-11-21", "p", "m", 2, 7, 0.75)]


def test_recent(store: Path, write: Write, make_call: MakeCall) -> None:
    """`recent` gives the calls that began last, whatever the order in which they ended, as SQL would."""
    start = datetime(2026, 11, 21, tzinfo=UTC)
    records = [
        make_call(f"u{ended}", timestamp=(start + timedelta(seconds=ended - took)).isoformat(), duration_ms=took * 1000)
        for ended in range(100)
        for took in [(ended * 37) % 50]
    ]
    write(*records)
    with open_history(store) as history:
        expected = history.sql("SELECT uuid FROM calls ORDER BY timestamp DESC, uuid DESC").fetchall()
        for count in (0, 1, 7, 100, 500):
            assert [(row["uuid"],) for row in history.recent(count)] == expected[:count]


def test_recent_many_blocks(store: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """Lines longer than what is read at once come back whole."""
    texts = [f"{number}" * 300_000 for number in range(3)]
    exporter.export([make_call(f"u{number}", prompt=text) for number, text in enumerate(texts)])
    with open_history(store) as history:
        assert sorted(row["prompt"] for row in history.recent(10)) == texts


def test_find(store: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """`find` gives what sorting everything would give, wherever the rows are and however files overlap in time."""
    moments = [f"2020-01-{day:02}T{hour:02}:00:00Z" for day in range(1, 9) for hour in (1, 22)]
    for turn in range(3):  # every file has rows of all days
        for index, moment in enumerate(moments):
            exporter.export([make_call(f"{turn}-{index:02}", timestamp=moment, model="even" if index % 2 else "odd")])
        if turn < 2:
            exporter.shutdown()
            compact(store, grace_seconds=0)
            exporter = StoreExporter(store, compaction=False)
    exporter.shutdown()
    for since in (None, datetime(2020, 1, 4, tzinfo=UTC)):
        with open_history(store, since=since) as history:
            query = "SELECT uuid FROM calls WHERE model = 'even' ORDER BY timestamp DESC, uuid DESC"
            expected = history.fetch(query).rows
            for count in (1, 2, 5, 100):
                found = history.find("model = ?", ["even"], count=count, columns="uuid")
                assert found.rows == expected[:count]
                assert (found.columns, found.types) == (["uuid"], ["VARCHAR"])
            history.materialise()
            assert history.find("model = ?", ["even"], count=3, columns="uuid").rows == expected[:3]
            with pytest.raises(HistoryQueryError, match="did you mean"):
                history.find("modle = 'even'", count=1)


def test_time_limits(store: Path, write: Write, make_call: MakeCall) -> None:
    """`since` is inclusive, `until` exclusive, in every way of asking."""
    write(*(make_call(f"u{hour}", timestamp=f"2026-11-21T{hour:02}:00:00Z") for hour in range(10)))
    since, until = datetime(2026, 11, 21, 3, tzinfo=UTC), datetime(2026, 11, 21, 6, tzinfo=UTC)
    with open_history(store, since=since, until=until) as history:
        assert history.sql("SELECT uuid FROM calls ORDER BY uuid").fetchall() == [("u3",), ("u4",), ("u5",)]
        assert [row["uuid"] for row in history.recent(10)] == ["u5", "u4", "u3"]


def test_call(store: Path, write: Write, make_call: MakeCall) -> None:
    """A call is found by the beginning of its uuid, unless several begin so."""
    write(make_call("abc-1", tags={"a": "b"}), make_call("abd-2"))
    with open_history(store) as history:
        row = history.call("abc")
        assert row is not None
        assert (row["uuid"], row["tags"], row["outputs"]) == ("abc-1", {"a": "b"}, ["This is a test."])
        assert history.call("x") is None
        with pytest.raises(HistoryQueryError, match="several calls begin with 'ab'"):
            history.call("ab")


def test_sees_later_rows(store: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """An open history sees rows as soon as they are written; a materialised one stays as it was."""
    with open_history(store) as history, open_history(store) as still:
        exporter.export([make_call("u1")])
        still.materialise()
        exporter.export([make_call("u2")])
        assert history.sql("SELECT count(*) FROM calls").fetchall() == [(2,)]
        assert still.sql("SELECT count(*) FROM messages").fetchall() == [(2,)]


def test_deleted_while_read(
    store: Path, exporter: StoreExporter, make_call: MakeCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal that a compaction deletes between looking and reading costs no row and no error."""
    import lmtrace_exporters._history as module

    exporter.export([make_call("u")])
    exporter.shutdown()
    whole = module.take_snapshot

    def overtaken(*arguments: object) -> object:
        snapshot = whole(*arguments)  # type: ignore[arg-type]
        compact(store, grace_seconds=0)
        return snapshot

    with open_history(store) as history:
        monkeypatch.setattr(module, "take_snapshot", overtaken)
        assert history.sql("SELECT uuid FROM calls").fetchall() == [("u",)]
    with open_history(store) as history:
        assert history.fetch("SELECT uuid FROM calls").rows == [("u",)]


def test_missing_file_of_a_query(store: Path) -> None:
    """A file that the query itself names and that is not there is the query's mistake."""
    with open_history(store) as history, pytest.raises(HistoryQueryError, match=r"nothing\.parquet"):
        history.sql("FROM 'nothing.parquet'")


def test_arrow(store: Path, write: Write, make_call: MakeCall) -> None:
    """Calls, or the answer to a query, come as a table of Arrow."""
    write(make_call("a", cost=0.5), make_call("b", cost=0.25))
    with open_history(store) as history:
        assert history.arrow("SELECT sum(cost) AS cost FROM calls").to_pylist() == [{"cost": 0.75}]
        table = history.arrow()
    assert sorted(table.column("uuid").to_pylist()) == ["a", "b"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # DuckDB 2.0 asks pandas 3 in a way that pandas deprecates
def test_data_frame(store: Path, write: Write, make_call: MakeCall) -> None:
    """Where pandas is installed, calls, or the answer to a query, come as a data frame."""
    pytest.importorskip("pandas")
    write(make_call("a", cost=0.5), make_call("b", cost=0.25))
    with open_history(store) as history:
        assert history.df("SELECT sum(cost) AS cost FROM calls")["cost"].tolist() == [0.75]
        assert sorted(history.df()["uuid"]) == ["a", "b"]


def test_no_pandas(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pandas a data frame is refused with what to install and what works without."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with open_history(store) as history, pytest.raises(HistoryQueryError, match=r"pip install pandas; \.arrow\(\)"):
        history.df()


def test_older_segments(store: Path, make_exporter: Make, make_call: MakeCall, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments whose JSON columns have that type, as earlier ones have, give the rows that text gives."""
    answers = []
    for uuid, is_old in (("a", True), ("b", False)):
        exporter = make_exporter()
        exporter.export([make_call(uuid, kwargs={"seed": 1}, timestamp=f"2026-11-{20 + is_old}T09:00:00Z")])
        exporter.shutdown()
        with monkeypatch.context() as patch, open_history(store) as history:
            if is_old:
                patch.setattr("lmtrace_exporters._parquet._as_text", lambda _connection, query: query)
            before = history.fetch("FROM calls ORDER BY uuid")
            compact(store)
            answers.append((before, history.fetch("FROM calls ORDER BY uuid")))
    types = {duckdb.read_parquet(str(path)).select("messages").types[0] for path in store.rglob("*.parquet")}
    assert {str(type_) for type_ in types} == {"JSON", "VARCHAR"}
    assert all(before == after for before, after in answers)
    with open_history(store) as history:
        found = history.find(
            "contains(messages::VARCHAR, 'user')", count=9, columns="uuid, kwargs ->> 'seed', messages"
        )
    assert [row[:2] for row in found.rows] == [("a", "1"), ("b", "1")]
    assert found.types[2] == "JSON"


def test_one_day_opens_its_files(store: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """A history of one day needs the files of that day and no other: without them it answers the same."""
    for day in range(10, 20):
        exporter.export([make_call(f"{day}", timestamp=f"2020-01-{day}T12:00:00Z")])
    exporter.shutdown()
    compact(store, grace_seconds=0)
    for path in store.rglob("*.parquet"):
        if path.parent.name != "date=2020-01-15":
            path.unlink()
    day = datetime(2020, 1, 15, tzinfo=UTC)
    with open_history(store, since=day, until=day + timedelta(days=1)) as history:
        assert history.sql("SELECT uuid FROM calls").fetchall() == [("15",)]
        assert [row["uuid"] for row in history.recent()] == ["15"]
        assert history.problems == ()


def test_parameters(store: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """Values are passed as parameters, never as text."""
    exporter.export([make_call("u'1")])
    with open_history(store) as history:
        assert history.sql("SELECT uuid FROM calls WHERE uuid = ?", ["u'1"]).fetchall() == [("u'1",)]
        assert history.sql("SELECT uuid FROM calls WHERE uuid = $u", {"u": "u'1"}).fetchall() == [("u'1",)]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT cots FROM calls", "did you mean cost"),
        ("SELECT * FROM cals", "did you mean calls"),
        ("SELEC 1", "syntax error"),
    ],
)
def test_wrong_query(store: Path, query: str, message: str) -> None:
    """A wrong query is one error that names the problem, the nearest names and the views."""
    with open_history(store) as history, pytest.raises(HistoryQueryError, match=message) as caught:
        history.sql(query).fetchall()
    assert "the views are calls, messages" in str(caught.value)


def test_python_is_out_of_reach(store: Path) -> None:
    """A query cannot read the variables of the program."""
    import pyarrow as pa

    secret = pa.table({"key": ["sk-1"]})
    with open_history(store) as history, pytest.raises(HistoryQueryError):
        history.sql("SELECT * FROM secret")
    assert secret


def test_forked_child(store: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """A child that uses an inherited history gets its own connection, and the parent keeps its."""
    exporter.export([make_call("u1")])
    with open_history(store) as history:
        assert history.sql("SELECT count(*) FROM calls").fetchall() == [(1,)]
        if not (child := os.fork()):
            answer = history.sql("SELECT count(*) FROM calls").fetchall()
            history.close()
            os._exit(0 if answer == [(1,)] else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert history.sql("SELECT count(*) FROM calls").fetchall() == [(1,)]


def test_forked_child_ends(store: Path) -> None:
    """A child that only inherited a history ends as any other, though DuckDB cannot be closed there."""
    code = (
        "import os, sys; from lmtrace_exporters import open_history\n"
        "history = open_history(sys.argv[1]); history.sql('SELECT count(*) FROM calls').fetchall()\n"
        "child = os.fork()\n"
        "if child: sys.exit(os.waitpid(child, 0)[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, store], check=False, timeout=100)
    assert done.returncode == 0


@pytest.mark.parametrize("format_", ["duckdb", "parquet", "jsonl", "csv"])
def test_export(store: Path, tmp_path: Path, write: Write, make_call: MakeCall, format_: str) -> None:
    """An export has every call, and is never written over something else."""
    import duckdb

    write(make_call("u1", cost=-0.5, prompt="=HYPERLINK()"), make_call("u2", novelty=1, schema_version=9))
    target = tmp_path / f"out.{format_}"
    with open_history(store) as history:
        assert export_history(history, target, format_) == target
        with pytest.raises(Exception, match="exists"):
            export_history(history, target, format_)
    if format_ == "duckdb":
        with duckdb.connect(target, read_only=True) as connection:
            assert connection.execute("SELECT count(*), count(DISTINCT uuid) FROM messages").fetchall() == [(4, 2)]
            found = connection.execute("SELECT uuid, cost FROM calls ORDER BY uuid").fetchall()
    else:
        found = duckdb.sql(f"SELECT uuid, cost FROM '{target}' ORDER BY uuid").fetchall()
    assert found == [("u1", -0.5), ("u2", None)]
    assert target.stat().st_mode & 0o777 == 0o600
    if format_ == "csv":
        assert ",'=HYPERLINK()," in target.read_text()
    if format_ == "jsonl":
        assert '"novelty":1' in target.read_text()


def test_export_folder(store: Path, tmp_path: Path, write: Write, make_call: MakeCall) -> None:
    """Parquet without a file name is a folder with calls and spans."""
    write(make_call("u1"))
    with open_history(store) as history:
        export_history(history, tmp_path / "out", "parquet")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["calls.parquet", "spans.parquet"]


def test_unknown_export(store: Path, tmp_path: Path) -> None:
    """An unknown format is refused with those there are."""
    with open_history(store) as history, pytest.raises(Exception, match="csv, duckdb, finetune, jsonl, parquet"):
        export_history(history, tmp_path / "out", "xml")
