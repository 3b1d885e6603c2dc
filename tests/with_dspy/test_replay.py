"""DSPy programs recorded once and answered without a provider, in every mode of DSPy that makes LM calls."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio.from_thread  # noqa: F401 - Python 3.11 cannot always compile it for pytest inside a thread of its own
import dspy
import pytest

import lmtrace
from lmtrace.testing import LoopbackProvider, ReceivedRequest, Reply, capture
from lmtrace_replay import ReplayMiss, replay
from lmtrace_replay._sockets import SocketGuard

RELEASE = tuple(int(part) for part in dspy.__version__.split(".")[:2])
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]

Scenario = Callable[[], Any]
Twice = Callable[[Scenario], Any]


def answer(request: ReceivedRequest) -> Reply:
    """A new answer to every request, in the form DSPy asks for."""
    text = f"[[ ## answer ## ]]\n{uuid.uuid4()} is the answer\n\n[[ ## completed ## ]]"
    return Reply(text=text)


@pytest.fixture(autouse=True)
def no_cache_of_dspy(tmp_path: Path) -> Iterator[None]:
    """A cache of each test's own."""
    before = dspy.cache
    dspy.configure_cache(enable_disk_cache=True, enable_memory_cache=True, disk_cache_dir=str(tmp_path / "dspy"))
    yield
    dspy.cache = before


@pytest.fixture
def twice(provider: LoopbackProvider, tmp_path: Path) -> Twice:
    """Runs a scenario while it is recorded and again without provider and network; the results are equal."""

    def run(scenario: Scenario) -> Any:
        provider.respond(answer)
        path = tmp_path / "c.cassette"
        with replay(path, mode="rewrite"):
            recorded = scenario()
        asked = len(provider.requests)
        assert asked > 0
        with SocketGuard(), replay(path) as session:
            replayed = scenario()
        assert replayed == recorded
        assert len(provider.requests) == asked
        assert session.calls
        assert {call.served_by for call in session.calls} == {"replay"}
        return recorded

    return run


def made(provider: LoopbackProvider, engine: dict[str, Any], **given: Any) -> Any:
    """A `dspy.LM` at the loopback provider."""
    options = {"temperature": 1.0, "cache": False, "num_retries": 0, **engine, **given}
    return dspy.LM(
        options.pop("model", "openai/gpt-4o-mini"),
        api_key="sk-loopback-0123456789",
        api_base=provider.openai_base,
        **options,
    )


def history(lm: Any) -> list[Any]:
    """What DSPy wrote down of the calls, without what is new each time; the list is empty afterwards."""
    names = ("outputs", "usage", "cost", "response_model", "model_type", "kwargs", "messages", "prompt")
    found = [{name: entry[name] for name in names} for entry in lm.history]
    for entry, kept in zip(lm.history, found, strict=True):
        kept["cost_details"] = entry.get("cost_details")
        responses = entry["response"] if isinstance(entry["response"], tuple) else (entry["response"],)
        kept["provider_data"] = [raw_of(response) for response in responses]
    lm.history.clear()
    return found


def raw_of(response: Any) -> Any:
    """What the provider sent, as DSPy 3.4's own engine keeps it, without ids and times, which a cassette does not hold."""
    raw = getattr(response, "provider_data", None)
    return raw and {name: value for name, value in raw.items() if name not in {"id", "created", "created_at", "output"}}


@pytest.mark.parametrize("model_type", ["chat", "text", "responses"])
@pytest.mark.parametrize("cache", [True, False])
def test_calls(  # noqa: PLR0917 - fixtures
    provider: LoopbackProvider, engine: dict[str, Any], call: Any, twice: Twice, model_type: str, cache: bool
) -> None:
    """Each call gets its recorded answer, with usage and cost in DSPy's history; only cached ones get the same again."""
    lm = made(provider, engine, cache=cache, model_type=model_type)

    def scenario() -> Any:
        answers = [call(lm, messages=QUESTION) for _ in range(3)]
        assert len({str(one) for one in answers}) == (1 if cache else 3)
        return answers, history(lm)

    _, entries = twice(scenario)
    assert all(entry["usage"] for entry in entries)


