"""The rules of models: reasoning models, rollouts, the developer role, truncated answers."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

import lmtrace
from lmtrace import LMOutput
from lmtrace._data import LMTextPart
from lmtrace._errors import LMConfigurationError

REASONING = [
    "openai/o1",
    "o3-mini",
    "azure/o4-mini-2025-04-16",
    "openai/gpt-5",
    "gpt-5-nano",
    "openai/GPT-5-2025-08-07",
]
OTHERS = ["openai/gpt-4o", "openai/gpt-5-chat", "openai/o1-preview", "o2", "anthropic/claude-o1", "gpt-50"]


@pytest.mark.parametrize("model", REASONING)
def test_reasoning_models_have_another_limit(model: str) -> None:
    """For OpenAI's reasoning models the limit is called `max_completion_tokens`."""
    assert lmtrace.LM(model, max_tokens=20_000).kwargs == {"temperature": None, "max_completion_tokens": 20_000}


@pytest.mark.parametrize("model", OTHERS)
def test_other_models_keep_theirs(model: str) -> None:
    """Every other model keeps `max_tokens`, however small."""
    assert lmtrace.LM(model, temperature=0.2, max_tokens=5).kwargs == {"temperature": 0.2, "max_tokens": 5}


@pytest.mark.parametrize("options", [{"temperature": 0.7}, {"max_tokens": 15_999}])
def test_reasoning_models_refuse(options: dict[str, Any]) -> None:
    """A reasoning model takes no other temperature than 1 and no fewer than 16,000 tokens."""
    with pytest.raises(LMConfigurationError, match="16000") as caught:
        lmtrace.LM("openai/gpt-5", **options)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"temperature": 0}, {"max_tokens": 16_000}])
def test_reasoning_models_accept(options: dict[str, Any]) -> None:
    """What is not given, or falsy, is left to the provider."""
    lmtrace.LM("openai/gpt-5", **options)


def test_two_limits_that_differ_are_refused() -> None:
    """`max_tokens` and `max_completion_tokens` are one parameter for a reasoning model."""
    with pytest.raises(LMConfigurationError, match="one of them"):
        lmtrace.LM("openai/gpt-5", max_tokens=16_000, max_completion_tokens=20_000)


def test_rollout_is_kept(way: Any, script: Any) -> None:
    """A rollout id is in the request and in the history."""
    backend = script()
    lm = lmtrace.LM("openai/m", temperature=1.0, backend=backend)
    way.call(lm, "hi", rollout_id=5)
    assert backend.requests[0].rollout_id == 5
    assert lm.history[0]["kwargs"]["rollout_id"] == 5


def test_rollout_of_none_is_dropped(way: Any, script: Any) -> None:
    """None is no rollout id, neither in the constructor nor in a call, where it takes that of the LM away."""
    backend = script()
    assert "rollout_id" not in lmtrace.LM("openai/m", rollout_id=None).kwargs
    way.call(lmtrace.LM("openai/m", rollout_id=3, backend=backend), "hi", rollout_id=None)
    assert "rollout_id" not in backend.requests[0].kwargs


def test_zero_temperature_rollout_warns_once(way: Any, script: Any) -> None:
    """At temperature 0 a rollout id changes nothing: one warning for each LM, at the caller's line; a copy warns anew."""
    lm = lmtrace.LM("openai/m", temperature=0, backend=script())
    with pytest.warns(UserWarning, match="rollout_id has no effect") as caught:
        way.call(lm, "hi", rollout_id=1)
    assert "/lmtrace/_" not in caught[0].filename
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        way.call(lm, "hi", rollout_id=2)
    with pytest.warns(UserWarning, match="rollout_id"):
        way.call(lm.copy(), "hi", rollout_id=1)


def test_zero_temperature_rollout_warns_in_the_constructor() -> None:
    """The constructor warns as well, at the line that calls it, and then the calls do not."""
    with pytest.warns(UserWarning, match="rollout_id") as caught:
        lmtrace.LM("openai/m", temperature=0.0, rollout_id=1)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("temperature", [None, 0.7])
def test_other_temperatures_do_not_warn(way: Any, script: Any, temperature: float | None) -> None:
    """A temperature that is not given may be any; warnings are errors here."""
    way.call(lmtrace.LM("openai/m", temperature=temperature, backend=script()), "hi", rollout_id=1)


@pytest.mark.parametrize(
    ("options", "role"),
    [
        ({"model_type": "responses", "use_developer_role": True}, "developer"),
        ({"model_type": "responses"}, "system"),
        ({"model_type": "chat", "use_developer_role": True}, "system"),
    ],
)
def test_developer_role(way: Any, script: Any, options: dict[str, Any], role: str) -> None:
    """The Responses API gets ``developer`` for ``system`` when asked to; the user's messages are left alone."""
    backend = script()
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]
    way.call(lmtrace.LM("openai/m", backend=backend, **options), messages=messages)
    assert [message["role"] for message in backend.requests[0].messages] == [role, "user"]
    assert messages[0]["role"] == "system"


def test_truncated_answers_are_told(way: Any, script: Any, respond: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An answer that was cut off is logged with the limit and what to do."""
    cut = LMOutput(parts=(LMTextPart("and then"),), finish_reason="length", truncated=True)
    lm = lmtrace.LM("openai/m", max_tokens=2, backend=script(respond("x", outputs=(cut,))))
    assert way.call(lm, "hi") == ["and then"]
    (record,) = caplog.records
    assert "max_tokens=2" in record.getMessage()
    assert "and then" not in record.getMessage()


def test_whole_answers_are_not(way: Any, script: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An answer that came to its end is not logged."""
    way.call(lmtrace.LM("openai/m", backend=script()), "hi")
    assert not caplog.records
