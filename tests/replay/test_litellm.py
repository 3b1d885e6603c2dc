"""LiteLLM called directly: recorded once, then answered without a provider, with LiteLLM's own classes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import litellm
import pytest
from litellm.llms.custom_httpx.async_client_cleanup import close_litellm_async_clients

import lmtrace
from lmtrace.testing import Failure, LoopbackProvider, Reply
from lmtrace_replay import Recording, ReplayMiss, replay

CHAT = "openai/gpt-4o-mini"
TEXT = "text-completion-openai/gpt-3.5-turbo-instruct"
EMBEDDING = "openai/text-embedding-3-small"
MESSAGES = [{"role": "user", "content": "Mention tea."}]

CALLS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "chat": (
        lambda **kwargs: litellm.completion(CHAT, MESSAGES, **kwargs),
        lambda **kwargs: litellm.acompletion(CHAT, MESSAGES, **kwargs),
    ),
    "text": (
        lambda **kwargs: litellm.text_completion("Mention tea.", TEXT, **kwargs),
        lambda **kwargs: litellm.atext_completion(model=TEXT, prompt="Mention tea.", **kwargs),
    ),
    "responses": (
        lambda **kwargs: litellm.responses(model=CHAT, input="Mention tea.", **kwargs),
        lambda **kwargs: litellm.aresponses("Mention tea.", CHAT, **kwargs),
    ),
    "embedding": (
        lambda **kwargs: litellm.embedding(EMBEDDING, ["Mention tea."], **kwargs),
        lambda **kwargs: litellm.aembedding(EMBEDDING, ["Mention tea."], **kwargs),
    ),
}
STREAMED = ("chat", "text", "responses")


@pytest.fixture(autouse=True)
async def tidy_litellm(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """No advice on standard output; HTTP clients of LiteLLM's closed while the event loop they belong to still runs."""
    monkeypatch.setattr(litellm, "suppress_debug_info", True)
    monkeypatch.setattr(litellm, "disable_aiohttp_transport", True)
    yield
    await close_litellm_async_clients()
    litellm.in_memory_llm_clients_cache.flush_cache()
    lmtrace.uninstrument()


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider() as running:
        yield running


def where(provider: LoopbackProvider) -> dict[str, Any]:
    return {"api_base": provider.openai_base, "api_key": "sk-test"}


NOWHERE: dict[str, Any] = {"api_base": "http://127.0.0.1:9", "api_key": "sk-none"}
"""An address at which nobody is."""


def dumped(answer: Any) -> Any:
    return answer.model_dump()


@pytest.mark.parametrize("kind", CALLS)
async def test_answers(kind: str, provider: LoopbackProvider) -> None:
    """Sync and async calls get an object of LiteLLM's own class that dumps as the recorded one did."""
    sync, awaited = CALLS[kind]
    with replay(mode="rewrite") as session:
        live = [sync(**where(provider)), await awaited(**where(provider))]
    assert len(session.new) == 2
    requests = len(provider.requests)
    with replay(session.new) as served:
        again = [sync(**NOWHERE), await awaited(**NOWHERE)]
    assert [type(answer) for answer in again] == [type(answer) for answer in live]
    assert [dumped(answer) for answer in again] == [dumped(answer) for answer in live]
    assert [call.served_by for call in served.calls] == ["replay", "replay"]
    assert served.cost == session.cost
    assert served.billed_cost == 0.0
    assert len(provider.requests) == requests


def drained(stream: Any) -> list[Any]:
    return list(stream)


async def adrained(stream: Any) -> list[Any]:
    return [chunk async for chunk in stream]


def said(chunks: list[Any]) -> list[Any]:
    """What a program reads off chunks."""
    found = []
    for chunk in chunks:
        if hasattr(chunk, "choices"):
            found += [
                (
                    type(chunk).__name__,
                    chunk.id,
                    chunk.model,
                    choice.finish_reason,
                    choice.get("text") if isinstance(chunk, litellm.TextCompletionResponse) else choice.delta.content,
                )
                for choice in chunk.choices
            ]
        else:
            found.append((type(chunk).__name__, str(chunk.type), getattr(chunk, "delta", None)))
    return found


