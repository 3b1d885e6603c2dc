"""Raw data of DSPy's own engine is recorded without the texts it repeats, and comes back as it was."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from lmtrace.integrations.dspy import _lm15_raw

LONG = "a text that is worth a number"
TEXTS = st.lists(st.none() | st.sampled_from(["short", LONG, LONG + "!"]), max_size=3)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["short", LONG, LONG + "!", "another text, of its own"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "lm15.part"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["a", "b"]), VALUES), TEXTS)
@example({"a": {"lm15.part": 0}}, [LONG])
@example({"a": None}, [LONG])
def test_comes_back(raw: dict[str, Any], texts: list[str | None]) -> None:
    """Whatever the provider sent, also fields of the name that stands for parts."""
    kept = _lm15_raw.kept(raw, texts)
    assert _lm15_raw.given({"usage": {}, **kept}, texts) == {"usage": {}, "provider_data": raw}


def test_says_nothing_twice() -> None:
    """A long text of the answer is not in it; a provider that sent nothing leaves nothing."""
    assert LONG not in str(_lm15_raw.kept({"choices": [{"message": {"content": LONG}}]}, [None, LONG]))
    assert _lm15_raw.kept(None, [LONG]) == {}
