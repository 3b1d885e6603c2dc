"""The provider as a server: many threads, waiting, closing, and what it says to requests nobody expects."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from lmtrace.testing import LoopbackProvider, ReceivedRequest, Reply

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def post(provider: LoopbackProvider, **more: Any) -> httpx.Response:
    """One chat completion over a connection of its own."""
    return httpx.post(f"{provider.openai_base}/chat/completions", json=CHAT | more, timeout=60, verify=False)


def threads() -> list[str]:
    """The provider's threads that run."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("lmtrace-loopback")]


def test_sixty_four_threads(provider: LoopbackProvider) -> None:
    """Requests at the same time are answered each with its own answer, and all are on the list."""
    provider.respond(lambda request: f"answer to {request.prompt}")
    barrier = threading.Barrier(64)

    def ask(number: int) -> tuple[str, str]:
        barrier.wait()
        with httpx.Client(timeout=60, verify=False) as client:
            for _ in range(3):
                body = {"model": "m", "messages": [{"role": "user", "content": f"question {number}"}]}
                response = client.post(f"{provider.openai_base}/chat/completions", json=body).json()
        return response["choices"][0]["message"]["content"], response["id"]

    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(ask, range(64)))
    assert [text for text, _ in answers] == [f"answer to question {number}" for number in range(64)]
    assert len({identifier for _, identifier in answers}) == 64
    assert len(provider.requests) == 64 * 3


def test_scripted_replies_are_used_once(provider: LoopbackProvider) -> None:
    """However many threads ask, each scripted reply answers exactly one request."""
    for number in range(32):
        provider.reply(f"scripted {number}")
    with ThreadPoolExecutor(16) as pool:
        responses = list(pool.map(lambda _: post(provider).json(), range(32)))
    texts = [response["choices"][0]["message"]["content"] for response in responses]
    assert sorted(texts) == sorted(f"scripted {number}" for number in range(32))


def test_connections_are_kept(provider: LoopbackProvider) -> None:
    """A client's connection serves its next request, after a stream too."""
    with httpx.Client() as client:
        url = f"{provider.openai_base}/chat/completions"
        streams = [
            client.post(url, json=CHAT | {"stream": stream}).extensions["network_stream"].get_extra_info("client_addr")
            for stream in (False, True, False)
        ]
    assert len(set(streams)) == 1


def test_close_ends_everything() -> None:
    """Closing ends all threads, though a client keeps its connection open, and the port is refused."""
    with LoopbackProvider() as provider, httpx.Client() as client:
        client.post(f"{provider.openai_base}/chat/completions", json=CHAT, timeout=60)
        assert threads()
        provider.close()
        assert not threads()
        with pytest.raises(httpx.TransportError):
            client.post(f"{provider.openai_base}/chat/completions", json=CHAT)
        provider.close()


def test_close_does_not_wait_for_latency() -> None:
    """An answer that would take an hour does not hold up closing."""
    with LoopbackProvider(latency=3600) as provider, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(post, provider)
        provider.wait_for(1)
        provider.close()
        with pytest.raises(httpx.TransportError):
            waiting.result(timeout=60)
    assert not threads()


@pytest.mark.parametrize("after", [None, 2])
def test_close_releases_what_hangs(after: int | None) -> None:
    """A request that hangs, before or inside its stream, is cut off by closing."""
    with LoopbackProvider() as provider, ThreadPoolExecutor(1) as pool:
        until = provider.hang(after=after)
        waiting = pool.submit(post, provider, stream=True)
        provider.wait_for(1)
        provider.close()
        assert until.is_set()
        with pytest.raises(httpx.TransportError):
            waiting.result(timeout=60)
    assert not threads()


@pytest.mark.parametrize("stream", [False, True])
def test_hang_until_released(provider: LoopbackProvider, stream: bool) -> None:
    """A released request is answered as if nothing had been."""
    until = provider.hang(after=2 if stream else None, reply=Reply(text="at last"))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(post, provider, stream=stream)
        provider.wait_for(1)
        assert not waiting.done()
        until.set()
        response = waiting.result(timeout=60)
    assert response.status_code == 200
    assert "at last" in response.text.replace('"},"logprobs"', "") or stream
    assert response.text.endswith("[DONE]\n\n") is stream


def test_latency(provider: LoopbackProvider) -> None:
    """A reply's latency passes before its first byte."""
    provider.reply("slow", latency=0.05)
    began = time.perf_counter()
    post(provider)
    assert time.perf_counter() - began >= 0.05


def test_wait_for_gives_up(provider: LoopbackProvider) -> None:
    """Waiting for requests that do not come ends with an error that says how many did."""
    with pytest.raises(TimeoutError, match=r"0 of 1 requests arrived within 0\.01 s"):
        provider.wait_for(1, timeout=0.01)