@pytest.mark.parametrize("kind", STREAMED)
async def test_streams(kind: str, provider: LoopbackProvider) -> None:
    """A replayed stream is of the class LiteLLM returns, and gives the recorded chunks one by one."""
    sync, awaited = CALLS[kind]
    with replay(mode="rewrite") as session:
        first, second = sync(stream=True, **where(provider)), await awaited(stream=True, **where(provider))
        kinds = [type(first).__mro__[1], type(second).__mro__[1]]
        live = [drained(first), await adrained(second)]
    with replay(session.recordings) as served:
        first, second = sync(stream=True, **NOWHERE), await awaited(stream=True, **NOWHERE)
        assert isinstance(first, kinds[0])
        assert isinstance(second, kinds[1])
        again = [drained(first), await adrained(second)]
    assert [said(chunks) for chunks in again] == [said(chunks) for chunks in live]
    assert [call.served_by for call in served.calls] == ["replay", "replay"]
    assert served.calls[0].response is not None
    assert served.calls[0].response.usage == session.new[0].response.usage  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", STREAMED)
def test_stream_of_whole(kind: str, provider: LoopbackProvider) -> None:
    """What was recorded whole can be streamed, and what was streamed can be had whole."""
    sync, _ = CALLS[kind]
    with replay(mode="rewrite") as session:
        whole = sync(**where(provider))
    with replay(session.recordings):
        chunks = drained(sync(stream=True, **NOWHERE))
    text = "".join(said_text for *_, said_text in said(chunks) if said_text) if kind != "responses" else None
    if kind == "chat":
        assert text == whole.choices[0].message.content
    elif kind == "text":
        assert text == whole.choices[0].text
    else:
        assert chunks[-1].response.output[0].content[0].text == whole.output[0].content[0].text
    with replay(mode="rewrite") as streamed:
        drained(sync(stream=True, **where(provider)))
    with replay(streamed.recordings):
        answer = sync(**NOWHERE)
    assert type(answer) is type(whole)


def test_tool_calls_in_streams(provider: LoopbackProvider) -> None:
    """Deltas of tool calls come again as they were."""
    provider.reply(Reply(tool_calls=[{"name": "brew", "arguments": {"tea": "green"}}]))
    with replay(mode="rewrite") as session:
        live = drained(litellm.completion(CHAT, MESSAGES, stream=True, **where(provider)))
    with replay(session.recordings):
        again = drained(litellm.completion(CHAT, MESSAGES, stream=True, **NOWHERE))
    calls = [
        [delta.model_dump() for chunk in chunks for choice in chunk.choices for delta in choice.delta.tool_calls or ()]
        for chunks in (live, again)
    ]
    assert calls[0] == calls[1] != []


def test_misses_are_not_retried(provider: LoopbackProvider) -> None:
    """A miss passes LiteLLM's retries and fallbacks by and reaches the program."""
    with pytest.raises(ReplayMiss, match="tea"), replay([]) as session:
        litellm.completion(CHAT, MESSAGES, num_retries=3, **where(provider))
    assert len(session.misses) == 1
    assert not provider.requests


