"""What calls with the same model and parameters share: remembered, and never taken for that of others."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtrace import LMRequest
from lmtrace import _shape as shapes
from lmtrace._keys import framed_key, plain_messages, request_key

MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins with an empty memory."""
    monkeypatch.setattr(shapes, "_known", {})


def request(**kwargs: object) -> LMRequest:
    return LMRequest(model="openai/gpt-4o-mini", messages=MESSAGES, kwargs=kwargs)


def test_equal_parameters_share_one() -> None:
    """The second call with a combination finds what was worked out for the first."""
    assert shapes.shape_of(request(temperature=0.7)) is shapes.shape_of(request(temperature=0.7))


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (1, True), (0.0, -0.0), ("1", 1), (0, False)], ids=repr)
def test_equal_values_of_different_types_do_not(one: object, other: object) -> None:
    """What Python takes for equal and JSON does not is recorded as it was given."""
    first, second = shapes.shape_of(request(seed=one)), shapes.shape_of(request(seed=other))
    assert (orjson.loads(first.kwargs)["seed"], orjson.loads(second.kwargs)["seed"]) == (one, other)
    assert first.kwargs != second.kwargs


def test_parameters_with_something_inside_are_worked_out_each_time() -> None:
    """A list may be changed between two calls."""
    stop = ["a"]
    first = shapes.shape_of(request(stop=stop))
    stop.append("b")
    assert (first.kwargs, shapes.shape_of(request(stop=stop)).kwargs) == (b'{"stop":["a"]}', b'{"stop":["a","b"]}')


def test_the_memory_is_bounded() -> None:
    """A parameter that is another one in each call, and one that is long, cost no memory."""
    for number in range(3 * shapes._REMEMBERED):
        shapes.shape_of(request(seed=number))
    known = len(shapes._known)
    assert known <= shapes._REMEMBERED
    shapes.shape_of(request(suffix="x" * 2_000))
    assert len(shapes._known) == known


@given(st.dictionaries(st.text(max_size=10), SCALARS, max_size=4))
def test_the_key_is_the_same_either_way(kwargs: dict[str, object]) -> None:
    """A key put together from a shape is the one `request_key` gives."""
    asked = request(**kwargs) if all(name.isidentifier() for name in kwargs) else request()
    text = plain_messages(MESSAGES)
    assert text is not None
    for _ in range(2):
        assert framed_key(shapes.shape_of(asked).frame, text) == request_key(asked)


@given(SCALARS)
def test_parameters_are_as_serialised_alone(value: object) -> None:
    """What is remembered of a value is what the value itself gives."""
    asked = request(anything=value)
    remembered = [shapes.shape_of(asked).kwargs for _ in range(2)]
    assert remembered == [shapes._work_out(asked).kwargs] * 2
