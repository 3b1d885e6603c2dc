"""Callbacks in DSPy's shape: when they are told, what, and that they cannot do harm."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import lmtrace
from lmtrace._errors import LMInvalidRequestError, LMUnexpectedError


class Listener:
    """Remembers everything it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self.told.append(("start", {"call_id": call_id, "instance": instance, "inputs": inputs}))

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        self.told.append(("end", {"call_id": call_id, "outputs": outputs, "exception": exception}))


def test_told_before_and_after(way: Any, script: Any) -> None:
    """A callback is told the arguments before, and the outputs after, under one id."""
    listener = Listener()
    lm = lmtrace.LM("openai/m", callbacks=[listener], backend=script("fine"))
    way.call(lm, "hi", temperature=0.2)
    (_, start), (_, end) = listener.told
    assert start["instance"] is lm
    assert start["inputs"] == {"prompt": "hi", "messages": None, "kwargs": {"temperature": 0.2}}
    assert end == {"call_id": start["call_id"], "outputs": ["fine"], "exception": None}


def test_told_of_failures(way: Any, script: Any) -> None:
    """A failed call is told with the error the caller gets."""
    listener = Listener()
    with pytest.raises(LMUnexpectedError) as caught:
        way.call(lmtrace.LM("openai/m", callbacks=[listener], backend=script(ValueError("no"))), "hi")
    assert listener.told[-1][1]["exception"] is caught.value
    assert listener.told[-1][1]["outputs"] is None


def test_told_of_refusals(way: Any, script: Any) -> None:
    """A call that is refused before it is sent is told as well."""
    listener = Listener()
    with pytest.raises(lmtrace.UnknownOptionError):
        way.call(lmtrace.LM("openai/m", callbacks=[listener], backend=script()), "hi", temprature=1)
    assert [what for what, _ in listener.told] == ["start", "end"]


def test_told_of_streams(way: Any, script: Any) -> None:
    """A stream is told when it is made, and when it ends: whole, failed, or left early."""
    listener = Listener()
    backend = script(["a", "b"], ["a", ValueError("no")], ["a", "b"])
    lm = lmtrace.LM("openai/m", cache=False, callbacks=[listener], backend=backend)
    way.stream(lm, "hi")
    with pytest.raises(LMUnexpectedError):
        way.stream(lm, "hi")
    way.stop_after(1, lm, "hi")
    assert [what for what, _ in listener.told] == ["start", "end"] * 3
    ends = [told for what, told in listener.told if what == "end"]
    assert [end["outputs"] for end in ends] == [["ab"], None, None]
    assert [type(end["exception"]) for end in ends] == [type(None), LMUnexpectedError, type(None)]


def test_settings_have_callbacks_too(way: Any, script: Any) -> None:
    """Callbacks of the settings are told of every LM's calls, before the LM's own."""
    order: list[str] = []

    class Named(Listener):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            order.append(self.name)

    lmtrace.configure(callbacks=[Named("settings")])
    way.call(lmtrace.LM("openai/m", callbacks=[Named("own")], backend=script()), "hi")
    assert order == ["settings", "own"]


def test_their_errors_are_logged(way: Any, script: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What a callback raises is logged without its text, the others are told, and the call goes on."""

    class Broken(Listener):
        def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            raise RuntimeError("canary")

        def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
            raise RuntimeError("canary")

    listener = Listener()
    lm = lmtrace.LM("openai/m", callbacks=[Broken(), listener], backend=script("fine"))
    assert way.call(lm, "hi") == ["fine"]
    assert len(listener.told) == 2
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "Broken.on_lm_start" in caplog.text
    assert "canary" not in caplog.text


def test_half_a_callback_will_do(way: Any, script: Any) -> None:
    """A callback that has one of the two methods is told that much."""

    class OnlyEnd:
        outputs: Any = None

        def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None) -> None:
            self.outputs = outputs

    half = OnlyEnd()
    way.call(lmtrace.LM("openai/m", callbacks=[half], backend=script("fine")), "hi")
    assert half.outputs == ["fine"]


def test_a_callback_may_call_the_lm(way: Any, script: Any) -> None:
    """An LM call made by a callback is recorded and has no callbacks, so nothing goes round in circles."""

    class Curious(Listener):
        def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            super().on_lm_start(call_id, instance, inputs)
            instance("what is this?")

    curious = Curious()
    lm = lmtrace.LM("openai/m", callbacks=[curious], backend=script("fine"))
    assert way.call(lm, "hi") == ["fine"]
    assert len(curious.told) == 2
    assert [entry["prompt"] for entry in lm.history] == ["what is this?", "hi"]


def test_threads_are_told_apart(script: Any) -> None:
    """Each of many concurrent calls has an id of its own, told twice."""
    listener = Listener()
    lm = lmtrace.LM("openai/m", callbacks=[listener], backend=script())
    threads = [threading.Thread(target=lm, args=("hi",)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [told["call_id"] for _, told in listener.told]
    assert len(set(ids)) == 16
    assert all(ids.count(one) == 2 for one in ids)


def test_forward_tells_nobody(way: Any, script: Any) -> None:
    """Callbacks stand around calls, as in DSPy; `forward` is below them."""
    listener = Listener()
    lm = lmtrace.LM("openai/m", callbacks=[listener], backend=script(LMInvalidRequestError("no")))
    with pytest.raises(LMInvalidRequestError):
        way.forward(lm, "hi")
    assert listener.told == []