def test_candidates_and_rollouts(provider: LoopbackProvider, engine: dict[str, Any], call: Any, twice: Twice) -> None:
    """``n=3`` is one recording on every engine; a rollout gets its own answer, set by the call or by a copy."""
    lm = made(provider, engine, cache=True)

    def scenario() -> Any:
        several = call(lm, "hello", n=3)
        assert len(several) == 3
        copies = [lm.copy(rollout_id=number) for number in (1, 2, 1)]
        rollouts = [call(copy, "hello") for copy in copies] + [call(lm, "hello", rollout_id=2)]
        assert rollouts[0] == rollouts[2] != rollouts[1] == rollouts[3]
        return several, rollouts, history(lm)

    twice(scenario)


@pytest.mark.parametrize("adapter", ["ChatAdapter", "JSONAdapter"])
def test_prompts_stay(
    provider: LoopbackProvider, engine: dict[str, Any], twice: Twice, adapter: str, tmp_path: Path
) -> None:
    """What the LM says it can do is unchanged, so the adapter makes the same request, response format included."""
    lm = made(provider, engine)

    def scenario() -> Any:
        abilities = lm.supports_function_calling, lm.supports_response_schema, sorted(lm.supported_params)
        with dspy.context(lm=lm, adapter=getattr(dspy, adapter)()):
            try:
                answered = dspy.Predict("question -> answer")(question="Why?").answer
            except Exception as error:
                answered = type(error).__name__
        return abilities, answered

    twice(scenario)


def test_tool_calls(provider: LoopbackProvider, engine: dict[str, Any], twice: Twice) -> None:
    """Tool calls keep names and arguments; their ids are those of the cassette."""
    lm = made(provider, engine)
    parameters = {"type": "object", "properties": {"a": {"type": "integer"}}}
    tools = [{"type": "function", "function": {"name": "add", "description": "", "parameters": parameters}}]

    def scenario() -> Any:
        (output,) = lm(messages=QUESTION, tools=tools)
        return [(one["function"]["name"], one["function"]["arguments"]) for one in output["tool_calls"] if one["id"]]

    called = [{"id": "call_1", "name": "add", "arguments": {"a": 1}}]
    provider.reply(Reply(tool_calls=called))
    assert twice(scenario)[0][0] == "add"


def chunks(program: Any, *, is_async: bool) -> list[Any]:
    """What a streamed program gives, as plain values."""
    found: list[Any] = []

    async def read() -> None:
        found.extend([plain(value) async for value in program(question="Why?")])

    if is_async:
        asyncio.run(read())
    else:
        found.extend(plain(value) for value in program(question="Why?"))
    return found


def plain(value: Any) -> Any:
    if isinstance(value, dspy.Prediction):
        return "prediction", value.answer
    if hasattr(value, "chunk"):
        return "piece", value.chunk, value.signature_field_name, value.is_last_chunk
    delta = value.choices[0].delta
    return "chunk", delta.get("content"), value.choices[0].finish_reason, value.model, type(value).__name__


@pytest.mark.parametrize("listens", [True, False])
@pytest.mark.parametrize("streaming", ["async", "sync"])
@pytest.mark.parametrize("kind", ["sync program", "async program"])
def test_streamify(  # noqa: PLR0917 - fixtures
    provider: LoopbackProvider, engine: dict[str, Any], twice: Twice, kind: str, streaming: str, listens: bool
) -> None:
    """Listeners get the recorded chunks, and so does a program without listeners."""
    lm = made(provider, engine)
    is_async = streaming == "async"

    def scenario() -> Any:
        listeners = [dspy.streaming.StreamListener(signature_field_name="answer")] if listens else None
        with dspy.context(lm=lm):
            program = dspy.streamify(
                dspy.Predict("question -> answer"),
                stream_listeners=listeners,
                async_streaming=is_async,
                is_async_program=kind == "async program",
            )
            return chunks(program, is_async=is_async)

    found = twice(scenario)
    assert len(found) > 3
    assert found[-1][0] == "prediction"


