"""What the cache of `lmtrace.LM` answers, and what it never does. Each rule holds for sync and async calls."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tellers import Async, Sync, Teller, Way, answer

import lmtrace
from lmtrace import LMOutput, LMResponse, LMTextPart
from lmtrace._data import LMReasoningPart, LMToolCallPart
from lmtrace_replay import open_cache
from lmtrace_replay._cache import entry_key
from lmtrace_replay._memory import MemoryTier

DAY_NS = 86_400_000_000_000


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def way(request: pytest.FixtureRequest) -> Way:
    made: Way = request.param()
    return made


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The folder that the settings name."""
    return tmp_path / "store"


def new_process() -> None:
    """Forget everything but the disk."""
    lmtrace.shutdown()


def calls(columns: str) -> list[tuple[Any, ...]]:
    """Columns of the recorded calls, in order."""
    with lmtrace.history() as history:
        return history.sql(f"SELECT {columns} FROM calls ORDER BY timestamp, uuid").fetchall()


class TestHits:
    def test_the_second_call_is_not_asked(self, way: Way) -> None:
        """An identical request gets the same answer, and the provider is asked once."""
        teller = Teller()
        first, second = (way.forward(teller.lm(), "hi") for _ in range(2))
        assert first.outputs == second.outputs
        assert len(teller.requests) == 1

    def test_sync_and_async_share(self) -> None:
        """What a sync call has got, an async one need not ask for, and the other way round."""
        teller = Teller()
        lm = teller.lm()
        lm("one")
        asyncio.run(lm.acall("one"))
        asyncio.run(lm.acall("two"))
        lm("two")
        assert len(teller.requests) == 2

    def test_a_hit_is_recorded(self, way: Way) -> None:
        """A hit says so in the response, the history and the row; it keeps its cost, and bills nothing."""
        lm = Teller().lm()
        responses = [way.forward(lm, "hi") for _ in range(2)]
        assert [response.cache_hit for response in responses] == [False, True]
        entry = lm.history[-1]
        assert (entry.served_by, entry.cache_hit, entry.cost, entry.billed_cost) == ("cache", True, 0.25, 0.0)
        assert entry.cost_source == "table"
        assert calls("served_by, cache_hit, cost, billed_cost") == [
            ("provider", False, 0.25, 0.25),
            ("cache", True, 0.25, 0.0),
        ]

    def test_a_hit_has_a_span(self, way: Way) -> None:
        """A hit is a span like any call."""
        from lmtrace.testing import capture

        lm = Teller().lm()
        with capture() as captured:
            way.forward(lm, "hi")
            way.forward(lm, "hi")
        served = [span["attributes"]["lmtrace.served_by"] for span in captured.spans]
        assert served == ["provider", "cache"]

    def test_cache_false(self, way: Way) -> None:
        """Neither an LM nor a call that says cache=False is answered from the cache, or puts anything there."""
        teller = Teller()
        way.forward(teller.lm(cache=False), "hi")
        way.forward(teller.lm(), "hi", cache=False)
        way.forward(teller.lm(), "hi")
        way.forward(teller.lm(), "hi", cache=False)
        assert len(teller.requests) == 4

    def test_rollouts(self, way: Way) -> None:
        """Each rollout has an answer of its own, beside that of no rollout."""
        teller = Teller()
        lm = teller.lm(temperature=1.0)
        rollouts: list[Any] = [None, 1, 2, None, 1, 2]
        texts = [way.forward(lm, "hi", rollout_id=rollout).outputs[0].text for rollout in rollouts]
        assert texts == ["told 1", "told 2", "told 3"] * 2

    @pytest.mark.filterwarnings("ignore:rollout_id has no effect")
    def test_rollouts_without_temperature(self, way: Way) -> None:
        """At temperature 0 a rollout still has an entry of its own, as in DSPy."""
        teller = Teller()
        lm = teller.lm(temperature=0.0)
        way.forward(lm, "hi", rollout_id=1)
        way.forward(lm, "hi", rollout_id=2)
        assert len(teller.requests) == 2

    @pytest.mark.parametrize("difference", [{"temperature": 0.5}, {"n": 2}, {"seed": 1}, {"mine": "x"}])
    def test_other_parameters(self, way: Way, difference: dict[str, Any]) -> None:
        """A request that differs in any parameter, known or not, is another request."""
        teller = Teller()
        way.forward(teller.lm(), "hi")
        way.forward(teller.lm(), "hi", **difference)
        assert len(teller.requests) == 2

    def test_objects_known_by_their_type_only(self, way: Way) -> None:
        """Two objects that the key cannot tell apart are never given each other's answer."""

        class Secret:
            pass

        teller = Teller()
        for _ in range(2):
            way.forward(teller.lm(), "hi", tool_choice=Secret())
        assert len(teller.requests) == 2

    def test_odd_values_that_are_known(self, way: Way) -> None:
        """Bytes, sets and huge numbers are told apart, so they are cached."""
        teller = Teller()
        for value in (b"a", b"b", {1, 2}, 2**70) * 2:
            way.forward(teller.lm(), "hi", logit_bias=value)
        assert len(teller.requests) == 4