@pytest.mark.parametrize("is_async", [False, True])
async def test_router(is_async: bool, provider: LoopbackProvider) -> None:
    """A Router's calls are recorded and answered as calls of its model group; its own retries are never reached."""
    router = litellm.Router(
        model_list=[{"model_name": "group", "litellm_params": {"model": CHAT, **where(provider)}}], num_retries=2
    )

    async def ask() -> Any:
        return await router.acompletion("group", MESSAGES) if is_async else router.completion("group", MESSAGES)

    with replay(mode="rewrite") as session:
        live = await ask()
    requests = len(provider.requests)
    with replay(session.recordings):
        assert dumped(await ask()) == dumped(live)
    assert len(provider.requests) == requests


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, litellm.RateLimitError),
        (401, litellm.AuthenticationError),
        (400, litellm.BadRequestError),
        (404, litellm.NotFoundError),
        (500, litellm.InternalServerError),
    ],
)
def test_errors(status: int, kind: type[Exception], provider: LoopbackProvider) -> None:
    """A recorded error comes again as the same class of LiteLLM's with status and message; lmtrace.LM gets its own."""
    provider.fail(status=status, retry_after=7.0 if status == 429 else None)
    with replay(mode="rewrite") as session, pytest.raises(kind) as live:
        litellm.completion(CHAT, MESSAGES, max_retries=0, **where(provider))
    with replay(session.recordings), pytest.raises(kind) as again:
        litellm.completion(CHAT, MESSAGES, num_retries=5, **NOWHERE)
    assert type(again.value) is type(live.value)
    assert str(again.value) == str(live.value)
    assert again.value.status_code == status  # type: ignore[attr-defined]
    with replay(session.recordings), pytest.raises(lmtrace.LMError) as ours:
        lmtrace.LM(CHAT)(messages=MESSAGES)
    assert ours.value.status == status
    assert ours.value.retry_after == (7.0 if status == 429 else None)


def test_broken_stream(provider: LoopbackProvider) -> None:
    """A stream that broke gives the chunks it gave, and then LiteLLM's error again."""
    provider.disconnect(after=3, reply=Reply(text="It was a dark and stormy night."))

    def read(arguments: dict[str, Any]) -> tuple[list[Any], str]:
        chunks: list[Any] = []
        with pytest.raises(Exception, match=r".") as caught:
            chunks.extend(said([chunk])[0] for chunk in litellm.completion(CHAT, MESSAGES, stream=True, **arguments))
        return chunks, type(caught.value).__name__

    with replay(mode="rewrite") as session:
        live = read(where(provider))
    with replay(session.recordings):
        assert read(NOWHERE) == live


def test_live_object_is_untouched(provider: LoopbackProvider) -> None:
    """Where the provider is asked, the program gets LiteLLM's very object."""
    from lmtrace.integrations.litellm._served import Original

    made = []
    given = Original._given

    def noted(self: Original, result: Any) -> Any:
        made.append(result)
        return given(self, result)

    with pytest.MonkeyPatch.context() as patch, replay(mode="record-missing"):
        patch.setattr(Original, "_given", noted)
        answer = litellm.completion(CHAT, MESSAGES, **where(provider))
    assert made == [answer]
    assert made[0] is answer


def test_verify(provider: LoopbackProvider) -> None:
    """In verify mode the recorded answer is given and the provider asked as well."""
    with replay(mode="rewrite") as session:
        live = litellm.completion(CHAT, MESSAGES, **where(provider))
    before = len(provider.requests)
    with replay(session.recordings, mode="verify") as checked:
        answer = litellm.completion(CHAT, MESSAGES, **where(provider))
    assert dumped(answer) == dumped(live)
    assert [verdict.outcome for verdict in checked.verdicts] == ["identical"]
    assert len(provider.requests) == before + 1


def test_wrappers_rest_between_sessions(provider: LoopbackProvider) -> None:
    """Outside of a session nothing is recorded of a program that never asked for it."""
    with replay(mode="live"):
        pass
    litellm.completion(CHAT, MESSAGES, **where(provider))
    lmtrace.flush()
    with lmtrace.history() as history:
        assert history.sql("select count(*) from calls").fetchall() == [(0,)]


def test_shared_with_lm(provider: LoopbackProvider) -> None:
    """What was recorded through LiteLLM answers an LM that asks the same, and the other way round."""
    with replay(mode="rewrite") as session:
        litellm.completion(CHAT, MESSAGES, **where(provider))
        lmtrace.LM(CHAT, **where(provider))("Mention coffee.")
    with replay(session.recordings):
        assert lmtrace.LM(CHAT)(messages=MESSAGES) == ["You said: Mention tea."]
        answer = litellm.completion(CHAT, [{"role": "user", "content": "Mention coffee."}])
    assert answer.choices[0].message.content == "You said: Mention coffee."


