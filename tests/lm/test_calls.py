"""What a call sends, and what it returns."""

from __future__ import annotations

from inspect import signature
from typing import Any

import litellm
import pytest
from litellm.constants import DEFAULT_CHAT_COMPLETION_PARAM_VALUES
from litellm.types.router import GenericLiteLLMParams
from litellm.types.utils import all_litellm_params

import lmtrace
from lmtrace import LMOutput
from lmtrace._data import LMCitationPart, LMReasoningPart, LMTextPart, LMToolCallPart
from lmtrace._errors import LMConfigurationError
from lmtrace._options import check_names


def test_text_comes_back(way: Any, script: Any) -> None:
    """A call returns a list with the text of each candidate."""
    assert way.call(lmtrace.LM("openai/m", backend=script("fine")), "How are you?") == ["fine"]


def test_every_candidate_comes_back(way: Any, script: Any, respond: Any) -> None:
    """With `n` candidates the list has as many items, in order."""
    backend = script(respond("one", "two"))
    assert way.call(lmtrace.LM("openai/m", backend=backend), "hi", n=2) == ["one", "two"]


def test_more_than_text_is_a_dictionary(way: Any, script: Any, respond: Any) -> None:
    """Reasoning, tool calls, citations and logprobs make a candidate a dictionary in DSPy's form."""
    parts = (
        LMReasoningPart("hm"),
        LMTextPart("sunny"),
        LMToolCallPart(id="c1", name="weather", arguments='{"city": "Oslo"}'),
        LMCitationPart(title="T", url="http://t"),
    )
    backend = script(respond("x", outputs=(LMOutput(parts=parts, logprobs={"content": []}),)))
    (output,) = way.call(lmtrace.LM("openai/m", backend=backend), "hi")
    assert output["text"] == "sunny"
    assert output["reasoning_content"] == "hm"
    assert output["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Oslo"}'}
    assert output["citations"][0]["url"] == "http://t"
    assert output["logprobs"] == {"content": []}


def test_forward_returns_the_response(way: Any, script: Any) -> None:
    """`forward` gives the normalised response and records the call as calling does."""
    lm = lmtrace.LM("openai/m", backend=script("fine"))
    response = way.forward(lm, "hi")
    assert (response.outputs[0].text, response.usage.total_tokens) == ("fine", 5)
    assert lm.history[-1].response is response


def test_call_parameters_win(way: Any, script: Any) -> None:
    """A request has the parameters of the LM, overridden by those of the call, None included."""
    backend = script()
    lm = lmtrace.LM("openai/m", temperature=0.9, top_p=0.5, stop=["a"], backend=backend)
    way.call(lm, "hi", temperature=0.1, stop=None, seed=7)
    assert backend.requests[0].kwargs == {
        "temperature": 0.1, "max_tokens": None, "top_p": 0.5, "stop": None, "seed": 7,
    }  # fmt: skip
    assert lm.kwargs == {"temperature": 0.9, "max_tokens": None, "top_p": 0.5, "stop": ["a"]}


def test_prompt_becomes_a_message(way: Any, script: Any) -> None:
    """A prompt is sent as one user message and kept as the prompt."""
    backend = script()
    way.call(lmtrace.LM("openai/m", backend=backend), "hi")
    request = backend.requests[0]
    assert (request.prompt, request.messages) == ("hi", [{"role": "user", "content": "hi"}])


def test_messages_win_over_prompt(way: Any, script: Any) -> None:
    """With messages the prompt is not used."""
    backend = script()
    messages = [{"role": "user", "content": "from messages"}]
    way.call(lmtrace.LM("openai/m", backend=backend), "from prompt", messages)
    assert (backend.requests[0].prompt, backend.requests[0].messages) == (None, messages)


def test_odd_messages_reach_the_backend(way: Any, script: Any) -> None:
    """Messages of wrong types are the provider's to refuse: they pass as they are."""
    backend = script()
    way.call(lmtrace.LM("openai/m", backend=backend), messages=[42])
    assert backend.requests[0].messages == [42]


def test_credentials_travel_beside_the_request(way: Any, script: Any) -> None:
    """Keys, headers and passwords in addresses are given to the backend and are nowhere in the request or the history."""
    backend = script()
    lm = lmtrace.LM(
        "openai/m", api_key="canary-key-1", api_base="http://u:canary-pw@localhost:1234/v1", backend=backend
    )
    way.call(lm, "hi", extra_headers={"x-api-key": "canary-header"})
    assert "canary" not in repr(backend.requests[0]) + repr(dict(lm.history[0])) + repr(lm)
    assert backend.secrets[0]["api_key"] == "canary-key-1"
    assert backend.secrets[0]["api_base"] == "http://u:canary-pw@localhost:1234/v1"


