"""The identity of a request: what changes a key and what does not. The pinned keys may only change with the key's version."""

from __future__ import annotations

import math
import unicodedata
from types import MappingProxyType
from typing import Any, Literal

import pydantic
import pytest
from backends import Answering, answer, asked
from hypothesis import given
from hypothesis import strategies as st

from lmtrace import LM, LMRequest
from lmtrace._keys import LEFT_OUT, request_key
from lmtrace._secrets import split
from lmtrace.testing import capture

USER = {"role": "user", "content": "Hi"}


def key(**fields: Any) -> str:
    return request_key(asked(**{"messages": [USER], **fields}))


def with_parameters(**kwargs: Any) -> str:
    return key(kwargs=kwargs)


def conversation(call_id: str, other: str = "call_2", **extra: Any) -> list[dict[str, Any]]:
    def call(name: str) -> dict[str, Any]:
        return {"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}}

    return [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call(call_id), call(other)], **extra},
        {"role": "tool", "tool_call_id": other, "content": "2"},
        {"role": "tool", "tool_call_id": call_id, "content": "1"},
    ]


PINNED: list[LMRequest] = [
    asked(messages=[USER]),
    asked(messages=[USER], kwargs={"temperature": 0.5, "rollout_id": 3, "odd": {"b": 1, "a": None}}),
    asked(messages=conversation("call_x")),
    asked(messages=[{"role": "user", "content": "caf\u00e9\r\n"}]),
    asked(messages=None, prompt="Once upon", model_type="text"),
    asked(messages=["a", "b"], model_type="embedding", kwargs={"dimensions": 3}),
    asked(kwargs={"odd": {1: math.nan, "$lmtrace": "int", "set": {2, 1}, "big": 2**70, "text": "\ud800"}}),
]


def test_pinned_keys(snapshot: Any) -> None:
    """Keys of version lm1 are what they were when it was released: recordings are found by them."""
    assert [request_key(request) for request in PINNED] == snapshot