class TestStreams:
    def test_a_stream_is_kept(self, way: Way) -> None:
        """What was streamed is streamed again in the same pieces, and answers calls that are not streamed."""
        teller = Teller("one two three")
        lm = teller.lm()
        assert way.stream(lm, "hi") == way.stream(lm, "hi") == ["one", " two", " three"]
        assert way.forward(lm, "hi").outputs[0].text == "one two three"
        assert len(teller.requests) == 1
        assert [entry.served_by for entry in lm.history] == ["provider", "cache", "cache"]

    def test_pieces_survive(self, way: Way) -> None:
        """The pieces are in the index, too."""
        way.stream(Teller("one two").lm(), "hi")
        new_process()
        assert way.stream(Teller().lm(), "hi") == ["one", " two"]

    def test_whole_answers_are_streamed(self, way: Way) -> None:
        """An answer that came at once is one piece."""
        lm = Teller("one two").lm()
        way.forward(lm, "hi")
        assert way.stream(lm, "hi") == ["one two"]

    def test_left_early(self) -> None:
        """A stream that was left early is asked for again."""
        teller = Teller("one two three", "four five")
        with teller.lm().stream("hi") as stream:
            next(stream)
        assert list(teller.lm().stream("hi")) == ["four", " five"]

    def test_a_hit_left_early(self) -> None:
        """A hit that is left early is recorded as one, with what was given."""
        lm = Teller("one two three").lm()
        list(lm.stream("hi"))
        with lm.stream("hi") as stream:
            next(stream)
        assert stream.response.outputs[0].text == "one"
        assert calls("served_by, output_text, billed_cost")[-1] == ("cache", "one", None)

    def test_streams_without_an_end(self, way: Way) -> None:
        """A stream that ends without saying why may have been cut off, and is not kept."""
        cut = answer("cut", outputs=(LMOutput(parts=(LMTextPart("cut"),)),))
        teller = Teller(cut, "whole")
        way.stream(teller.lm(), "hi")
        assert way.stream(teller.lm(), "hi") == ["whole"]

    def test_parts_beside_text(self, way: Way) -> None:
        """Reasoning and tool calls come out of the cache as they went in."""
        parts = (LMReasoningPart("hm"), LMTextPart("so"), LMToolCallPart("call_1", "look", '{"a": 1}'))
        lm = Teller(answer("", outputs=(LMOutput(parts=parts, finish_reason="tool_calls"),))).lm()
        way.forward(lm, "hi")
        new_process()
        assert way.forward(lm, "hi").outputs[0].parts == parts
        assert way.stream(lm, "hi") == ["so"]


class TestNeverKept:
    def test_errors(self, way: Way) -> None:
        """A failed call leaves nothing; the next one asks."""
        teller = Teller(ValueError("no"), "yes")
        with pytest.raises(lmtrace.LMError):
            way.forward(teller.lm(), "hi")
        assert way.forward(teller.lm(), "hi").outputs[0].text == "yes"

    def test_what_others_cached(self, way: Way) -> None:
        """An answer out of another library's cache is not kept: nobody knows its age."""
        teller = Teller(answer("old", cache_hit=True), "new")
        way.forward(teller.lm(), "hi")
        assert way.forward(teller.lm(), "hi").outputs[0].text == "new"

    def test_what_cannot_be_made_again(self, way: Way) -> None:
        """An answer with an object in it that JSON loses is not kept."""
        teller = Teller(answer("odd", provider_data={"client": object()}), "plain")
        way.forward(teller.lm(), "hi")
        assert way.forward(teller.lm(), "hi").outputs[0].text == "plain"

    def test_mutation(self, way: Way) -> None:
        """What a caller does to a response reaches neither the cache nor the next caller."""
        lm = Teller(answer("hi", provider_data={"list": [1], "dict": {"a": 1}})).lm()
        for _ in range(3):
            response = way.forward(lm, "hi")
            assert response.provider_data == {"list": [1], "dict": {"a": 1}}
            assert response.usage is not None
            assert response.usage.details == {"prompt_tokens": 3}
            response.provider_data["list"].append(2)  # type: ignore[index]
            response.provider_data["dict"].clear()  # type: ignore[index]
            response.usage.details["prompt_tokens"] = 99  # type: ignore[index]
            response.metadata["served_by"] = "nobody"  # type: ignore[index]


