"""The output items of OpenAI's Responses, whole and as the events that build them up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lmtrace.testing._provider import _openai
from lmtrace.testing._provider._answer import Answer, Choice


def items(answer: Answer, choice: Choice) -> list[dict[str, Any]]:
    """Reasoning, then the message, then the function calls, whichever there are."""
    output = []
    if choice.reasoning is not None:
        summary = [{"type": "summary_text", "text": choice.reasoning}]
        output.append({"id": f"rs_{answer.serial:08d}", "type": "reasoning", "summary": summary})
    content = _content(choice)
    if content:
        output.append(
            {
                "id": f"msg_{answer.serial:08d}",
                "type": "message",
                "role": "assistant",
                "status": "incomplete" if choice.finish_reason == "length" else "completed",
                "content": content,
            }
        )
    return output + [
        {
            "id": f"fc_{answer.serial:04d}{index:04d}",
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
            "status": "completed",
        }
        for index, call in enumerate(choice.tool_calls)
    ]


def _content(choice: Choice) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if choice.text is not None:
        content.append(
            {
                "type": "output_text",
                "text": choice.text,
                "annotations": [
                    {"type": "url_citation", "url": part.url, "title": part.title, **_openai.span(choice, part.text)}
                    for part in choice.citations
                ],
                "logprobs": [_openai.token(entry) for entry in choice.logprobs or ()],
            }
        )
    if choice.refusal is not None:
        content.append({"type": "refusal", "refusal": choice.refusal})
    return content


_EMPTY: Mapping[str, Mapping[str, Any]] = {
    "reasoning": {"summary": []},
    "message": {"content": []},
    "function_call": {"arguments": ""},
}
"""What an item has not got yet when it begins."""


def events(answer: Answer, choice: Choice) -> Iterator[dict[str, Any]]:
    """Every item: that it begins, its pieces, that it is done."""
    builders = {"reasoning": _reasoning, "message": _message, "function_call": _function_call}
    for index, item in enumerate(items(answer, choice)):
        kind, at = item["type"], {"item_id": item["id"], "output_index": index}
        progress = {"status": "in_progress"} if "status" in item else {}
        yield {
            "type": "response.output_item.added",
            "output_index": index,
            "item": {**item, **_EMPTY[kind], **progress},
        }
        yield from builders[kind](answer, item, at)
        yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _reasoning(answer: Answer, item: dict[str, Any], at: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for number, part in enumerate(item["summary"]):
        where = {**at, "summary_index": number}
        yield {"type": "response.reasoning_summary_part.added", **where, "part": {**part, "text": ""}}
        for piece in answer.pieces(part["text"]):
            yield {"type": "response.reasoning_summary_text.delta", **where, "delta": piece}
        yield {"type": "response.reasoning_summary_text.done", **where, "text": part["text"]}
        yield {"type": "response.reasoning_summary_part.done", **where, "part": part}


def _message(answer: Answer, item: dict[str, Any], at: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for number, part in enumerate(item["content"]):
        where = {**at, "content_index": number}
        refused = part["type"] == "refusal"
        empty = {"refusal": ""} if refused else {"text": "", "annotations": [], "logprobs": []}
        yield {"type": "response.content_part.added", **where, "part": {**part, **empty}}
        yield from _refusal(answer, part, where) if refused else _text(answer, part, where)
        yield {"type": "response.content_part.done", **where, "part": part}


def _text(answer: Answer, part: dict[str, Any], where: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if part["logprobs"]:  # one token at a time, each beside its own log probability
        steps = [(entry["token"], [entry]) for entry in part["logprobs"]]
    else:
        steps = [(piece, []) for piece in answer.pieces(part["text"])]
    for piece, logprobs in steps:
        yield {"type": "response.output_text.delta", **where, "delta": piece, "logprobs": logprobs}
    for number, annotation in enumerate(part["annotations"]):
        place = {**where, "annotation_index": number}
        yield {"type": "response.output_text.annotation.added", **place, "annotation": annotation}
    yield {"type": "response.output_text.done", **where, "text": part["text"], "logprobs": part["logprobs"]}


def _refusal(answer: Answer, part: dict[str, Any], where: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for piece in answer.pieces(part["refusal"]):
        yield {"type": "response.refusal.delta", **where, "delta": piece}
    yield {"type": "response.refusal.done", **where, "refusal": part["refusal"]}


def _function_call(answer: Answer, item: dict[str, Any], at: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for piece in answer.pieces(item["arguments"]):
        yield {"type": "response.function_call_arguments.delta", **at, "delta": piece}
    done = {"arguments": item["arguments"], "name": item["name"]}
    yield {"type": "response.function_call_arguments.done", **at, **done}
