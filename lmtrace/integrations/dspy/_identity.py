"""What makes a program of DSPy the candidate it is: the instructions, fields and few-shot examples of its predictors.

Two candidates with the same hashes ask their LMs the same, whichever optimiser or process made them.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from lmtrace import _semconv as names
from lmtrace import _wire
from lmtrace.integrations.dspy._plain import plain

HASH_LENGTH = 12
"""Hexadecimal digits that are kept: enough to tell the candidates of a store apart, and short enough for a person."""


def predictors_of(program: Any) -> dict[str, dict[str, Any]]:
    """Instructions, fields and examples of each predictor by its name; of something that is no module, nothing."""
    named = getattr(program, "named_predictors", None)
    if not callable(named):
        return {}
    return {name: {**_signature(predictor), "demos": plain(list(predictor.demos))} for name, predictor in named()}


def _signature(predictor: Any) -> dict[str, Any]:
    signature = predictor.signature
    fields = {
        name: {key: (field.json_schema_extra or {}).get(key) for key in ("prefix", "desc")}
        for name, field in signature.fields.items()
    }
    return {"instructions": signature.instructions, "fields": fields}


def identity_of(predictors: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The hashes and the number of examples, as attributes."""
    if not predictors:
        return {}
    told = {name: {key: value for key, value in one.items() if key != "demos"} for name, one in predictors.items()}
    shown = {name: one["demos"] for name, one in predictors.items()}
    return {
        names.CANDIDATE_INSTRUCTIONS: _hash(told),
        names.CANDIDATE_DEMOS_HASH: _hash(shown),
        names.CANDIDATE_DEMOS: sum(len(demos) for demos in shown.values()),
    }


def _hash(value: Any) -> str:
    text = json.dumps(_wire.encode(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]