def test_client_that_goes_away(provider: LoopbackProvider, capfd: pytest.CaptureFixture[str]) -> None:
    """A client that hangs up in the middle of a stream leaves no trace and harms nobody."""
    provider.reply("word " * 50_000)
    with httpx.stream("POST", f"{provider.openai_base}/chat/completions", json=CHAT | {"stream": True}) as response:
        next(response.iter_raw())
    assert post(provider).status_code == 200
    assert capfd.readouterr() == ("", "")


def test_delta_size() -> None:
    """Streams are cut into pieces of the wanted size."""
    with LoopbackProvider(delta_size=3) as provider:
        provider.reply("abcdefgh")
        text = post(provider, stream=True).text
    assert [piece in text for piece in ('"content":"abc"', '"content":"def"', '"content":"gh"')] == [True] * 3
    with pytest.raises(ValueError, match="delta_size must be 1 or more"):
        LoopbackProvider(delta_size=0)


def test_odd_texts(provider: LoopbackProvider) -> None:
    """Texts that are not proper Unicode, or beyond the basic plane, arrive as they were scripted."""
    for text in ("naïve 🐍 日本", "\ud800", "\x00\u2028"):
        provider.reply(text)
        assert post(provider).json()["choices"][0]["message"]["content"] == text


def test_response_headers(provider: LoopbackProvider) -> None:
    """Scripted headers are sent."""
    provider.reply("x", headers={"x-ratelimit-remaining-requests": "7"})
    assert post(provider).headers["x-ratelimit-remaining-requests"] == "7"


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/chat/completions", b"{half", 400, "could not parse the JSON body"),
        ("/v1/chat/completions", b"", 400, "could not parse the JSON body"),
        ("/nowhere", b"{}", 404, "serves nothing at /nowhere"),
    ],
)
def test_unexpected_requests(provider: LoopbackProvider, path: str, body: bytes, status: int, message: str) -> None:
    """A request that cannot be answered gets an error that says why, and is on the list."""
    response = httpx.post(provider.url + path, content=body)
    assert response.status_code == status
    assert message in response.json()["error"]["message"]
    assert (provider.requests[0].path, provider.requests[0].dialect) == (path, "unknown")


def test_odd_request_or_reply(provider: LoopbackProvider) -> None:
    """A request of wrong types, or a reply scripted with them, is told to the client with what is wrong."""
    odd = post(provider, n="three")
    assert odd.status_code == 500
    assert "cannot answer this: TypeError" in odd.json()["error"]["message"]
    provider.reply(tool_calls=[{"nmae": "f"}])
    assert "nmae" in post(provider).json()["error"]["message"]


def test_lists_of_models(provider: LoopbackProvider) -> None:
    """Each dialect's list of models, and Ollama's description of one, can be had."""
    assert httpx.get(f"{provider.gemini_base}/models").json()["models"][0]["name"] == "models/loopback"
    assert httpx.get(f"{provider.ollama_base}/api/tags").json()["models"][0]["name"] == "loopback:latest"
    shown = httpx.post(f"{provider.ollama_base}/api/show", json={"name": "x"}).json()
    assert shown["model_info"]["llama.context_length"] == 8192


def test_unknown_fields_are_refused(provider: LoopbackProvider) -> None:
    """A misspelt field is an error where it is written."""
    with pytest.raises(TypeError, match="finish_raeson"):
        provider.reply("x", finish_raeson="stop")
    with pytest.raises(TypeError, match="not both"):
        provider.reply(Reply(text="x"), model="m")
    with pytest.raises(TypeError, match="statsu"):
        provider.fail(statsu=500)


def test_life(provider: LoopbackProvider) -> None:
    """A provider is started once; one that never was can be closed; a taken port is an error."""
    with pytest.raises(RuntimeError, match="is running; make a new one"):
        provider.start()
    LoopbackProvider().close()
    with pytest.raises(OSError, match=r"[Aa]ddress"):
        LoopbackProvider(port=httpx.URL(provider.url).port or 0)


def test_respond_sees_the_request(provider: LoopbackProvider) -> None:
    """A callable gets the whole request."""
    seen: list[ReceivedRequest] = []
    provider.respond(lambda request: seen.append(request) or "noted")  # type: ignore[func-returns-value]
    post(provider, temperature=0.3)
    assert seen[0].json["temperature"] == 0.3
    assert seen == list(provider.requests)


def test_program() -> None:
    """`python -m lmtrace.testing` prints its address, answers, and ends without a word when interrupted."""
    command = [sys.executable, "-m", "lmtrace.testing"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        url = program.stdout.readline().strip()
        response = httpx.post(f"{url}/v1/chat/completions", json=CHAT, timeout=60)
        assert response.json()["choices"][0]["message"]["content"].startswith("Hello!")
        program.send_signal(2)
        rest, errors = program.communicate(timeout=60)
    assert (rest, errors, program.returncode) == ("", "", 0)
    with pytest.raises(OSError):  # noqa: PT011 - the text differs between systems
        socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), timeout=60).close()
