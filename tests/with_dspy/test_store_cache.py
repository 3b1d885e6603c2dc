"""The store's cache in the place of DSPy's own: ``lmtrace.instrument(cache=True)``."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio.from_thread  # noqa: F401 - Python 3.11 cannot always compile it for pytest inside a thread of its own
import dspy
import pytest

import lmtrace
from lmtrace import _caching
from lmtrace.testing import LoopbackProvider, ReceivedRequest, Reply

RELEASE = tuple(int(part) for part in dspy.__version__.split(".")[:2])
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]


def answer(request: ReceivedRequest) -> Reply:
    """A new answer to every request."""
    return Reply(text=f"[[ ## answer ## ]]\n{uuid.uuid4()} is it\n\n[[ ## completed ## ]]")


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, provider: LoopbackProvider) -> Iterator[None]:
    """The store's cache in the place of one of DSPy's that is this test's own."""
    provider.respond(answer)
    before = dspy.cache
    dspy.configure_cache(enable_disk_cache=True, enable_memory_cache=True, disk_cache_dir=str(tmp_path / "dspy"))
    lmtrace.configure(store=tmp_path / "store")
    lmtrace.instrument(cache=True)
    yield
    lmtrace.uninstrument()
    dspy.cache = before


def made(provider: LoopbackProvider, engine: dict[str, Any], **given: Any) -> Any:
    """A `dspy.LM` at the loopback provider, with cache."""
    options = {"temperature": 1.0, "num_retries": 0, **engine, **given}
    return dspy.LM("openai/gpt-4o-mini", api_key="sk-loopback-0123456789", api_base=provider.openai_base, **options)


def rows(*columns: str) -> list[Any]:
    """Columns of the recorded calls, oldest first."""
    lmtrace.flush()
    return lmtrace.history().sql(f"select {', '.join(columns)} from calls order by timestamp, uuid").fetchall()


def in_a_new_process() -> None:
    """Forget what is in memory."""
    _caching.drop()


@pytest.mark.parametrize("model_type", ["chat", "text", "responses"])
def test_hits(provider: LoopbackProvider, engine: dict[str, Any], call: Any, model_type: str) -> None:
    """An identical request has the same answer, also from the store; the row says so, and DSPy's history as with its cache."""
    lm = made(provider, engine, model_type=model_type)
    first = call(lm, messages=QUESTION)
    assert call(lm, messages=QUESTION) == first
    in_a_new_process()
    assert call(lm, messages=QUESTION) == first
    assert len(provider.requests) == 1
    assert rows("served_by", "cache_hit", "coalesce(billed_cost, 0) = 0")[1:] == [("cache", True, True)] * 2
    bought, *hits = lm.history
    assert bought["usage"]
    assert [(hit["usage"], hit["cost"], hit["outputs"]) for hit in hits] == [({}, bought["cost"], first)] * 2


def test_usage(provider: LoopbackProvider, engine: dict[str, Any], call: Any) -> None:
    """DSPy's usage tracker sees what was bought, and nothing of a hit."""
    lm = made(provider, engine)
    predict = dspy.Predict("question -> answer")
    with dspy.context(lm=lm, track_usage=True):
        used = [call(predict, question="Why?").get_lm_usage() for _ in range(2)]
    assert used[0]["openai/gpt-4o-mini"]["total_tokens"] > 0
    assert used[1] == {}


def test_own_cache_aside(provider: LoopbackProvider, engine: dict[str, Any], call: Any, tmp_path: Path) -> None:
    """DSPy's cache neither answers nor learns meanwhile, and is back afterwards."""
    lm = made(provider, engine)
    lmtrace.uninstrument()
    before = call(lm, messages=QUESTION)
    lmtrace.instrument(cache=True)
    meanwhile = call(lm, messages=QUESTION)
    assert meanwhile != before
    call(lm, "only asked meanwhile")
    lmtrace.uninstrument()
    assert call(lm, messages=QUESTION) == before
    asked = len(provider.requests)
    call(lm, "only asked meanwhile")
    assert len(provider.requests) == asked + 1


def test_said_again(provider: LoopbackProvider, engine: dict[str, Any]) -> None:
    """`instrument()` without a word on the cache leaves it; with ``cache=False`` DSPy's own is back."""
    lm = made(provider, engine)
    lmtrace.instrument()
    lm("hello")
    assert [row[0] for row in rows("cache_name")] == ["litellm"]
    lmtrace.instrument(cache=False)
    lm("hello")
    assert len(provider.requests) == 2