def test_streams_of_whole_recordings(provider: LoopbackProvider, engine: dict[str, Any], tmp_path: Path) -> None:
    """What was recorded where nobody listened reaches a listener all the same."""
    lm, path = made(provider, engine), tmp_path / "c.cassette"
    provider.respond(answer)
    predict = dspy.Predict("question -> answer")
    with dspy.context(lm=lm):
        with replay(path, mode="rewrite"):
            recorded = predict(question="Why?").answer
        with SocketGuard(), replay(path):
            listeners = [dspy.streaming.StreamListener(signature_field_name="answer")]
            found = chunks(dspy.streamify(predict, stream_listeners=listeners), is_async=True)
    assert found[-1] == ("prediction", recorded)
    assert "".join(piece[1] for piece in found[:-1]).strip() == recorded


def test_threads(provider: LoopbackProvider, engine: dict[str, Any], twice: Twice) -> None:
    """Identical requests of different tasks of a thread pool get their own answers again."""
    lm = made(provider, engine)

    def scenario() -> Any:
        with dspy.context(lm=lm):
            predict = dspy.Predict("question -> answer")
            parallel = dspy.Parallel(num_threads=8, disable_progress_bar=True)
            answers = [one.answer for one in parallel([(predict, {"question": "Why?"})] * 24)]
        assert len(set(answers)) == 24
        return answers

    twice(scenario)


def test_gathered(provider: LoopbackProvider, engine: dict[str, Any], twice: Twice) -> None:
    """So do tasks of an event loop, and functions made async."""
    lm = made(provider, engine)

    def scenario() -> Any:
        predict = dspy.Predict("question -> answer")

        async def main() -> list[str]:
            others = dspy.asyncify(predict)
            tasks = [predict.acall(question="Why?") for _ in range(8)] + [others(question="Why?") for _ in range(4)]
            return [one.answer for one in await asyncio.gather(*tasks)]

        with dspy.context(lm=lm):
            return asyncio.run(main())

    twice(scenario)


def test_embedder(provider: LoopbackProvider, call: Any, twice: Twice) -> None:
    """Vectors are served, and DSPy's cache of them is set aside."""
    pytest.importorskip("numpy")
    embedder = dspy.Embedder(
        "openai/text-embedding-3-small", api_key="sk-loopback-0123456789", api_base=provider.openai_base
    )
    twice(lambda: [call(embedder, ["tea", "coffee"]).tolist() for _ in range(2)])


def test_a_typed_request(provider: LoopbackProvider, engine: dict[str, Any], call: Any, twice: Twice) -> None:
    """A typed request gets a typed answer with the same parts and counts."""
    lm = made(provider, engine)
    if RELEASE < (3, 3):
        pytest.skip("this version knows no typed requests")

    def scenario() -> Any:
        if RELEASE >= (3, 4):
            from dspy._vendor.lm15.serde import response_to_dict
            from dspy.lm15 import Message, Request

            request = Request(model=lm.model, messages=(Message.user("What is the capital of France?"),))
            return {**response_to_dict(call(lm, request)), "id": None}
        from dspy.core.types import LMRequest

        answered = call(lm, request=LMRequest.from_call(model=lm.model, items=("What is the capital of France?",)))
        return answered.text, answered.usage, answered.cost, answered.model

    twice(scenario)


def test_an_error(provider: LoopbackProvider, engine: dict[str, Any], call: Any, twice: Twice) -> None:
    """A recorded failure is DSPy's own exception again, and nobody waits for a retry."""
    lm = made(provider, engine)

    def scenario() -> Any:
        try:
            call(lm, messages=QUESTION)
        except Exception as error:
            return type(error), getattr(error, "status", None), str(error)

    provider.fail(status=429, times=3)
    kind, *_ = twice(scenario)
    assert "RateLimit" in kind.__name__


class Custom(dspy.BaseLM):
    """An LM of the user's own, which never says the same twice."""

    asked = 0

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        from litellm import ModelResponse

        Custom.asked += 1
        message = {"role": "assistant", "content": f"Paris, for the {Custom.asked}. time"}
        return ModelResponse(model="mine", choices=[{"message": message}])

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        return self.forward(prompt, messages, **kwargs)


