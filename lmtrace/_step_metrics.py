"""Durations of tools, agents, workflows and retrievals, measured away from the program as those of calls are."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from lmtrace import _semconv as names
from lmtrace._deferred import Deferred

_logger = logging.getLogger(__name__)

_MEASURED: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "execute_tool": (names.TOOL_DURATION, (names.TOOL_NAME, names.TOOL_TYPE)),
    "invoke_agent": (names.AGENT_DURATION, (names.AGENT_NAME,)),
    "invoke_workflow": (names.WORKFLOW_DURATION, (names.WORKFLOW_NAME,)),
    "retrieval": (names.OPERATION_DURATION, (names.OPERATION_NAME, names.SERVER_ADDRESS, names.SERVER_PORT)),
}
"""For each operation: its metric, and the attributes of the span that the metric has as well."""


class _Step(NamedTuple):
    record: Callable[..., None]
    seconds: float
    attributes: Mapping[str, Any]


def measure(
    instruments: Mapping[str, Callable[..., None]], attributes: Mapping[str, Any], duration_ms: float, error: str | None
) -> None:
    """Note a finished step; what the conventions have no metric for is none.

    Args:
        instruments: What records, by the name of the metric.
        attributes: Those of the span.
        duration_ms: How long it took.
        error: The type of the error, if it failed.
    """
    described = _MEASURED.get(attributes.get(names.OPERATION_NAME, ""))
    if described is None or described[0] not in instruments:
        return
    shared = {name: attributes[name] for name in described[1] if name in attributes}
    if error is not None:
        shared[names.ERROR_TYPE] = error
    _queue.put(_Step(instruments[described[0]], duration_ms / 1000, shared))


def drain(deadline: float = math.inf) -> bool:
    """Turn everything noted so far into measurements, until `deadline` (monotonic seconds); tell whether that was all."""
    return _queue.drain_until(deadline)


def _measure_all(steps: Sequence[_Step]) -> None:
    for step in steps:
        try:
            step.record(step.seconds, step.attributes)
        except Exception:
            _logger.warning("lmtrace could not record the metrics of a step", exc_info=True)


_queue: Final[Deferred[_Step]] = Deferred(_measure_all)
