"""An answer in the cache: the same when it comes out, whatever was in it and whatever was done to the copies."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lmtrace import LMOutput, LMResponse, LMTextPart, LMUsage
from lmtrace._data import LMReasoningPart, LMToolCallPart
from lmtrace_replay._cached import parsed, sealed, serialised, unsealed
from lmtrace_replay._memory import MemoryTier

texts = st.text(max_size=20)
odd = st.one_of(st.floats(allow_nan=False), st.integers(), st.binary(max_size=5), st.booleans(), st.none(), texts)
data = st.recursive(
    odd, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3))
)
fields = st.none() | st.dictionaries(texts, data, max_size=3)
parts = st.one_of(
    st.builds(LMTextPart, texts, fields),
    st.builds(LMReasoningPart, texts, fields),
    st.builds(LMToolCallPart, texts, texts, texts, fields),
)
outputs = st.builds(
    LMOutput, parts=st.lists(parts, max_size=3).map(tuple), finish_reason=texts, logprobs=data, provider_data=fields
)
counts = st.none() | st.integers(0, 2**40)
usages = st.none() | st.builds(LMUsage, input_tokens=counts, output_tokens=counts, details=fields)
responses = st.builds(
    LMResponse,
    model=st.none() | texts,
    outputs=st.lists(outputs, min_size=1, max_size=2).map(tuple),
    usage=usages,
    cost=st.none() | st.floats(0, 1e6),
    provider_data=fields,
    metadata=fields,
)


def spoil(value: Any) -> None:
    """Change everything inside that can be changed."""
    if isinstance(value, dict):
        for item in value.values():
            spoil(item)
        value["spoilt"] = True
    elif isinstance(value, list):
        for item in value:
            spoil(item)
        value.append("spoilt")
    elif isinstance(value, tuple):
        for item in value:
            spoil(item)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            spoil(getattr(value, field.name))


@given(responses)
def test_the_same_comes_out(response: LMResponse) -> None:
    """An answer is what it was, marked as a hit, however often and whatever was done to the ones before."""
    text = serialised(response)
    assert text is not None
    answer = parsed(text, 0)
    expected = copy.deepcopy(dataclasses.replace(response, cache_hit=True))
    spoil(response)
    for _ in range(2):
        copied = answer.response()
        assert copied == expected
        spoil(copied)


@given(st.binary(max_size=200), st.integers(0, 8 * 204 - 1))
def test_a_flipped_bit_is_found(text: bytes, bit: int) -> None:
    """What was written comes back, and nothing that differs from it by a bit."""
    value = bytearray(sealed(text))
    assert unsealed(bytes(value)) == text
    value[bit // 8 % len(value)] ^= 1 << bit % 8
    assert unsealed(bytes(value)) is None


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60), st.integers(1, 5))
def test_memory_is_as_simple_as_it_says(steps: list[tuple[bool, int]], room: int) -> None:
    """The memory holds those used last, no more than there is room for, and counts their bytes."""
    text = serialised(LMResponse(outputs=(LMOutput(parts=(LMTextPart("x"),)),)))
    assert text is not None
    memory, used = MemoryTier(room, 1 << 20), list[bytes]()
    for is_put, number in steps:
        key = b"%d" % number
        if is_put:
            memory.put(key, parsed(text, 0))
        elif memory.get(key) is None:
            continue
        used = [*(other for other in used if other != key), key][-room:]
    assert list(memory._answers) == used
    assert memory.bytes == len(used) * len(text)
