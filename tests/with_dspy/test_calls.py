"""One record for each public LM call of DSPy, on every engine and in every version."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

import lmtrace
from lmtrace.testing import LoopbackProvider, capture

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def test_a_call(lm: Any, call: Any, captured: Any) -> None:
    """One span and one row: the effective parameters, the rollout, the tokens, the price and no credential."""
    assert call(lm, messages=QUESTION, rollout_id=3, max_tokens=50)
    (row,), (span,) = captured.rows, captured.spans
    assert (row["model"], row["model_type"], row["provider"], row["served_by"]) == (
        "openai/gpt-4o-mini", "chat", "openai", "provider",
    )  # fmt: skip
    assert row["messages"] == QUESTION
    assert {name: row["kwargs"][name] for name in ("temperature", "max_tokens", "rollout_id")} == {
        "temperature": 0.5, "max_tokens": 50, "rollout_id": 3,
    }  # fmt: skip
    assert (row["rollout_id"], row["finish_reasons"]) == ("3", ["stop"])
    assert row["input_tokens"] > 0
    assert row["cost"] > 0
    assert span["attributes"]["lmtrace.call.id"] == row["uuid"]
    assert span["attributes"]["gen_ai.usage.input_tokens"] == row["input_tokens"]
    assert "sk-loopback" not in str(captured.records)


def test_a_rollout_of_a_copy(lm: Any, captured: Any) -> None:
    """The rollout id of ``lm.copy(rollout_id=…)`` is in the row, which DSPy's own history leaves out."""
    lm.copy(rollout_id=7)("hello")
    assert captured.rows[0]["rollout_id"] == "7"
    assert captured.rows[0]["prompt"] == "hello"


def test_answers_are_untouched(lm: Any, call: Any, provider: LoopbackProvider) -> None:
    """Instrumented or not, a call returns the same and DSPy keeps the same history."""
    provider.respond(lambda request: "Paris")
    before = call(lm, messages=QUESTION)
    lmtrace.instrument()
    try:
        with capture() as captured:
            after = call(lm, messages=QUESTION)
    finally:
        lmtrace.uninstrument()
    assert before == after == ["Paris"]
    assert len(captured.rows) == 1
    assert [entry["outputs"] for entry in lm.history] == [["Paris"], ["Paris"]]


def test_a_failure(lm: Any, call: Any, provider: LoopbackProvider, captured: Any) -> None:
    """A failed call is a row too, and the error is DSPy's own."""
    provider.fail(status=401, times=5)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one differs from version to version
        call(lm, messages=QUESTION)
    (row,) = captured.rows
    assert row["error_type"].rpartition(".")[2] == type(caught.value).__name__
    assert captured.spans[0]["status"] == "error" or captured.spans[0]["attributes"]["error.type"] == row["error_type"]


def test_a_cache_hit(
    provider: LoopbackProvider, engine: dict[str, Any], call: Any, captured: Any, tmp_path: Any
) -> None:
    """An answer from DSPy's cache is a row that says so: it keeps its price and bills nothing."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    lm = dspy.LM("openai/gpt-4o-mini", api_key="sk-loopback-0123456789", api_base=provider.openai_base, **engine)
    for _ in range(2):
        call(lm, messages=[{"role": "user", "content": f"cached {tmp_path}"}])
    first, second = captured.rows
    assert (first["served_by"], second["served_by"], second["cache_hit"]) == ("provider", "cache", True)
    assert second.get("billed_cost", 0.0) == 0.0
    assert second["outputs"] == first["outputs"]
    assert len(provider.requests) == 1


def test_several_candidates(lm: Any, captured: Any) -> None:
    """``n=2`` is one row with two outputs, whichever engine fans it out."""
    assert len(lm("hello", n=2)) == 2
    (row,) = captured.rows
    assert len(row["outputs"]) == 2
    assert len(captured.spans) == 1


def test_a_custom_lm(captured: Any) -> None:
    """An LM of the user's own is recorded by what it returned."""

    class Custom(dspy.BaseLM):
        def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            from litellm import ModelResponse

            return ModelResponse(model="mine", choices=[{"message": {"role": "assistant", "content": "Paris"}}])

    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # DSPy 3.4 says goodbye to `forward`
        assert Custom("mine")("hello") == ["Paris"]
    (row,) = captured.rows
    assert (row["model"], row["outputs"]) == ("mine", ["Paris"])


def test_tool_calls(lm: Any, provider: LoopbackProvider, captured: Any) -> None:
    """What the model wants called is in the outputs of the row."""
    tools = [
        {
            "type": "function",
            "function": {"name": "add", "description": "", "parameters": {"type": "object", "properties": {}}},
        }
    ]
    lm(messages=QUESTION, tools=tools)
    (row,) = captured.rows
    assert row["tools"] == tools


def test_uninstrument_restores() -> None:
    """Afterwards DSPy's methods are the very objects they were."""
    owners = [(dspy.BaseLM, "__call__"), (dspy.Module, "acall"), (dspy.ChatAdapter, "format"), (dspy.Tool, "__call__")]
    before = [vars(owner)[name] for owner, name in owners]
    lmtrace.instrument()
    assert all(vars(owner)[name] is not one for (owner, name), one in zip(owners, before, strict=True))
    lmtrace.instrument()
    lmtrace.uninstrument()
    assert [vars(owner)[name] for owner, name in owners] == before


def test_an_unsupported_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another DSPy is refused with its version and what is supported; LiteLLM is instrumented all the same."""
    monkeypatch.setattr(dspy, "__version__", "3.9.0")
    try:
        with pytest.raises(lmtrace.LMTraceError, match=r"DSPy 3\.9\.0 is not supported: lmtrace records 3\.2 to 3\.4"):
            lmtrace.instrument()
    finally:
        lmtrace.uninstrument()