def everything(where: dict[str, Any]) -> list[Any]:
    """What a program reads off one call of each kind, whole and streamed."""
    heard: list[Any] = [litellm.embedding(EMBEDDING, ["Mention tea."], **where).data[0]["embedding"]]
    for kind in STREAMED:
        heard += [type(CALLS[kind][0](**where)).__name__, said(drained(CALLS[kind][0](stream=True, **where)))]
    with pytest.raises(litellm.RateLimitError):
        litellm.completion(CHAT, [*MESSAGES, *MESSAGES], max_retries=0, **where)
    return heard


def test_recorded_again(tmp_path: Path) -> None:
    """Calls of every kind are answered from a cassette, and recording the same answers again gives the same bytes."""
    paths = [tmp_path / "first.cassette", tmp_path / "second.cassette"]
    for number, path in enumerate(paths):
        with LoopbackProvider() as provider:
            for _ in range(number):  # other ids than the first time
                litellm.completion(CHAT, MESSAGES, **where(provider))
            with lmtrace.replay(path, mode="rewrite"):
                provider.respond(lambda request: Failure(status=429) if len(request.messages) > 1 else request.prompt)
                everything(where(provider))
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with lmtrace.replay(paths[0]) as session:
        first = everything(NOWHERE)
    assert not session.unused
    with lmtrace.replay(paths[1]):
        assert everything(NOWHERE) == first


async def test_router_streams(provider: LoopbackProvider) -> None:
    """A Router's streams are recorded and given again."""
    router = litellm.Router(model_list=[{"model_name": "group", "litellm_params": {"model": CHAT, **where(provider)}}])

    async def ask() -> str:
        chunks = [
            chunk.choices[0].delta.content async for chunk in await router.acompletion("group", MESSAGES, stream=True)
        ]
        return "".join(filter(None, chunks))

    with replay(mode="rewrite") as session:
        live = await ask()
    requests = len(provider.requests)
    with replay(session.recordings):
        assert await ask() == live == "You said: Mention tea."
    assert len(provider.requests) == requests


ALONE = """
import sys
import lmtrace
from lmtrace_replay import Recording, ReplayMiss

cassette = sys.argv[1]
with lmtrace.replay(cassette) as session:
    lm = lmtrace.LM("openai/gpt-4o-mini")
    print(lm("Mention tea."), "".join(lm.stream("Mention tea.")))
    try:
        lm("Mention failure.")
    except lmtrace.LMRateLimitError as error:
        print(error.status)
assert session.cost
assert not {"litellm", "openai", "httpx", "dspy"} & set(sys.modules), "a provider library was imported"
"""


def test_without_litellm(provider: LoopbackProvider, tmp_path: Path) -> None:
    """An LM replays its cassette in an interpreter that never imports LiteLLM, errors and streams included."""
    path = tmp_path / "tea.cassette"
    lm = lmtrace.LM(CHAT, num_retries=0, **where(provider))
    with lmtrace.replay(path, mode="rewrite"):
        lm("Mention tea.")
        provider.fail(status=429)
        with pytest.raises(lmtrace.LMRateLimitError):
            lm("Mention failure.")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(path)], check=False, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['You said: Mention tea.'] You said: Mention tea.\n429\n"


def test_recordings_are_plain() -> None:
    """A recording may name any class as its error; nothing but LiteLLM's own is ever made of it."""
    from lmtrace_replay import RecordedError

    request = lmtrace.LMRequest(model=CHAT, messages=MESSAGES)
    for name in ("os.system", "subprocess.Popen", "litellm.exceptions.__builtins__", "builtins.SystemExit"):
        error = RecordedError(type=name, message="x", code="server")
        with replay([Recording(request=request, error=error)]), pytest.raises(litellm.InternalServerError):
            litellm.completion(CHAT, MESSAGES, **NOWHERE)
