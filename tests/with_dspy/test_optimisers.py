"""Whole optimisations, recorded once against a provider that never says the same twice, and replayed in a fresh process."""

from __future__ import annotations

import importlib.util
import json
import random
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from lmtrace.testing import LoopbackProvider, ReceivedRequest, Reply

PROGRAM = Path(__file__).parent / "programs" / "optimise.py"
FIELD = re.compile(r"\[\[ ## (\w+) ## \]\]")
LEAST = 16 * 2
"""Requests of an evaluation alone: its questions, by the predictors that each is put to."""
NEEDS = {"mipro": ("optuna", "numpy"), "simba": ("numpy",), "gepa": ("gepa",)}


def answer(request: ReceivedRequest) -> Reply:
    """Some value for each field that is asked for, or a new instruction where there are no fields."""
    text = str(request.json["messages"][-1]["content"])
    asked = text.rpartition("Respond with the corresponding output fields")[2] if "Respond with" in text else ""
    names = [name for name in FIELD.findall(asked) if name != "completed"]
    if not names:
        return Reply(text=f"```\nThink of {uuid.uuid4()}, then answer.\n```")
    fields = [f"[[ ## {name} ## ]]\n{value(name)}" for name in names]
    return Reply(text="\n\n".join([*fields, "[[ ## completed ## ]]"]))


def value(name: str) -> str:
    if name == "answer":
        return random.choice(("yes", "no"))
    if name == "module_advice":
        return json.dumps({"think": f"Think of {uuid.uuid4()}.", "reply.predict": "Be brief."})
    return f"something about {uuid.uuid4()}"


def run(folder: Path, name: str, cache: str, mode: str, address: str) -> dict[str, Any]:
    """The program in a process of its own; returns what it wrote down."""
    results = folder / f"{mode}.json"
    command = [sys.executable, PROGRAM, name, cache, mode, folder / "c.cassette", results, address]
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, timeout=280, check=False)
    assert not done.returncode, done.stderr[-5000:]
    outcome: dict[str, Any] = json.loads(results.read_text())
    return outcome


SLOW = pytest.mark.slow


@pytest.mark.parametrize("cache", ["cache", "no cache"])
@pytest.mark.parametrize(
    "name",
    [
        "best_of_n",
        pytest.param("random_search", marks=SLOW),
        pytest.param("mipro", marks=SLOW),
        pytest.param("simba", marks=SLOW),
        pytest.param("gepa", marks=SLOW),
    ],
)
@pytest.mark.timeout(600)
def test_the_same_again(name: str, cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Optimised state and evaluated answers are equal to the last byte, without a provider, in eight threads."""
    lacking = [module for module in NEEDS.get(name, ()) if importlib.util.find_spec(module) is None]
    if lacking:
        pytest.skip(f"{name} needs {', '.join(lacking)}")
    monkeypatch.delenv("CI", raising=False)
    with LoopbackProvider() as provider:
        provider.respond(answer)
        recorded = run(tmp_path, name, cache, "rewrite", provider.openai_base)
        asked = len(provider.requests)
    replayed = run(tmp_path, name, cache, "replay", provider.openai_base)
    assert asked >= LEAST
    assert replayed["calls"] == recorded["calls"]
    for part in ("state", "score", "answers"):
        assert json.dumps(replayed[part]) == json.dumps(recorded[part])
