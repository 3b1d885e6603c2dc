"""What goes out of an LM and what comes back, shared by its sync, async and streamed calls; nothing here waits."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from lmtrace import _options, _secrets
from lmtrace._caching import name_of
from lmtrace._data import LMRequest, LMResponse
from lmtrace._entry import dspy_outputs
from lmtrace._errors import LMConfigurationError
from lmtrace._providers import UNKNOWN, identity
from lmtrace._quick import new_request

if TYPE_CHECKING:
    from lmtrace._lm import LM

logger: Final = logging.getLogger("lmtrace")

_FIXED: Final = frozenset(_options.OPTIONS) - {"temperature", "max_tokens", "cache", "rollout_id"}
"""Options that belong to an LM as a whole."""


def build_request(
    lm: LM, prompt: str | None, messages: Any, call: dict[str, Any], *, stream: bool | None = None
) -> tuple[LMRequest, dict[str, Any]]:
    """The request of one call, and the credentials that travel beside it.

    Args:
        lm: Whose defaults hold where `call` says nothing.
        prompt: The text of a single user message; not used when there are messages.
        messages: The messages, as the user wrote them.
        call: The parameters of this call; may be changed.
        stream: Whether to stream; what the parameters say when None.
    """
    _check_call(call)
    cache = call.pop("cache", lm.cache)
    kwargs = {**lm.kwargs, **call}
    asked_to_stream = kwargs.pop("stream", False)
    if "rollout_id" in kwargs:
        _check_rollout(lm, kwargs)
    safe, secrets = _secrets.split(kwargs)
    provider = identity(lm.model)[0]
    address, port = _address(safe.get("api_base") or safe.get("base_url"))
    request = new_request(
        model=lm.model,
        model_type=lm.model_type,
        messages=_messages(lm, messages) if messages else [{"role": "user", "content": prompt}],
        prompt=None if messages else prompt,
        kwargs=safe,
        stream=bool(asked_to_stream) if stream is None else stream,
        provider=None if provider == UNKNOWN else provider,
        server_address=address,
        server_port=port,
        metadata={"cache": True, "cache_name": name_of(lm.backend)} if cache else {"cache": False},
    )
    return request, secrets


def _check_call(call: Mapping[str, Any]) -> None:
    if not call:
        return
    _options.check_names(call)
    if not _FIXED.isdisjoint(call):
        name = next(name for name in call if name in _FIXED)
        raise LMConfigurationError(f"{name} belongs to the LM, not to one call; use lm.copy({name}=...).")


def _check_rollout(lm: LM, kwargs: dict[str, Any]) -> None:
    """A rollout of None is none; one at temperature 0 gives the answer it would give without."""
    if kwargs["rollout_id"] is None:
        del kwargs["rollout_id"]
    else:
        warn_zero_temperature(lm, kwargs)


def warn_zero_temperature(lm: LM, kwargs: Mapping[str, Any]) -> None:
    """Warn, once for each LM, that a rollout id changes nothing at temperature 0."""
    if lm._warned_zero_temp_rollout or kwargs.get("rollout_id") is None or kwargs.get("temperature") != 0:
        return
    lm._warned_zero_temp_rollout = True
    message = "rollout_id has no effect on the answer at temperature=0; pass a temperature above 0 to get another one."
    warnings.warn(message, UserWarning, stacklevel=_level_of_user())


def _level_of_user() -> int:
    """The `stacklevel` for `warnings.warn` in the caller of this function that names the first line outside lmtrace."""
    level, frame = 0, sys._getframe(0)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("lmtrace."):
        level, frame = level + 1, frame.f_back
    return level


def _messages(lm: LM, messages: Any) -> Any:
    """The messages, for the Responses API with ``developer`` in place of ``system`` when that is wanted."""
    if not (lm.use_developer_role and lm.model_type == "responses"):
        return messages
    return [_as_developer(message) for message in messages]


def _as_developer(message: Any) -> Any:
    if isinstance(message, Mapping) and message.get("role") == "system":
        return {**message, "role": "developer"}
    return message


@lru_cache(maxsize=1024)
def _address(url: str | None) -> tuple[str | None, int | None]:
    """Host and port of the server, when the user names it."""
    if not isinstance(url, str):
        return None, None
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return None, None


def outputs_of(response: LMResponse) -> list[str | dict[str, Any]]:
    """The candidates as a call returns them."""
    return dspy_outputs(response.outputs)


def warn_truncated(response: LMResponse, request: LMRequest) -> None:
    """Log that an answer was cut off, with what to do about it."""
    for output in response.outputs:
        if output.truncated:
            break
    else:
        return
    kwargs = request.kwargs
    limits = (kwargs.get(name) for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"))
    logger.warning(
        "The answer of %s was cut off at max_tokens=%s. `lmtrace.inspect_history()` shows it. A larger max_tokens avoids "
        "this; if the model repeats itself, so may a higher temperature (now %s).",
        request.model,
        next((limit for limit in limits if limit is not None), None),
        kwargs.get("temperature"),
    )
