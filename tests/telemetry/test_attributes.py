"""Attributes of LM spans: names, types, and what is left out."""

from __future__ import annotations

import timeit
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lmtrace import _semconv as names
from lmtrace._attributes import end_attributes, span_name, start_attributes
from lmtrace._conversation import conversation
from lmtrace._data import LMRequest, LMResponse
from lmtrace._entry import CallError, HistoryEntry, RunInfo

Entry = Callable[..., HistoryEntry]

_CHECKS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "int": lambda value: type(value) is int,
    "double": lambda value: type(value) is float,
    "boolean": lambda value: type(value) is bool,
    "string[]": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    "any": lambda value: isinstance(value, str),
}


def started(**kwargs: Any) -> dict[str, Any]:
    """The parameters' attributes of a request."""
    request = LMRequest(model="openai/gpt-4o", kwargs=kwargs)
    known = (names.OPERATION_NAME, names.PROVIDER_NAME, names.REQUEST_MODEL, names.OPENAI_API_TYPE)
    return {name: value for name, value in start_attributes(request).items() if name not in known}


def test_plain_call(make_entry: Entry):
    """A plain chat call gives exactly these attributes."""
    entry = make_entry()
    run = RunInfo(run_id="run-1", name="nightly", tags={"exp": "a"})
    assert start_attributes(entry.request, scope="RAG.answer", run=run) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.temperature": 0.7,
        "gen_ai.request.max_tokens": 100,
        "server.address": "api.openai.com",
        "server.port": 443,
        "openai.api.type": "chat_completions",
        "lmtrace.scope": "RAG.answer",
        "lmtrace.run.id": "run-1",
        "lmtrace.run.name": "nightly",
        "lmtrace.tag.exp": "a",
    }
    assert end_attributes(entry) == {
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 20,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 10,
        "gen_ai.usage.cache_creation.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "gen_ai.usage.cost.amount": 1.5e-5,
        "gen_ai.usage.cost.currency": "USD",
        "gen_ai.usage.cost.source": "local",
        "openai.response.service_tier": "default",
        "openai.response.system_fingerprint": "fp_1",
        "lmtrace.call.id": "0199-call",
        "lmtrace.request_key": "lm1:abc",
        "lmtrace.served_by": "provider",
        "lmtrace.attempts": 1,
    }


@pytest.mark.parametrize(
    ("model_type", "name"),
    [("chat", "chat m"), ("responses", "chat m"), ("text", "text_completion m"), ("embedding", "embeddings m")],
)
def test_span_name(model_type: Any, name: str):
    """A span is named by operation and model, without the provider's prefix."""
    assert span_name(LMRequest(model="openai/m", model_type=model_type)) == name


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"temperature": 1}, {"gen_ai.request.temperature": 1.0}),
        ({"temperature": "warm"}, {}),
        ({"temperature": None}, {}),
        ({"top_k": 40.0}, {"gen_ai.request.top_k": 40}),
        ({"top_k": 0.5}, {}),
        ({"seed": True}, {}),
        ({"seed": 2**70}, {}),
        ({"seed": float("inf")}, {}),
        ({"max_completion_tokens": 9}, {"gen_ai.request.max_tokens": 9}),
        ({"max_output_tokens": 9}, {"gen_ai.request.max_tokens": 9}),
        ({"n": 1}, {}),
        ({"n": 3}, {"gen_ai.request.choice.count": 3}),
        ({"stop": "END"}, {"gen_ai.request.stop_sequences": ["END"]}),
        ({"stop": ("a", "b")}, {"gen_ai.request.stop_sequences": ["a", "b"]}),
        ({"stop": ["\ud800", 3]}, {"gen_ai.request.stop_sequences": ["?"]}),
        ({"stop": 3}, {}),
        ({"reasoning_effort": "low"}, {"gen_ai.request.reasoning.level": "low"}),
        ({"reasoning": {"effort": "high"}}, {"gen_ai.request.reasoning.level": "high"}),
        ({"previous_response_id": "r1"}, {"gen_ai.request.previous_response.id": "r1"}),
        ({"response_format": {"type": "json_schema"}}, {"gen_ai.output.type": "json"}),
        ({"response_format": dict}, {"gen_ai.output.type": "json"}),
        ({"response_format": {"type": ["odd"]}}, {}),
        ({"text": {"format": {"type": "text"}}}, {"gen_ai.output.type": "text"}),
        ({"modalities": ["text", "audio"]}, {"gen_ai.output.type": "speech"}),
        ({"dimensions": 256}, {"gen_ai.embeddings.dimension.count": 256}),
        ({"encoding_format": "base64"}, {"gen_ai.request.encoding_formats": ["base64"]}),
        ({"rollout_id": 7}, {"lmtrace.rollout_id": "7"}),
        ({"service_tier": "flex"}, {"openai.request.service_tier": "flex"}),
        ({"service_tier": "auto"}, {}),
        ({"unheard_of": 1}, {}),
    ],
)
def test_parameters(kwargs: dict[str, Any], expected: dict[str, Any]):
    """Parameters become attributes of the conventions' type; values without meaning as one are left out."""
    assert started(**kwargs) == expected


def test_stream_is_true_or_absent(request_: LMRequest):
    """The conventions set the stream attribute only on streams."""
    assert names.REQUEST_STREAM not in start_attributes(request_)
    assert start_attributes(replace(request_, stream=True))[names.REQUEST_STREAM] is True


def test_openai_attributes_are_for_openai(make_entry: Entry):
    """Another provider's call has no `openai.*` attribute."""
    entry = make_entry(request=LMRequest(model="anthropic/claude-3", kwargs={"service_tier": "flex"}))
    assert not [name for name in start_attributes(entry.request) | end_attributes(entry) if name.startswith("openai.")]


