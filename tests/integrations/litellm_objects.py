"""Hypothesis strategies for LiteLLM's answer objects, with everything providers put into them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from litellm.types.llms.openai import ResponsesAPIResponse
from litellm.types.utils import (
    ChatCompletionAudioResponse,
    ChoiceLogprobs,
    Choices,
    Embedding,
    EmbeddingResponse,
    Message,
    ModelResponse,
    TextChoices,
    TextCompletionResponse,
    Usage,
)

texts = st.text(max_size=20)
names = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
counts = st.integers(0, 10_000)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
extras = st.dictionaries(names.map(lambda name: f"x_{name}"), json_values, max_size=2)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def present(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Any subset of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


function_calls = st.fixed_dictionaries(
    {
        "id": texts,
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": optional(names), "arguments": texts}),
    },
    optional={"index": counts, "provider_specific_fields": st.dictionaries(names, json_values, max_size=2)},
)
custom_calls = st.fixed_dictionaries(
    {"id": texts, "type": st.just("custom"), "custom": st.fixed_dictionaries({"name": names, "input": texts})}
)
tool_calls = st.lists(function_calls | custom_calls, min_size=1, max_size=3)

thinking_blocks = st.lists(
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": texts}, optional={"signature": texts})
    | st.fixed_dictionaries({"type": st.just("redacted_thinking"), "data": texts}),
    min_size=1,
    max_size=3,
)


@st.composite
def reasonings(draw: st.DrawFn) -> dict[str, Any]:
    blocks = draw(optional(thinking_blocks))
    joined = "".join(block.get("thinking", "") for block in blocks or ())
    text = draw(st.sampled_from([None, joined]) | texts)
    fields = {"reasoning_content": text, "thinking_blocks": blocks}
    return {name: value for name, value in fields.items() if value is not None}


citations = st.fixed_dictionaries(
    {"type": st.just("url_citation")},
    optional={
        "url_citation": st.fixed_dictionaries(
            {"url": texts, "start_index": counts, "end_index": counts}, optional={"title": texts}
        )
    },
)
images = st.fixed_dictionaries(
    {
        "image_url": st.fixed_dictionaries({"url": texts}, optional={"detail": texts}),
        "type": st.just("image_url"),
        "index": counts,
    }
)
audios = st.builds(ChatCompletionAudioResponse, id=texts, data=texts, expires_at=counts, transcript=texts)
provider_fields = st.dictionaries(names, json_values, max_size=2) | st.fixed_dictionaries(
    {"refusal": optional(texts)},
    optional={
        "citations": optional(
            st.lists(
                st.lists(present({"cited_text": texts, "document_title": optional(texts)}), max_size=2), max_size=2
            )
        )
    },
)
content_lists = st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": texts}) | images | json_values, min_size=1, max_size=3
)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    fields = draw(
        present(
            {
                "content": optional(texts),
                "role": st.sampled_from(["assistant", "user", None]),
                "tool_calls": st.just([]) | tool_calls,
                "function_call": st.fixed_dictionaries({"name": optional(names), "arguments": texts}),
                "audio": audios,
                "images": st.lists(images, max_size=2),
                "annotations": st.lists(citations, max_size=2),
                "reasoning_items": st.lists(
                    st.fixed_dictionaries({"id": texts, "type": st.just("reasoning")}), max_size=2
                ),
                "provider_specific_fields": optional(provider_fields),
                "refusal": optional(texts),
            }
        )
    )
    message = Message(**fields, **draw(reasonings()), **draw(extras))
    if draw(st.booleans()) and not message.tool_calls:
        message.content = draw(optional(content_lists))  # type: ignore[assignment]
    return message


token_logprobs = st.fixed_dictionaries(
    {"token": texts, "logprob": st.floats(-20, 0), "bytes": optional(st.lists(counts))}
)
logprobs = st.builds(
    lambda tokens, more: ChoiceLogprobs(content=tokens, **more),
    optional(
        st.lists(
            st.builds(
                lambda one, top: {**one, "top_logprobs": top}, token_logprobs, st.lists(token_logprobs, max_size=2)
            ),
            max_size=2,
        )
    ),
    extras,
)
finish_reasons = st.sampled_from(["stop", "length", "tool_calls", "content_filter", "end_turn", "max_tokens", None])


@st.composite
def choices(draw: st.DrawFn) -> Choices:
    fields = {
        "index": counts,
        "logprobs": optional(logprobs) | st.lists(texts, max_size=1),
        "provider_specific_fields": optional(st.dictionaries(names, json_values, max_size=2)),
        "enhancements": json_values,
    }
    return Choices(
        finish_reason=draw(finish_reasons), message=draw(messages()), **draw(present(fields)), **draw(extras)
    )


usages = st.builds(
    lambda fields, more: Usage(**fields, **more),
    present(
        {
            "prompt_tokens": counts,
            "completion_tokens": counts,
            "total_tokens": counts,
            "reasoning_tokens": counts,
            "cost": st.floats(0, 1),
            "server_tool_use": present({"web_search_requests": counts}),
            "prompt_tokens_details": present(
                {
                    "cached_tokens": optional(counts),
                    "audio_tokens": counts,
                    "cache_write_tokens": counts,
                    "image_count": counts,
                }
            ),
            "completion_tokens_details": present({"reasoning_tokens": counts, "audio_tokens": optional(counts)}),
            "cache_read_input_tokens": counts,
            "cache_creation_input_tokens": counts,
        }
    ),
    extras,
)


@st.composite
def chat_responses(draw: st.DrawFn) -> ModelResponse:
    fields = {
        "usage": optional(usages),
        "system_fingerprint": optional(texts),
        "service_tier": optional(texts),
        "citations": st.lists(texts, max_size=2),
        "created": counts,
        "id": texts,
    }
    response = ModelResponse(
        model=draw(optional(texts)),
        choices=draw(st.lists(choices(), max_size=3)),
        **draw(present(fields)),
        **draw(extras),
    )
    response._hidden_params = {"response_cost": draw(optional(st.floats(0, 10)))}
    return response


text_choices = st.builds(
    lambda fields, more: TextChoices(**fields, **more),
    present(
        {
            "finish_reason": finish_reasons,
            "index": counts,
            "text": optional(texts),
            "reasoning_content": optional(texts),
            "logprobs": st.fixed_dictionaries(
                {
                    "text_offset": optional(st.lists(counts, max_size=2)),
                    "token_logprobs": optional(st.lists(optional(st.floats(-20, 0)), max_size=2)),
                    "tokens": optional(st.lists(texts, max_size=2)),
                    "top_logprobs": optional(st.lists(optional(st.dictionaries(texts, st.floats(-20, 0), max_size=2)))),
                }
            ),
        }
    ),
    extras,
)
text_responses = st.builds(
    lambda model, items, usage, more: TextCompletionResponse(model=model, choices=items, usage=usage, **more),
    optional(texts),
    st.lists(text_choices, max_size=3),
    optional(usages),
    extras,
)

vectors = st.lists(st.floats(-1, 1), max_size=4) | texts
embedding_responses = st.builds(
    lambda model, items, usage: EmbeddingResponse(model=model, data=items, usage=usage),
    optional(texts),
    st.lists(st.fixed_dictionaries({"embedding": vectors, "index": counts, "object": st.just("embedding")}), max_size=3)
    | st.lists(st.builds(Embedding, embedding=vectors, index=counts, object=st.just("embedding")), max_size=3),
    optional(usages),
)

annotations = st.fixed_dictionaries(
    {"type": st.just("url_citation"), "url": texts, "title": texts, "start_index": counts, "end_index": counts}
)
contents = st.fixed_dictionaries(
    {"type": st.just("output_text"), "text": texts, "annotations": st.lists(annotations, max_size=2)}
) | st.fixed_dictionaries({"type": st.just("refusal"), "refusal": texts})
summaries = st.lists(st.fixed_dictionaries({"type": st.just("summary_text"), "text": texts}), max_size=2)
items = st.one_of(
    st.fixed_dictionaries(
        {
            "type": st.just("message"),
            "id": texts,
            "status": st.just("completed"),
            "role": st.just("assistant"),
            "content": st.lists(contents, max_size=3),
        }
    ),
    st.fixed_dictionaries(
        {"type": st.just("reasoning"), "id": texts, "summary": summaries},
        optional={"encrypted_content": optional(texts), "status": st.none()},
    ),
    st.fixed_dictionaries(
        {"type": st.just("function_call"), "call_id": texts, "name": names, "arguments": texts},
        optional={"id": texts, "status": st.just("completed")},
    ),
    st.fixed_dictionaries(
        {"type": st.just("custom_tool_call"), "call_id": texts, "name": names, "input": texts, "id": texts}
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("image_generation_call"),
            "id": texts,
            "status": st.just("completed"),
            "result": optional(texts),
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("web_search_call"),
            "id": texts,
            "status": st.just("completed"),
            "action": st.fixed_dictionaries({"type": st.just("search"), "query": texts}),
        }
    ),
    st.fixed_dictionaries({"type": st.just("unheard_of"), "what": json_values}),
)
responses_usages = st.fixed_dictionaries(
    {"input_tokens": counts, "output_tokens": counts, "total_tokens": counts},
    optional={
        "input_tokens_details": present({"cached_tokens": counts, "cache_write_tokens": counts}),
        "output_tokens_details": present({"reasoning_tokens": counts}),
    },
)
tools = st.fixed_dictionaries(
    {
        "type": st.just("function"),
        "name": names,
        "parameters": st.dictionaries(names, json_values, max_size=2),
        "strict": st.booleans(),
    }
) | st.fixed_dictionaries({"type": st.just("web_search_preview")})


@st.composite
def responses_answers(draw: st.DrawFn) -> ResponsesAPIResponse:
    fields = {
        "status": st.sampled_from(["completed", "incomplete", "failed", "in_progress"]),
        "incomplete_details": optional(
            st.sampled_from([{"reason": "max_output_tokens"}, {"reason": "content_filter"}])
        ),
        "error": optional(st.just({"code": "server_error", "message": "x"})),
        "instructions": optional(texts),
        "metadata": optional(st.dictionaries(names, texts, max_size=2)),
        "usage": optional(responses_usages),
        "tools": st.lists(tools, max_size=2),
        "tool_choice": st.sampled_from(["auto", "none"]),
        "reasoning": optional(st.just({"effort": "low", "summary": None})),
        "text": optional(st.just({"format": {"type": "text"}})),
        "temperature": optional(st.floats(0, 2)),
        "store": st.booleans(),
    }
    return ResponsesAPIResponse(
        id=draw(texts),
        created_at=draw(counts),
        object="response",
        model=draw(optional(texts)),
        output=draw(st.lists(items, max_size=3)),
        **draw(present(fields)),
        **draw(extras),
    )