def test_a_custom_lm(call: Any, tmp_path: Path) -> None:
    """An LM of the user's own is replayed as well, and is never taken for one that DSPy caches."""
    lm, path = Custom("mine"), tmp_path / "c.cassette"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # DSPy 3.4 says goodbye to `forward`
        with replay(path, mode="rewrite"):
            recorded = [call(lm, "hello") for _ in range(2)]
        asked = Custom.asked
        with replay(path):
            assert [call(lm, "hello") for _ in range(2)] == recorded
    assert recorded[0] != recorded[1]
    assert Custom.asked == asked


def test_a_custom_engine(call: Any, provider: LoopbackProvider, tmp_path: Path) -> None:
    """An engine of the user's own as well."""
    if RELEASE < (3, 4):
        pytest.skip("this version knows no engines")
    from dspy.lm15 import Message, Response, Usage

    asked: list[Any] = []

    def respond(request: Any) -> Response:
        asked.append(request)
        message = Message.assistant(f"Paris, for the {len(asked)}. time")
        return Response(id="r", model="mine", message=message, finish_reason="stop", usage=Usage())

    class Engine:
        def complete(self, request: Any) -> Response:
            return respond(request)

    class AsyncEngine:
        async def complete(self, request: Any) -> Response:
            return respond(request)

    lm, path = dspy.LM("mine", engine=Engine(), async_engine=AsyncEngine(), cache=False), tmp_path / "c.cassette"
    with replay(path, mode="rewrite"):
        recorded = [call(lm, "hello") for _ in range(2)]
    with replay(path):
        assert [call(lm, "hello") for _ in range(2)] == recorded
    assert len(asked) == 2


def test_forward(provider: LoopbackProvider, engine: dict[str, Any], twice: Twice) -> None:
    """``lm.forward`` called by a program does not reach the provider either."""
    lm = made(provider, engine)
    twice(lambda: str(lm.forward(messages=QUESTION).choices[0]["message"]["content"]))


def test_the_cache_is_set_aside(provider: LoopbackProvider, engine: dict[str, Any], call: Any, tmp_path: Path) -> None:
    """Nothing gets out of DSPy's cache into a session, and nothing of a session into the cache."""
    lm, path = made(provider, engine, cache=True), tmp_path / "c.cassette"
    provider.respond(answer)
    before = call(lm, messages=QUESTION)
    with replay(path, mode="rewrite"):
        recorded = call(lm, messages=QUESTION)
    assert recorded != before
    assert call(lm, messages=QUESTION) == before
    with replay(path):
        assert call(lm, messages=QUESTION) == recorded
    with replay(path):
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
        assert call(lm, messages=QUESTION) == recorded
    assert call(lm, messages=QUESTION) not in (recorded, before)


def test_usage(provider: LoopbackProvider, engine: dict[str, Any], twice: Twice) -> None:
    """A usage tracker counts the recorded tokens."""
    lm = made(provider, engine)

    def scenario() -> Any:
        with dspy.context(lm=lm, track_usage=True):
            return dspy.Predict("question -> answer")(question="Why?").get_lm_usage()

    assert twice(scenario)


def miss(lm: Any, program: Callable[[], Any]) -> ReplayMiss:
    """What a program fails with that has no recordings."""
    with dspy.context(lm=lm), pytest.raises(ReplayMiss) as caught, replay(()):
        program()
    return caught.value


def test_misses_escape(provider: LoopbackProvider, engine: dict[str, Any], call: Any) -> None:
    """Whoever asks for what was not recorded fails with the report: nobody swallows it and nobody asks again."""
    lm = made(provider, engine, num_retries=3)
    predict = dspy.Predict("question -> answer")
    examples = [dspy.Example(question=f"{n}?", answer="x").with_inputs("question") for n in range(8)]

    def evaluate() -> Any:
        metric = lambda example, prediction, trace=None: 1.0  # noqa: E731 - the metric of a test
        return dspy.Evaluate(devset=examples, metric=metric, num_threads=4, display_progress=False)(predict)

    def parallel() -> Any:
        return dspy.Parallel(num_threads=4, disable_progress_bar=True)([(predict, one.inputs()) for one in examples])

    programs: list[Callable[[], Any]] = [
        lambda: call(lm, "hello"),
        lambda: call(predict, question="Why?"),
        evaluate,
        parallel,
        lambda: chunks(dspy.streamify(predict), is_async=True),
        lambda: dspy.BootstrapFewShot(metric=lambda *_: True).compile(predict, trainset=examples),
        lambda: dspy.BestOfN(module=predict, N=3, reward_fn=lambda *_: 1.0, threshold=2.0)(question="Why?"),
    ]
    for program in programs:
        assert "no recorded answer" in str(miss(lm, program))
    assert not provider.requests