def test_rollouts(provider: LoopbackProvider, engine: dict[str, Any], call: Any) -> None:
    """Each rollout has an answer of its own; ``cache=False`` always asks."""
    lm = made(provider, engine)
    answers = [str(call(lm, "hello", rollout_id=rollout)) for rollout in (None, 1, 2, 1, None)]
    copied = str(call(lm.copy(rollout_id=2), "hello"))
    assert answers[0] == answers[4] != answers[1] == answers[3] != answers[2] == copied
    assert len(provider.requests) == 3
    call(lm, "hello", cache=False)
    assert len(provider.requests) == 4


def test_errors(provider: LoopbackProvider, engine: dict[str, Any], call: Any) -> None:
    """Errors are the provider's own and never kept."""
    provider.fail(status=400)
    lm = made(provider, engine)
    with pytest.raises(Exception, match="could not parse"):
        call(lm, "hello")
    assert "is it" in str(call(lm, "hello"))


def test_single_flight(provider: LoopbackProvider, engine: dict[str, Any]) -> None:
    """Identical requests of many threads are one call of the provider."""
    begun = threading.Barrier(8)
    arrived = threading.Event()

    def slowly(request: ReceivedRequest) -> Reply:
        arrived.wait(1)
        return answer(request)

    provider.respond(slowly)
    lm = made(provider, engine)

    def ask(_: int) -> str:
        begun.wait(60)
        return str(lm("hello"))

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert len(provider.requests) == 1


def test_streamed(provider: LoopbackProvider, engine: dict[str, Any]) -> None:
    """A streamed program gets its chunks once; a hit gives the answer without any, as one of DSPy's cache."""
    lm = made(provider, engine)
    program = dspy.streamify(
        dspy.Predict("question -> answer"),
        stream_listeners=[dspy.streaming.StreamListener("answer", allow_reuse=True)],
        async_streaming=True,
    )

    async def run() -> tuple[int, str]:
        chunks, found = 0, ""
        with dspy.context(lm=lm):
            async for item in program(question="Why?"):
                if isinstance(item, dspy.Prediction):
                    found = item.answer
                else:
                    chunks += 1
        return chunks, found

    (some, first), (none, second) = asyncio.run(run()), asyncio.run(run())
    assert some > 0
    assert none == 0
    assert first == second
    assert len(provider.requests) == 1


def plain(outputs: Any) -> Any:
    """Outputs of a call without the classes they are made of."""
    if hasattr(outputs, "model_dump"):
        return plain(outputs.model_dump())
    if isinstance(outputs, dict):
        return {name: plain(item) for name, item in outputs.items() if item is not None and name not in ("id", "index")}
    return [plain(item) for item in outputs] if isinstance(outputs, list) else outputs


KINDS: dict[str, tuple[Reply, dict[str, Any]]] = {
    "text": (Reply(text="Paris"), {}),
    "candidates": (Reply(text="one"), {"n": 3}),
    "tools": (Reply(tool_calls=[{"name": "add", "arguments": {"a": 1}}]), {"tools": TOOLS}),
    "reasoning": (Reply(text="Paris", reasoning="France, so"), {}),
    "logprobs": (Reply(text="Paris", logprobs=[("Par", -0.1), ("is", -0.2)]), {"logprobs": True, "top_logprobs": 2}),
}