class TestProcesses:
    def test_answers_survive(self, way: Way) -> None:
        """A new process is answered from the store."""
        first, second = Teller(), Teller()
        way.forward(first.lm(), "hi")
        new_process()
        assert way.forward(second.lm(), "hi").cache_hit
        assert not second.requests

    def test_the_index_holds_no_request(self, store: Path) -> None:
        """Only a hash of what was asked is beside an answer."""
        Teller().lm()("a question that nobody should read")
        new_process()
        content = b"".join(path.read_bytes() for path in store.glob("index.sqlite*"))
        assert b"told 1" in content
        assert b"nobody should read" not in content

    def test_only_for_this_user(self, store: Path) -> None:
        """The index is readable for its user only."""
        Teller().lm()("hi")
        assert {path.stat().st_mode & 0o077 for path in store.glob("index.sqlite*")} == {0}

    @pytest.mark.parametrize(
        "setting", [{"capture": "metadata"}, {"capture": "none"}, {"store": None}, {"cache": "memory"}]
    )
    def test_memory_only(self, way: Way, store: Path, setting: dict[str, Any]) -> None:
        """Where no content may be written, answers are in memory only."""
        lmtrace.configure(**setting)
        teller = Teller()
        for _ in range(2):
            way.forward(teller.lm(), "hi")
        assert len(teller.requests) == 1
        assert not (store / "index.sqlite").exists()

    def test_off(self, way: Way, store: Path) -> None:
        """With the setting off, cache=True means nothing."""
        lmtrace.configure(cache=False)
        teller = Teller()
        for _ in range(2):
            way.forward(teller.lm(), "hi")
        assert len(teller.requests) == 2
        assert not (store / "index.sqlite").exists()

    def test_secrets_are_not_kept(self, way: Way, store: Path) -> None:
        """An answer that repeats a credential is not kept: a call with another one would record the first."""
        key = "sk-test-9f8e7d6c5b4a39281706"
        teller = Teller(f"your key is {key}")
        lm = teller.lm(api_key=key)
        way.forward(lm, "hi")
        assert way.forward(teller.lm(api_key="another-key-4711"), "hi").outputs[0].text == "told 2"
        new_process()
        assert all(key.encode() not in path.read_bytes() for path in store.rglob("*") if path.is_file())

    def test_redacted_answers_stay_in_memory(self, way: Way) -> None:
        """An answer that a redactor of the user's would change is not written; others are."""
        lmtrace.configure(redact=["Paris"])
        first = Teller("Paris", "Rome").lm()
        way.forward(first, "one")
        way.forward(first, "two")
        new_process()
        second = Teller()
        way.forward(second.lm(), "one")
        way.forward(second.lm(), "two")
        assert [request.messages[0]["content"] for request in second.requests] == ["one"]


class TestBackends:
    def test_objects_are_kept_apart(self, way: Way) -> None:
        """Two backends without a name never get each other's answers; a copied LM asks the same one."""
        one, other = Teller("one", name=None), Teller("other", name=None)
        lm = one.lm()
        assert [way.forward(x, "hi").outputs[0].text for x in (lm, lm.copy(), other.lm(), lm)] == [
            "one",
            "one",
            "other",
            "one",
        ]

    def test_objects_write_nothing(self, way: Way, store: Path) -> None:
        """Nobody could tell later whose answers they were."""
        way.forward(Teller(name=None).lm(), "hi")
        new_process()
        assert not (store / "index.sqlite").exists()
        assert calls("cache_name") == [(None,)]

    def test_names_are_kept_apart(self, way: Way) -> None:
        """Backends of different names have different answers, in the store as well."""
        way.forward(Teller("a", name="a").lm(), "hi")
        way.forward(Teller("b", name="b").lm(), "hi")
        new_process()
        texts = [way.forward(Teller(name=name).lm(), "hi").outputs[0].text for name in "ab"]
        assert texts == ["a", "b"]

    def test_replay_comes_first(self, way: Way) -> None:
        """While a session answers, the cache is neither asked nor filled."""
        from lmtrace import _serving

        class Server:
            keeps_rows = True

            def serve(self, backend: Any) -> Any:
                return backend

            def finished(self, *_: Any) -> None:
                pass

        teller = Teller()
        way.forward(teller.lm(), "hi")
        before = _serving.replace(Server())
        try:
            way.forward(teller.lm(), "hi")
        finally:
            _serving.replace(before)
        assert len(teller.requests) == 2