@pytest.mark.parametrize("served_by", ["cache", "replay"])
def test_nothing_was_spent(make_entry: Entry, served_by: str):
    """An answer that was not bought has no usage and no cost; the originals are kept apart."""
    attributes = end_attributes(make_entry(served_by=served_by))
    assert not [name for name in attributes if name.startswith("gen_ai.usage")]
    assert attributes["lmtrace.recorded.usage.input_tokens"] == 20
    assert attributes["lmtrace.recorded.usage.cost.amount"] == 1.5e-5
    assert attributes["lmtrace.served_by"] == served_by


def test_cost_can_be_left_out(make_entry: Entry):
    """One switch removes the attributes that are not in the conventions yet."""
    assert not names.PROVISIONAL & end_attributes(make_entry(), cost=False).keys()


def test_unknown_is_absent(make_entry: Entry, response: LMResponse):
    """What the provider did not say is not reported, least of all as zero."""
    bare = replace(response, usage=None, cost=None, response_id=None, model=None, provider_data=None)
    assert set(end_attributes(make_entry(response=bare))) == {
        names.CALL_ID,
        names.SERVED_BY,
        names.ATTEMPTS,
        names.REQUEST_KEY,
        names.RESPONSE_FINISH_REASONS,
    }


def test_failed_call(make_entry: Entry):
    """A failed call carries the error's type and not its message, which may quote the prompt."""
    error = CallError(type="litellm.exceptions.RateLimitError", message="Who wrote Faust?", status=429)
    attributes = end_attributes(make_entry(response=None, error=error))
    assert attributes[names.ERROR_TYPE] == "litellm.exceptions.RateLimitError"
    assert "Faust" not in str(attributes)


def test_first_chunk_is_in_seconds(make_entry: Entry):
    """The conventions measure the time to the first chunk in seconds."""
    assert end_attributes(make_entry(time_to_first_chunk_ms=80.0))[names.RESPONSE_FIRST_CHUNK] == 0.08


def test_embeddings_have_no_finish_reason(make_entry: Entry):
    """Nothing is generated, so nothing finishes."""
    entry = make_entry(request=LMRequest(model="openai/text-embedding-3-small", model_type="embedding"))
    assert names.RESPONSE_FINISH_REASONS not in end_attributes(entry)


@pytest.mark.parametrize("content", ["no_content", "event_only"])
def test_no_content_unless_asked(make_entry: Entry, content: str):
    """Without content on spans, no word of prompt or answer is in any attribute."""
    entry = make_entry()
    text = str(start_attributes(entry.request) | end_attributes(entry, content=content))
    assert not [word for word in ("Faust", "Goethe", "brief") if word in text]


@pytest.mark.parametrize("content", ["span_only", "span_and_event"])
def test_content_when_asked(make_entry: Entry, content: str):
    """With content on spans, messages are JSON texts, the form every backend shows."""
    attributes = end_attributes(make_entry(), content=content)
    assert "Faust" in attributes[names.INPUT_MESSAGES]
    assert "Goethe" in attributes[names.OUTPUT_MESSAGES]


def test_conversation_is_inherited(request_: LMRequest):
    """Calls in a conversation carry its id and agent; blocks nest, and nothing is made up outside."""
    with conversation("c1", agent_name="Planner"):
        with conversation(agent_name="Writer"):
            inner = start_attributes(request_)
        outer = start_attributes(request_)
    assert (inner[names.CONVERSATION_ID], inner[names.AGENT_NAME]) == ("c1", "Writer")
    assert (outer[names.CONVERSATION_ID], outer[names.AGENT_NAME]) == ("c1", "Planner")
    assert names.CONVERSATION_ID not in start_attributes(request_)


def test_compat_sets(make_entry: Entry):
    """Compat sets repeat values under the names other tools read, and remove none."""
    entry = make_entry()
    every = frozenset(names.COMPAT)
    attributes = start_attributes(entry.request, compat=every) | end_attributes(
        entry, content="span_only", compat=every
    )
    plain = start_attributes(entry.request) | end_attributes(entry, content="span_only")
    assert attributes.items() >= plain.items()
    assert attributes["gen_ai.system"] == "openai"
    assert attributes["openinference.span.kind"] == "LLM"
    assert attributes["llm.model_name"] == "gpt-4o-mini"
    assert attributes["llm.token_count.prompt"] == 20
    assert attributes["llm.cost.total"] == 1.5e-5
    assert "Faust" in attributes["input.value"]


def test_values_have_the_declared_types(make_entry: Entry):
    """Every attribute value has the type the table of names declares, and the SDK takes it as it is."""
    entry = make_entry(time_to_first_chunk_ms=3)
    kwargs = {"temperature": 1, "top_p": 1, "top_k": 4, "seed": 1, "n": 2, "stop": "x", "rollout_id": 3}
    request = replace(entry.request, kwargs=kwargs, stream=True)
    attributes = start_attributes(request) | end_attributes(entry, content="span_only")
    wrong = {name: value for name, value in attributes.items() if not _CHECKS[names.VALUE_TYPES[name]](value)}
    assert not wrong
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("t").start_span("s", attributes=attributes).end()
    (span,) = exporter.get_finished_spans()
    assert set(span.attributes or ()) == set(attributes)


def test_building_attributes_is_cheap(make_entry: Entry):
    """Both dictionaries of a plain call together take a few microseconds (3 measured; 30 allowed on a busy machine)."""
    entry = make_entry()
    seconds = min(
        timeit.repeat(lambda: (start_attributes(entry.request), end_attributes(entry)), number=1000, repeat=5)
    )
    assert seconds / 1000 < 30e-6
