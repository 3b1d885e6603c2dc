"""`inspect_history`: what a person reads, and what a terminal is never sent."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import lmtrace
from lmtrace import LMOutput, _history
from lmtrace._data import LMTextPart, LMToolCallPart


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    _history.clear()
    yield
    _history.clear()


def shown(history: list[Any], n: int = 1) -> str:
    out = io.StringIO()
    lm = lmtrace.LM("openai/m")
    lm.history = history
    lm.inspect_history(n, file=out)
    return out.getvalue()


def test_a_call_is_readable(script: Any) -> None:
    """The newest call is shown with its messages, answer, tokens, cost and rollout."""
    lm = lmtrace.LM("openai/m", temperature=1.0, backend=script("older", "The answer."))
    lm("before")
    lm(messages=[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}], rollout_id=3)
    out = io.StringIO()
    lm.inspect_history(file=out)
    text = out.getvalue()
    for piece in ("openai/m", "3→2 tokens", "cost $0.0010", "rollout 3", "System message:\nBe kind.", "User message:\nWhy?",
                  "Response:\nThe answer."):  # fmt: skip
        assert piece in text
    assert "before" not in text
    assert "\x1b" not in text


def test_the_global_history(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The module's function shows the newest calls of all LMs, oldest first, on standard output."""
    for name in ("a", "b", "c"):
        lmtrace.LM(f"openai/{name}", backend=script())("hi")
    lmtrace.inspect_history(2)
    printed = capsys.readouterr().out
    assert "openai/a" not in printed
    assert printed.index("openai/b") < printed.index("openai/c")


@pytest.mark.parametrize("n", [0, 5])
def test_any_number_will_do(script: Any, n: int) -> None:
    """Asking for none shows none, asking for more than there are shows all."""
    lm = lmtrace.LM("openai/m", backend=script())
    lm("hi")
    assert shown(lm.history, n).count("Response:") == min(n, 1)


def test_media_are_summarised() -> None:
    """Images, recordings and files are named with their size, not printed."""
    data = "A" * 5_000
    content = [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
        {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": data}},
        {"type": "novelty", "stuff": 1},
    ]
    text = shown([{"messages": [{"role": "user", "content": content}], "outputs": ["ok"], "model": "m"}])
    assert data not in text
    for piece in ("Look:", "<image: data:image/png;base64, 5,000 characters>", "<image: https://example.com/cat.png>",
                  "<audio: wav, 5,000 characters>", "<file: a.pdf, 5,000 characters>", "<novelty>"):  # fmt: skip
        assert piece in text


def test_tool_calls_and_reasoning(script: Any, respond: Any) -> None:
    """Tool calls are shown as calls, in answers and in messages; several candidates are numbered."""
    call = LMToolCallPart(id="c", name="weather", arguments='{"city": "Oslo"}')
    lm = lmtrace.LM("openai/m", backend=script(respond("x", outputs=(
        LMOutput(parts=(call,)), LMOutput(parts=(LMTextPart("sunny"),)),
    ))))  # fmt: skip
    asked = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "now", "arguments": "{}"}}]}
    lm(messages=[asked])
    text = shown(lm.history)
    for piece in ("now({})", 'Tool calls 1 of 2:\nweather({"city": "Oslo"})', "Response 2 of 2:\nsunny"):
        assert piece in text


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"prompt": "p", "messages": None, "outputs": ["text"], "kwargs": {}, "usage": {}, "cost": None},
        {"prompt": None, "messages": "the input of a Responses call", "outputs": [{"text": "t"}]},
        {"messages": [42, {"type": "function_call_output", "output": "x"}], "outputs": [{"tool_calls": [object()]}]},
        {
            "messages": [{"role": "user", "content": [None, 1, {"type": "file"}, {"type": "image_url"}]}],
            "outputs": None,
        },
    ],
)
def test_any_entry_will_do(entry: dict[str, Any]) -> None:
    """A dictionary of DSPy's shape, a poor one, or an odd one is shown as far as it goes."""
    assert shown([entry]).startswith("\n[")


def test_unknown_costs_say_so() -> None:
    """A cost that is not known is never shown as 0."""
    assert "cost unknown" in shown([{"model": "m", "messages": [], "outputs": ["x"], "cost": None}])


NASTY = "\x1b[31mred\x1b[0m \x07 \x9b2J \u202eabc \ud800"


def test_terminals_get_no_control_characters(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the escape sequences of a model are shown; the colours are ours alone."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    lm = lmtrace.LM("openai/m", backend=script(NASTY))
    lm(NASTY)
    lm.inspect_history()
    printed = terminal.getvalue()
    assert "\\x1b[31mred\\x1b[0m \\x07 \\x9b2J \\u202eabc \\ud800" in printed
    assert not {"\x07", "\x9b", "\u202e", "\ud800"} & set(printed)
    assert "\x1b[32m" in printed
    assert "\x1b[31mred" not in printed


def test_colours_can_be_off(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR, a pipe and a `file` each mean no colours; a terminal passed as a file is still protected."""
    lm = lmtrace.LM("openai/m", backend=script(NASTY))
    lm("hi")
    passed, standard = Terminal(), Terminal()
    lm.inspect_history(file=passed)
    monkeypatch.setattr(sys, "stdout", standard)
    monkeypatch.setenv("NO_COLOR", "1")
    lm.inspect_history()
    assert "\x1b" not in passed.getvalue() + standard.getvalue()


def test_narrow_outputs_do_not_fail(script: Any) -> None:
    """An output that cannot hold a character gets its escape instead of an error."""
    raw = io.BytesIO()
    lm = lmtrace.LM("openai/m", backend=script("naïve \ud800"))
    lm("hi")
    out = io.TextIOWrapper(raw, encoding="ascii")
    lm.inspect_history(file=out)
    out.flush()
    assert b"na\\xefve \\ud800" in raw.getvalue()