def test_request_says_who_and_where(script: Any) -> None:
    """Provider and server stand in the request under the names of the conventions."""
    backend = script()
    lmtrace.LM("azure/m", api_base="https://me.azure.com", backend=backend)("hi")
    request = backend.requests[0]
    assert (request.provider, request.server_address, request.server_port) == ("azure.ai.openai", "me.azure.com", 443)


@pytest.mark.parametrize("call", [{}, {"cache": False}])
def test_cache_is_not_a_parameter(script: Any, call: dict[str, Any]) -> None:
    """`cache` of the LM or of the call stands beside the parameters, not among them."""
    backend = script()
    lmtrace.LM("openai/m", backend=backend)("hi", **call)
    assert "cache" not in backend.requests[0].kwargs
    assert backend.requests[0].metadata["cache"] is call.get("cache", True)


def test_stream_parameter_returns_the_whole(way: Any, script: Any) -> None:
    """With `stream=True` the backend streams and the caller gets the assembled answer, recorded once."""
    backend = script(["he", "llo"])
    lm = lmtrace.LM("openai/m", backend=backend)
    assert way.call(lm, "hi", stream=True) == ["hello"]
    assert backend.requests[0].stream
    assert [entry["outputs"] for entry in lm.history] == [["hello"]]


def test_changed_parameters_hold_at_once(script: Any) -> None:
    """`lm.kwargs`, `lm.num_retries` and `lm.backend` may be changed between calls."""
    first, second = script(), script("other")
    lm = lmtrace.LM("openai/m", backend=first)
    lm("hi")
    lm.kwargs["temperature"] = 0.3
    lm.backend = second
    assert lm("hi") == ["other"]
    assert second.requests[0].kwargs["temperature"] == 0.3


@pytest.mark.parametrize(
    ("slip", "meant"), [("temprature", "temperature"), ("num_retry", "num_retries"), ("max_token", "max_tokens")]
)
def test_slips_are_named(slip: str, meant: str) -> None:
    """A misspelt option is refused with the nearest one, in the constructor, in a copy and in a call."""
    for use in (
        lambda: lmtrace.LM("openai/m", **{slip: 1}),
        lambda: lmtrace.LM("openai/m").copy(**{slip: 1}),
        lambda: lmtrace.LM("openai/m")("hi", **{slip: 1}),
    ):
        with pytest.raises(lmtrace.UnknownOptionError, match=meant) as caught:
            use()
        assert (caught.value.name, caught.value.nearest) == (slip, meant)


def test_foreign_parameters_pass(script: Any) -> None:
    """A parameter lmtrace does not know is the provider's."""
    backend = script()
    lmtrace.LM("openrouter/m", models=["a", "b"], max_retries=0, backend=backend)("hi", some_new_thing=1)
    assert backend.requests[0].kwargs.items() >= {"models": ["a", "b"], "max_retries": 0, "some_new_thing": 1}.items()


def test_no_parameter_of_litellm_is_a_slip() -> None:
    """Every parameter LiteLLM knows by name may be passed, whatever it looks like."""
    known = {
        name
        for call in (litellm.completion, litellm.text_completion, litellm.responses)
        for name in signature(call).parameters
    }
    known |= {*all_litellm_params, *GenericLiteLLMParams.model_fields, *DEFAULT_CHAT_COMPLETION_PARAM_VALUES}
    check_names(known)


def test_options_of_the_lm_are_no_call_parameters(way: Any, script: Any) -> None:
    """What belongs to the LM as a whole is refused in a call, with the way to do it."""
    with pytest.raises(LMConfigurationError, match=r"lm\.copy\(model="):
        way.call(lmtrace.LM("openai/m", backend=script()), "hi", model="openai/other")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"model": ""}, "model"),
        ({"model_type": "chats"}, "'chat', 'text', 'responses'"),
        ({"num_retries": -1}, "num_retries"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], word: str) -> None:
    """A value no call could work with is refused at once, with what is allowed."""
    with pytest.raises(LMConfigurationError, match=word):
        lmtrace.LM(**{"model": "openai/m", **options})


@pytest.mark.parametrize("method", ["finetune", "reinforce", "launch", "kill", "infer_provider"])
def test_training_is_not_supported(method: str) -> None:
    """What lmtrace does not do yet says so and says what to do instead."""
    arguments: tuple[Any, ...] = ([],) if method == "finetune" else ()
    with pytest.raises(lmtrace.LMUnsupportedFeatureError, match="does not support") as caught:
        getattr(lmtrace.LM("openai/m"), method)(*arguments)
    assert (caught.value.model, caught.value.provider, len(caught.value.features)) == ("openai/m", "openai", 1)