def test_afterwards(provider: LoopbackProvider, engine: dict[str, Any]) -> None:
    """After a session DSPy's methods are the very objects they were, instrumented or not."""
    from dspy.clients.cache import Cache

    owners = [(dspy.BaseLM, "__call__"), (dspy.BaseLM, "acall"), (dspy.LM, "forward"), (Cache, "get"), (Cache, "put")]
    before = [vars(owner)[name] for owner, name in owners]
    with replay(()):
        pass
    assert [vars(owner)[name] for owner, name in owners] == before
    lmtrace.instrument()
    inside = [vars(owner)[name] for owner, name in owners]
    with replay(()):
        pass
    assert [vars(owner)[name] for owner, name in owners] == inside
    lmtrace.uninstrument()
    assert [vars(owner)[name] for owner, name in owners] == before


def test_spans(provider: LoopbackProvider, engine: dict[str, Any], tmp_path: Path, instrumented: None) -> None:
    """A replayed program has the spans of the recorded one, and says who answered."""
    lm, path = made(provider, engine), tmp_path / "c.cassette"
    provider.respond(answer)
    seen = []
    for mode in ("rewrite", "replay"):
        with capture() as captured, replay(path, mode=mode, store=True), dspy.context(lm=lm):
            dspy.Predict("question -> answer")(question="Why?")
        seen.append([span["name"] for span in captured.spans])
        (row,) = captured.rows
        assert row["served_by"] == ("provider" if mode == "rewrite" else "replay")
    assert seen[0] == seen[1]


def test_dspy_is_imported_later(provider: LoopbackProvider, tmp_path: Path) -> None:
    """A session that was open before DSPy was imported answers its calls, and the program need not be instrumented."""
    program = f"""
import lmtrace
with lmtrace.replay({str(tmp_path / "c.cassette")!r}, mode=%r):
    import dspy
    lm = dspy.LM("openai/gpt-4o-mini", api_key="sk-0123456789", api_base={provider.openai_base!r}, cache=False)
    print(lm("hello"))
"""
    provider.respond(answer)
    outputs = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program % mode],
            capture_output=True,
            text=True,
            check=True,
            timeout=200,
        ).stdout
        for mode in ("rewrite", "replay", "replay")
    ]
    assert outputs[0] == outputs[1] == outputs[2]
    assert len(provider.requests) == 1


class Wikipedia(BaseHTTPRequestHandler):
    """The retrieval server of DSPy's front page, with one passage."""

    def do_GET(self) -> None:
        found = {"text": "Kinnairdy Castle", "prob": 0.5, "score": 2.0, "pid": 1, "rank": 1}
        body = json.dumps({"topk": [found]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_retrieval(provider: LoopbackProvider, engine: dict[str, Any], twice: Twice) -> None:
    """What ColBERTv2 fetched while it was recorded is in DSPy's cache, and given again without its server."""
    lm = made(provider, engine)
    with ThreadingHTTPServer(("127.0.0.1", 0), Wikipedia) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        search = dspy.ColBERTv2(url=f"http://127.0.0.1:{server.server_port}/wiki")
        rag = dspy.Predict("context, question -> answer")

        def scenario() -> Any:
            context = [found["text"] for found in search("castle", k=1)]
            with dspy.context(lm=lm):
                return context, rag(context=context, question="Which castle?").answer

        context, _ = twice(scenario)
        server.shutdown()
    assert context == ["Kinnairdy Castle"]
