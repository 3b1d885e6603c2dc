"""A wrapper for trio: each of its tasks has its own label, whoever starts it; anyio's task groups end here, too.

Every task of trio, whatever starts it, is made by one method of its runner. Instruments would see them as well, but each
run has its own, and `trio.run` is bound by name in the programs that call it.
"""

from __future__ import annotations

import functools
from typing import Any

from lmtrace import _paths
from lmtrace.integrations._patching import Function, Switch
from lmtrace.integrations.tasks import _children


def wrap_spawn(original: Function, switch: Switch) -> Function:
    """For `Runner.spawn_impl`. No task runs before it returns."""

    @functools.wraps(original)
    def spawn_impl(self: Any, async_fn: Any, args: Any, nursery: Any, *rest: Any, **options: Any) -> Any:
        is_system = bool(options.get("system_task"))
        branch = _branch(self, async_fn, args, nursery, is_system=is_system) if switch.is_on else None
        task = original(self, async_fn, args, nursery, *rest, **options)
        if branch is not None:
            branch.enter(task.context)
            _paths.assign(task, branch)
        return task

    return spawn_impl


def _branch(runner: Any, function: Any, args: Any, nursery: Any, *, is_system: bool) -> _paths.Branch | None:
    """The branch of a new task; None for trio's own, where code runs in the contexts of others."""
    if nursery is None:  # trio's first task, which starts the program's first
        return _children.of_function(args[0])
    if is_system:
        return None
    return _paths.here() if nursery.parent_task is runner.init_task else _children.of_function(function)