@pytest.mark.skipif(RELEASE < (3, 4), reason="one engine")
@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("engines", [("litellm", "lm15"), ("lm15", "litellm")])
def test_across_engines(provider: LoopbackProvider, call: Any, kind: str, engines: tuple[str, str]) -> None:
    """What one engine has asked for serves the other, with the same public answer, from memory and from the store."""
    reply, options = KINDS[kind]
    one, other = (made(provider, {"engine": name}) for name in engines)
    provider.respond(lambda request: reply)
    fresh = plain(call(other, messages=QUESTION, cache=False, **options))
    bought = plain(call(one, messages=QUESTION, **options))
    asked = len(provider.requests)
    assert plain(call(one, messages=QUESTION, **options)) == bought
    assert plain(call(other, messages=QUESTION, **options)) == bought == fresh
    in_a_new_process()
    assert plain(call(other, messages=QUESTION, **options)) == bought
    assert len(provider.requests) == asked


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_shared_with_lm(provider: LoopbackProvider, engine: dict[str, Any], kind: str) -> None:
    """`lmtrace.LM` and `dspy.LM` have one cache, and the same public answers out of it."""
    reply, options = KINDS[kind]
    provider.respond(lambda request: reply)
    address = {"api_key": "sk-loopback-0123456789", "api_base": provider.openai_base}
    theirs = made(provider, engine)
    ours = lmtrace.LM("openai/gpt-4o-mini", temperature=1.0, **address)
    bought = plain(theirs(messages=QUESTION, **options))
    assert plain(ours(messages=QUESTION, **options)) == bought
    assert ours.history[-1].served_by == "cache"
    again = [{"role": "user", "content": "again"}]
    kept = plain(ours(messages=again, **options))
    asked = len(provider.requests)
    assert plain(theirs(messages=again, **options)) == kept
    assert len(provider.requests) == asked


@pytest.mark.skipif(RELEASE < (3, 4), reason="no engines of one's own")
def test_own_engines(provider: LoopbackProvider) -> None:
    """The answers of a program's own engine are kept apart from everybody else's."""
    from dspy.lm15 import Message, Response, TextPart, Usage

    class Engine:
        def __init__(self, text: str) -> None:
            self.text = text
            self.asked = 0

        def complete(self, request: Any) -> Any:
            self.asked += 1
            message = Message(role="assistant", parts=(TextPart(self.text),))
            return Response(id="1", model="m", message=message, finish_reason="stop", usage=Usage())

        def close(self) -> None: ...

    engines = [Engine("one"), Engine("two")]
    lms = [dspy.LM("openai/gpt-4o-mini", engine=engine) for engine in engines]
    assert [lm("hello") for lm in lms * 2] == [["one"], ["two"], ["one"], ["two"]]
    assert [engine.asked for engine in engines] == [1, 1]


def test_later_classes(provider: LoopbackProvider, engine: dict[str, Any]) -> None:
    """LMs of one's own can be defined meanwhile; their answers are not cached, as with DSPy's cache."""

    class Own(dspy.BaseLM):
        def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            import litellm

            return litellm.ModelResponse(choices=[{"message": {"content": str(uuid.uuid4())}}], model="own")

    own = Own("own")
    assert own("hello") != own("hello")


def test_sessions(provider: LoopbackProvider, engine: dict[str, Any], tmp_path: Path) -> None:
    """A session is not answered by the cache, and teaches it nothing."""
    lm = made(provider, engine)
    kept = lm("hello")
    with lmtrace.replay(tmp_path / "c.cassette", mode="rewrite"):
        recorded = lm("hello")
    assert recorded != kept
    with lmtrace.replay(tmp_path / "c.cassette"):
        assert lm("hello") == recorded
    assert lm("hello") == kept


def test_switched_off(provider: LoopbackProvider, engine: dict[str, Any]) -> None:
    """Where the settings turn the store's cache off, DSPy's own goes on."""
    lmtrace.configure(cache="off")
    lm = made(provider, engine)
    assert lm("hello") == lm("hello")
    assert len(provider.requests) == 1
    assert lm.history[-1]["usage"] == {}


def test_embeddings(provider: LoopbackProvider, call: Any) -> None:
    """The vectors of a hosted model are kept in the store; ``caching=False`` asks; a function of one's own is DSPy's to cache."""
    pytest.importorskip("numpy")
    embed = dspy.Embedder(
        "openai/text-embedding-3-small", api_key="sk-loopback-0123456789", api_base=provider.openai_base
    )
    first = call(embed, ["a", "b"])
    in_a_new_process()
    assert (call(embed, ["a", "b"]) == first).all()
    assert len(provider.requests) == 1
    assert (call(embed, ["a", "b"], caching=False) == first).all()
    assert len(provider.requests) == 2
    assert rows("operation", "served_by")[:2] == [("embeddings", "provider"), ("embeddings", "cache")]
    seen = []

    def own(texts: list[str]) -> list[list[float]]:
        seen.append(texts)
        return [[1.0] for _ in texts]

    for _ in range(2):
        call(dspy.Embedder(own), ["a"])
    assert len(seen) == 1
