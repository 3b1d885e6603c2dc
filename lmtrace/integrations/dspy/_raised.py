"""Recorded errors as the classes that DSPy raised: its own, LiteLLM's, or plain ones of Python.

A name in a recording is looked up among the public exceptions of DSPy and LiteLLM and nowhere else: a recording may come
from anybody.
"""

from __future__ import annotations

import inspect
from typing import Any, Final

from lmtrace import _serving
from lmtrace._data import LMRequest
from lmtrace._entry import CallError
from lmtrace._errors import LMError, LMTraceError

_HOMES: Final = ("dspy.utils.exceptions.", "dspy.clients.")
"""Where DSPy's exceptions are defined."""


def dspy_error(recorded: CallError, request: LMRequest) -> Exception:
    """The exception DSPy raised when the call was recorded, marked as one of a replay."""
    cls = _class(recorded)
    if cls is None:
        from lmtrace.integrations.litellm._raised import litellm_error

        return litellm_error(recorded, request)
    error = cls(**_arguments(cls, recorded, request))
    setattr(error, _serving.SERVED_BY, "replay")
    return error  # type: ignore[no-any-return]


def _class(recorded: CallError) -> Any:
    """DSPy's class of that name, where the error was one of DSPy's."""
    if not recorded.type.startswith(_HOMES):
        return None
    from dspy.utils import exceptions

    found = vars(exceptions).get(recorded.type.rpartition(".")[2])
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def _arguments(cls: Any, recorded: CallError, request: LMRequest) -> dict[str, Any]:
    model, message = _parts(recorded.message or "", request.model)
    values = {
        "message": message,
        "model": model,
        "provider": request.provider,
        "status": recorded.status,
        "retry_after": recorded.retry_after,
    }
    parameters = inspect.signature(cls).parameters
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return values
    return {name: values[name] for name in parameters if name in values}


def _parts(text: str, model: str) -> tuple[str, str]:
    """The model, as the exception named it before its message, and the message."""
    named, bracket, message = text.removeprefix("[").partition("] ")
    return (named, message) if text.startswith("[") and bracket and model.endswith(named) else (model, text)


_FACTS: Final = (
    "message",
    "code",
    "model",
    "provider",
    "provider_code",
    "status",
    "request_id",
    "retry_after",
    "features",
)


def public_error(error: LMError) -> Exception | None:
    """DSPy's exception of the name of one of `lmtrace.LM`'s, or of its nearest base; None where this version has none."""
    from dspy.utils import exceptions

    bases = (vars(exceptions).get(cls.__name__) for cls in type(error).__mro__[: -len(LMTraceError.__mro__)])
    cls: Any = next((cls for cls in bases if cls is not None), None)
    if cls is None:
        return None
    known = {name: value for name in _FACTS if (value := getattr(error, name, None)) is not None}
    parameters = inspect.signature(cls).parameters
    if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        known = {name: value for name, value in known.items() if name in parameters}
    elif "features" not in parameters:
        known.pop("features", None)
    made: Exception = cls(**known)
    return made