parameters = st.dictionaries(
    st.sampled_from(["temperature", "top_p", "stop", "odd", "n", "extra_body"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
)


@given(parameters, st.randoms())
def test_order_does_not_matter(given_: dict[str, Any], random: Any) -> None:
    """Parameters and nested dictionaries may come in any order."""

    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            items = [(name, shuffled(item)) for name, item in value.items()]
            random.shuffle(items)
            return dict(items)
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    assert with_parameters(**given_) == with_parameters(**shuffled(given_))


@given(parameters)
def test_none_is_absent(given_: dict[str, Any]) -> None:
    """A parameter of None is one that was not given, on every level."""
    padded = {name: {**value, "none": None} if isinstance(value, dict) else value for name, value in given_.items()}
    assert with_parameters(**given_) == with_parameters(**padded, seed=None)


def normal(value: Any) -> Any:
    """What makes two parameters the same, said once more."""
    if isinstance(value, dict):
        return {unicodedata.normalize("NFC", name): normal(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [normal(item) for item in value]
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value.replace("\r\n", "\n"))
    return [type(value).__name__, str(value)] if isinstance(value, bool) or str(value) == "nan" else value


@given(parameters, parameters)
def test_parameters_matter(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Requests have the same key exactly when their parameters are the same."""
    assert (with_parameters(**one) == with_parameters(**other)) == (normal(one) == normal(other))


SAME = {
    "a zero": (with_parameters(temperature=0), with_parameters(temperature=0.0)),
    "minus zero": (with_parameters(temperature=0), with_parameters(temperature=-0.0)),
    "a whole number": (with_parameters(max_tokens=100), with_parameters(max_tokens=100.0)),
    "tuple and list": (with_parameters(stop=("a", "b")), with_parameters(stop=["a", "b"])),
    "mapping and dictionary": (with_parameters(odd={"a": 1}), with_parameters(odd=MappingProxyType({"a": 1}))),
    "set order": (with_parameters(odd={"x", "y", "z"}), with_parameters(odd={"z", "y", "x"})),
    "number keys": (with_parameters(odd={1: "a", 2: "b"}), with_parameters(odd={2: "b", 1: "a"})),
    "Unicode forms": (
        key(messages=[{"role": "user", "content": "é"}]),
        key(messages=[{"role": "user", "content": "e\u0301"}]),
    ),
    "Unicode names": (with_parameters(odd={"é": 1}), with_parameters(odd={"e\u0301": 1})),
    "line ends": (
        key(messages=[{"role": "user", "content": "a\r\nb"}]),
        key(messages=[{"role": "user", "content": "a\nb"}]),
    ),
    "absent content": (key(messages=[{**USER, "name": None}]), key(messages=[USER])),
    "message order of keys": (key(messages=[dict(reversed(USER.items()))]), key(messages=[USER])),
    "tool-call ids": (key(messages=conversation("call_1")), key(messages=conversation("call_9", "toolu_7"))),
    "streaming": (key(stream=True), key(stream=False)),
    "server": (key(server_address="a", server_port=1, provider="x"), key()),
    "media": (
        key(
            messages=[
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}}]}
            ]
        ),
        key(
            messages=(
                {
                    "role": "user",
                    "content": ({"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}},),
                },
            )
        ),
    ),
}


@pytest.mark.parametrize("what", SAME)
def test_the_same_request(what: str) -> None:
    """Spellings of one and the same request have one key."""
    one, other = SAME[what]
    assert one == other


def image(url: str) -> str:
    return key(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}])


DIFFERENT = {
    "model": key(model="openai/gpt-4o"),
    "api": key(model_type="responses"),
    "operation": key(model_type="text"),
    "role": key(messages=[{**USER, "role": "system"}]),
    "text": key(messages=[{**USER, "content": "hi"}]),
    "blank": key(messages=[{**USER, "content": "Hi "}]),
    "field of a message": key(messages=[{**USER, "name": "ann"}]),
    "more messages": key(messages=[USER, USER]),
    "order of messages": key(messages=[USER, {**USER, "content": "b"}]),
    "other order": key(messages=[{**USER, "content": "b"}, USER]),
    "bare prompt": key(messages=None, prompt="Hi"),
    "other prompt": key(messages=None, prompt="Ho"),
    "unknown parameter": with_parameters(quantum=1),
    "its value": with_parameters(quantum=2),
    "its type": with_parameters(quantum="1"),
    "a boolean": with_parameters(quantum=True),
    "nan": with_parameters(quantum=math.nan),
    "inf": with_parameters(quantum=math.inf),
    "what looks like nan": with_parameters(quantum={"$lmtrace": "float", "value": "nan"}),
    "order of a list": with_parameters(stop=["a", "b"]),
    "that order reversed": with_parameters(stop=["b", "a"]),
    "number and text keys": with_parameters(odd={1: 1}),
    "text and number keys": with_parameters(odd={"1": 1}),
    "bytes": with_parameters(odd=b"1"),
    "lone surrogate": with_parameters(odd={"\ud800": 1}),
    "another surrogate": with_parameters(odd={"\ud801": 1}),
    "image": image("data:image/png;base64,QQ=="),
    "image data": image("data:image/png;base64,QUE="),
    "image type": image("data:image/jpeg;base64,QQ=="),
    "image address": image("https://host/a.png"),
    "tool ids that are not calls'": with_parameters(extra_body={"id": "call_center"}),
    "and another": with_parameters(extra_body={"id": "call_home"}),
    "which call was answered": key(messages=conversation("call_1")),
    "the other one": key(messages=[*conversation("call_1")[:2], *reversed(conversation("call_1")[2:])]),
    "tools": with_parameters(tools=[{"type": "function", "function": {"name": "f"}}]),
    "tool choice": with_parameters(tool_choice="none"),
}


def test_different_requests() -> None:
    """Every parameter, model, role, text and order that is not left out by name makes another key."""
    keys = {"plain": key(), **DIFFERENT}
    assert len(set(keys.values())) == len(keys)


@pytest.mark.parametrize("name", sorted(LEFT_OUT))
def test_left_out(name: str) -> None:
    """The parameters on the written list do not change what is asked."""
    assert with_parameters(**{name: "anything"}) == key()


def test_schema_classes() -> None:
    """A class given as response format counts by its schema, wherever it is defined and however it is written."""

    class Answer(pydantic.BaseModel):
        text: str
        mood: Literal["good", "bad"] = "good"

    def elsewhere() -> type[pydantic.BaseModel]:
        class Answer(pydantic.BaseModel):
            text: str
            mood: Literal["good", "bad"] = "good"

        return Answer

    class Other(pydantic.BaseModel):
        text: str

    assert with_parameters(response_format=Answer) == with_parameters(response_format=elsewhere())
    assert with_parameters(response_format=Answer) == with_parameters(response_format=Answer.model_json_schema())
    assert with_parameters(response_format=Answer) != with_parameters(response_format=Other)


def test_objects_count_by_their_data() -> None:
    """A message given as an object has the key of the dictionary that says the same."""

    class Message(pydantic.BaseModel):
        role: str
        content: str
        name: str | None = None

    assert key(messages=[Message(role="user", content="Hi")]) == key()


def test_cycles_and_depth() -> None:
    """A request that refers to itself, or is nested without end, has a key like any other."""
    cycle: dict[str, Any] = {"a": 1}
    cycle["again"] = [cycle]
    deep: Any = "bottom"
    for _ in range(5_000):
        deep = [deep]
    assert len({with_parameters(odd=cycle), with_parameters(odd=deep), key(messages=[deep]), key()}) == 4


def test_a_role_with_surrogates() -> None:
    """Texts that UTF-8 cannot write are part of a key like others."""
    odd = [key(messages=[{"role": role, "content": "Hi"}]) for role in ("\ud800", "\ud801", "user")]
    assert len(set(odd)) == 3


CREDENTIALS = {
    "api_key": "sk-one",
    "extra_headers": {"Authorization": "Bearer sk-one"},
    "api_base": "https://user:sk-one@host/v1?sig=sk-one",
    "aws_secret_access_key": "sk-one",
    "extra_body": {"auth_token": "sk-one", "top": 1},
    "tools": [
        {
            "type": "mcp",
            "server_url": "https://h/?api_key=sk-one",
            "headers": {"X": "sk-one"},
            "authorization": "sk-one",
        }
    ],
}


@pytest.mark.parametrize("name", CREDENTIALS)
def test_credentials(name: str) -> None:
    """A request has the same key whoever's credentials it is sent with."""

    def keyed(secret: str) -> str:
        def put(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: put(item) for key, item in value.items()}
            return [put(item) for item in value] if isinstance(value, list) else str(value).replace("sk-one", secret)

        return with_parameters(**split({name: put(CREDENTIALS[name])})[0])

    assert keyed("sk-another-1") == keyed("sk-another-2")


def test_an_lm_gives_its_key() -> None:
    """The key stands on the entry, the row and the span, and is that of the effective parameters."""
    with capture() as captured:
        lm = LM("openai/gpt-4o-mini", temperature=0.5, backend=Answering(answer()), api_key="sk-0123456789")
        lm("Hi", seed=3)
    (entry,), (row,), (span,) = captured.entries, captured.rows, captured.spans
    assert entry.request_key == row["request_key"] == span["attributes"]["lmtrace.request_key"]
    assert entry.request_key == with_parameters(temperature=0.5, seed=3)
