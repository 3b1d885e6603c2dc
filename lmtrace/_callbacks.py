"""Callbacks around an LM call, in DSPy's shape: any object with `on_lm_start` and `on_lm_end`.

A callback observes. What it raises is logged and never reaches the call, and LM calls it makes itself have no callbacks, so
that none can call itself for ever.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Self

from lmtrace import _settings

logger: Final = logging.getLogger("lmtrace")

_inside: ContextVar[bool] = ContextVar("lmtrace.inside_callback", default=False)


def callbacks_of(own: Sequence[Any] | None) -> tuple[Any, ...]:
    """The callbacks of a call: those of the settings, then the LM's `own`; none inside a callback."""
    common = _settings.current().callbacks
    if not common and not own:
        return ()
    return () if _inside.get() else (*common, *(own or ()))


class Notices:
    """The callbacks of one call: told once that it began, and once how it ended.

    As a context manager it tells the end by itself: `outputs`, or the exception that leaves the block.
    """

    def __init__(self, callbacks: Sequence[Any], instance: Any, inputs: Mapping[str, Any]) -> None:
        self._callbacks = callbacks
        self.call_id: Final = uuid.uuid4().hex
        self.outputs: Any = None
        self._ended = False
        self._tell("on_lm_start", instance=instance, inputs=dict(inputs))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end(self.outputs, error)

    def end(self, outputs: Any, exception: BaseException | None = None) -> None:
        """Tell how the call ended; only the first time counts."""
        if not self._ended:
            self._ended = True
            self._tell("on_lm_end", outputs=outputs, exception=exception)

    def _tell(self, method: str, **arguments: Any) -> None:
        token = _inside.set(True)
        try:
            for callback in self._callbacks:
                self._tell_one(callback, method, arguments)
        finally:
            _inside.reset(token)

    def _tell_one(self, callback: Any, method: str, arguments: Mapping[str, Any]) -> None:
        handler = getattr(callback, method, None)
        if handler is None:
            return
        try:
            handler(call_id=self.call_id, **arguments)
        except Exception as error:
            # The type alone: a message may hold what the model said.
            name = type(callback).__name__
            logger.warning("lmtrace: %s.%s failed (%s); the LM call goes on.", name, method, type(error).__name__)
