"""Copies, states and pickles of an LM."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

import lmtrace
from lmtrace._errors import LMConfigurationError


class Custom(lmtrace.LM):
    """A class of the user's own."""


def test_copy_is_apart(script: Any) -> None:
    """A copy has its own history, callbacks and parameters, and the same backend."""
    backend, callback = script(), object()
    lm = lmtrace.LM("openai/m", temperature=0.5, callbacks=[callback], backend=backend)
    lm("hi")
    other = lm.copy()
    other.kwargs["temperature"] = 1.0
    other.callbacks.clear()
    assert (other.history, other.backend, len(lm.history)) == ([], backend, 1)
    assert (lm.kwargs["temperature"], lm.callbacks) == (0.5, [callback])


def test_copy_with_changes(script: Any) -> None:
    """Attributes are set, everything else is a parameter, and a parameter of None is removed."""
    lm = lmtrace.LM("openai/m", temperature=0.5, top_p=0.9, backend=script())
    other = lm.copy(model="openai/other", num_retries=0, temperature=None, rollout_id=7, seed=1)
    assert (other.model, other.num_retries) == ("openai/other", 0)
    assert other.kwargs == {"max_tokens": None, "top_p": 0.9, "rollout_id": 7, "seed": 1}
    assert lm.kwargs == {"temperature": 0.5, "max_tokens": None, "top_p": 0.9}


def test_copy_keeps_methods(script: Any) -> None:
    """A parameter that is called like a method is a parameter."""
    other = lmtrace.LM("openai/m", backend=script("fine")).copy(stream=True)
    assert other.kwargs["stream"] is True
    assert list(other.stream("hi")) == ["fine"]


def test_state_builds_the_same() -> None:
    """A state goes through JSON and builds an LM with the same options."""
    lm = lmtrace.LM(
        "openai/m", "responses", 0.5, 100, cache=False, num_retries=1, use_developer_role=True, top_p=0.9,
        launch_kwargs={"a": 1}, finetuning_model="f",
    )  # fmt: skip
    state = json.loads(json.dumps(lm.dump_state()))
    again = lmtrace.LM.load_state(state)
    assert again.dump_state() == state
    assert (again.kwargs, again.model_type, again.use_developer_role) == (lm.kwargs, "responses", True)


def test_state_has_no_secrets() -> None:
    """Keys, headers, addresses with passwords and nested credentials are not in a state."""
    lm = lmtrace.LM(
        "openai/m",
        api_key="canary",
        api_base="http://u:canary@localhost/v1",
        extra_headers={"authorization": "canary"},
        extra_body={"api_key": "canary", "x": 1},
        launch_kwargs={"api_key": "canary", "gpus": 2},
        top_p=0.5,
    )
    state = lm.dump_state()
    assert "canary" not in repr(state)
    assert (state["top_p"], state["launch_kwargs"]) == (0.5, {"gpus": 2})
    assert not {"api_key", "api_base", "extra_headers", "extra_body"} & state.keys()


def test_state_of_a_reasoning_model() -> None:
    """The limit is called `max_tokens` in a state, and either name loads."""
    state = lmtrace.LM("openai/gpt-5", max_tokens=20_000).dump_state()
    assert state["max_tokens"] == 20_000
    assert "max_completion_tokens" not in state
    renamed = {name: value for name, value in state.items() if name != "max_tokens"}
    for one in (state, {**renamed, "max_completion_tokens": 20_000}):
        assert lmtrace.LM.load_state(one).kwargs["max_completion_tokens"] == 20_000


def test_states_of_dspy_load() -> None:
    """What `dspy.LM.dump_state` gives builds an `lmtrace.LM`."""
    state = {"_dspy_lm_class": "dspy.clients.lm.LM", "model": "openai/m", "model_type": "chat", "cache": True,
             "num_retries": 3, "temperature": 0.1, "max_tokens": 5, "finetuning_model": None, "launch_kwargs": {},
             "train_kwargs": {}}  # fmt: skip
    lm = lmtrace.LM.load_state(state)
    assert (type(lm), lm.model, lm.kwargs) == (lmtrace.LM, "openai/m", {"temperature": 0.1, "max_tokens": 5})
    assert state["_dspy_lm_class"], "the state passed in is left alone"


def test_other_classes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that names another class is refused before anything is imported, unless that is allowed."""
    (tmp_path / "custom_lm_module.py").write_text(
        "import lmtrace\nclass Theirs(lmtrace.LM):\n    'Theirs.'\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    state = {"_lmtrace_lm_class": "custom_lm_module.Theirs", "model": "openai/m"}
    with pytest.raises(LMConfigurationError, match="allow_custom_lm_class=True"):
        lmtrace.LM.load_state(state)
    assert "custom_lm_module" not in sys.modules
    loaded = lmtrace.LM.load_state(state, allow_custom_lm_class=True)
    assert type(loaded).__name__ == "Theirs"
    monkeypatch.delitem(sys.modules, "custom_lm_module")


def test_a_class_loads_its_own() -> None:
    """A subclass loads its own states, and those of `lmtrace.LM`, without further ado."""
    state = Custom("openai/m").dump_state()
    assert state["_lmtrace_lm_class"].endswith("Custom")
    assert type(Custom.load_state(state)) is Custom
    assert type(Custom.load_state(lmtrace.LM("openai/m").dump_state())) is Custom


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ({"_lmtrace_lm_class": "no_such_module.LM", "model": "m"}, "cannot be imported"),
        ({"_lmtrace_lm_class": "lmtrace.LMError", "model": "m"}, "not a subclass"),
        ({"_lmtrace_lm_class": "not a path!", "model": "m"}, "cannot be imported"),
        ({"model_type": "chat"}, "no model"),
    ],
)
def test_broken_states_are_refused(state: dict[str, Any], word: str) -> None:
    """A state no LM can be built from is refused with the reason."""
    with pytest.raises(LMConfigurationError, match=word):
        lmtrace.LM.load_state(state, allow_custom_lm_class=True)


@pytest.mark.parametrize(
    "through", [lambda lm: pickle.loads(pickle.dumps(lm)), copy.deepcopy, copy.copy], ids=["pickle", "deepcopy", "copy"]
)
def test_lms_can_be_pickled(through: Any) -> None:
    """An LM goes to other processes and into deep copies of programs, used or not."""
    lm = lmtrace.LM("openai/m", temperature=0.5)
    assert through(lm).dump_state() == lm.dump_state()