class TestLimits:
    def test_expiry(self) -> None:
        """An answer older than the limit is asked for anew, whether it was in memory or in the index."""
        now = [DAY_NS * 20_000]
        teller = Teller()
        lmtrace.configure(cache_ttl="7d")
        from lmtrace import _caching

        lm = teller.lm()
        cache = _caching.current()
        assert cache is not None
        for part in (cache, cache.index):  # type: ignore[attr-defined]
            part._time_ns = lambda: now[0]
        lm("hi")
        now[0] += 6 * DAY_NS
        lm("hi")
        assert len(teller.requests) == 1
        now[0] += 2 * DAY_NS
        lm("hi")
        assert len(teller.requests) == 2
        lm("hi")
        assert len(teller.requests) == 2

    def test_memory_forgets_what_was_not_used(self) -> None:
        """Of too many answers the one not asked for the longest goes first."""
        cache = open_cache(memory_entries=2)
        keys = [entry_key(f"lm1:{number:064x}") for number in range(3)]
        for key in keys[:2]:
            cache.keep(key, answer("x"), {})
        assert cache.find(keys[0]) is not None
        cache.keep(keys[2], answer("x"), {})
        assert [cache.find(key) is None for key in keys] == [False, True, False]

    def test_memory_has_a_size(self) -> None:
        """The answers in memory are never larger than the limit together."""
        cache = open_cache(memory_bytes=64_000)
        for number in range(200):
            cache.keep(entry_key(f"lm1:{number:064x}"), answer("x" * 1_000), {})
            assert cache.memory.bytes <= 64_000
        assert 30 < len(cache.memory) < 64

    def test_large_answers_pass_memory_by(self, way: Way) -> None:
        """An answer too large for memory is served from the store."""
        lmtrace.configure(cache_memory_bytes=16_000)
        teller = Teller("x" * 5_000)
        for _ in range(3):
            way.forward(teller.lm(), "hi")
        assert len(teller.requests) == 1
        lmtrace.configure(store=None)
        large = Teller("x" * 5_000)
        for _ in range(2):
            way.forward(large.lm(), "hi")
        assert len(large.requests) == 2

    def test_settings_change(self, way: Way, tmp_path: Path) -> None:
        """Another store is another cache; settings that have nothing to do with it leave it alone."""
        teller = Teller()
        way.forward(teller.lm(), "hi")
        lmtrace.configure(max_history_size=5)
        way.forward(teller.lm(), "hi")
        assert len(teller.requests) == 1
        lmtrace.configure(store=tmp_path / "other")
        way.forward(teller.lm(), "hi")
        assert len(teller.requests) == 2


def test_without_pickle(store: Path) -> None:
    """What is written is JSON behind a checksum."""
    import zlib

    import orjson

    Teller("plain").lm()("hi")
    new_process()
    with sqlite3.connect(store / "index.sqlite") as db:
        ((value,),) = db.execute("SELECT value FROM answers_lm1_1").fetchall()
    db.close()
    assert zlib.crc32(value[4:]).to_bytes(4, "big") == value[:4]
    assert LMResponse.from_wire(orjson.loads(value[4:])["response"]).outputs[0].text == "plain"


def test_figures() -> None:
    """`lmtrace.stats()` counts what the cache found where, and what it wrote."""
    lm = lmtrace.LM("test/model", backend=Teller())  # type: ignore[arg-type]
    for prompt in ("a", "a", "b"):
        lm(prompt)
    lmtrace._caching.drop()  # type: ignore[attr-defined]
    lm("a")
    figures = lmtrace.stats()["cache"]
    assert (figures["memory_hits"], figures["index_hits"], figures["memory_entries"]) == (0, 1, 1)
    lm("c")
    assert lmtrace.stats()["cache"]["index_writes"] == 1


def test_a_signal_handler_that_asks() -> None:
    """The thread that is looking into the memory may be interrupted and look again: it does not wait for itself."""
    tier = MemoryTier(max_entries=2, max_bytes=1_000)
    with tier._lock:
        assert tier.get(b"key") is None
