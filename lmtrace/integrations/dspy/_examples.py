"""Recorded steps of DSPy programs as `dspy.Example` objects: demos and training data out of what a program really did.

What a predictor or a program was given and what it made of it are in the store as data, whichever adapter wrote them down
for the model, so nothing has to be read out of prompts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any, Final

import dspy

from lmtrace._stored import history

_PREDICTORS: Final = "span_id IN (SELECT parent_span_id FROM calls)"
"""What makes calls itself is a predictor; modules around it hand on what it made."""

_QUERY: Final = """
WITH RECURSIVE chosen AS (
    SELECT * FROM spans WHERE kind = 'module' AND status = 'ok' AND inputs IS NOT NULL AND outputs IS NOT NULL
        AND {condition}
), above AS (
    SELECT span_id AS leaf, span_id, parent_span_id FROM chosen
    UNION ALL
    SELECT above.leaf, spans.span_id, spans.parent_span_id FROM above JOIN spans ON spans.span_id = above.parent_span_id
        WHERE spans.kind IN ('module', 'example')
), scored AS (
    SELECT above.leaf, examples.score FROM above JOIN examples ON examples.example_id = above.span_id
)
SELECT attributes ->> '$."lmtrace.dspy.signature"', CAST(inputs AS VARCHAR), CAST(outputs AS VARCHAR)
FROM chosen LEFT JOIN scored ON scored.leaf = chosen.span_id
WHERE $score IS NULL OR score >= $score ORDER BY timestamp
"""


def examples(
    scope: str | None = None,
    *,
    run: str | None = None,
    min_score: float | None = None,
    where: str = "TRUE",
    path: str | PathLike[str] | None = None,
) -> list[Any]:
    """What the modules of recorded programs were given and what they answered, oldest first, each once.

        trainset = lmtrace.dspy.examples("RAG", run="rag-v2", min_score=1.0)

    Args:
        scope: The module's place in the program, ``RAG.answer.predict``, or the program itself, ``RAG``. None for all predictors.
        run: Only of the run of this name or id.
        min_score: Only where `dspy.Evaluate` gave the example the program was run for at least this.
        where: A condition in SQL on the columns of the view `spans`.
        path: The store's folder; that of the current settings by default.

    Returns:
        `dspy.Example` objects: the fields of the signature, or a program's arguments and the fields of its answer, as plain data. Inputs are set.

    Raises:
        SettingsError: no path was given and the store is off.
        StoreError: the store cannot be read.
    """
    params: dict[str, Any] = {"score": min_score}
    terms = [_PREDICTORS if scope is None else "scope = $scope", f"({where}\n)"]
    if scope is not None:
        params |= {"scope": scope}
    if run is not None:
        terms.append("(run_name = $run OR run_id = $run)")
        params |= {"run": run}
    with history(path) as stored:
        rows = stored.sql(_QUERY.format(condition=" AND ".join(terms)), params).fetchall()
    return list(_each_once(rows))


def _each_once(rows: list[tuple[Any, ...]]) -> Iterator[Any]:
    seen = set()
    for row in rows:
        example = None if row in seen else _example(*row)
        seen.add(row)
        if example is not None:
            yield example


def _example(signature: str | None, inputs: str, outputs: str) -> Any:
    """One step as an example; None for one that was called in a way that names no fields."""
    given, made = json.loads(inputs), json.loads(outputs)
    if not (isinstance(given, Mapping) and isinstance(made, Mapping)):
        return None
    if signature is not None:
        names = [name.strip() for name in signature.partition("->")[0].split(",")]
        given = {name: given[name] for name in names if name in given}
    return dspy.Example(**{**made, **given}).with_inputs(*given)
