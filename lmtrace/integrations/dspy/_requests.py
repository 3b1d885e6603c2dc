"""What a DSPy program asked an LM for: the messages as DSPy sends them, and the parameters that are in effect."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from lmtrace import _secrets
from lmtrace._data import LMRequest, ModelType
from lmtrace._quick import new_request
from lmtrace.integrations.dspy import _typed
from lmtrace.integrations.dspy._store_cache import wishes
from lmtrace.integrations.litellm._facts import facts

_MODEL_TYPES: Mapping[str, ModelType] = {"chat": "chat", "text": "text", "responses": "responses"}


def read(lm: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[LMRequest, dict[str, Any]]:
    """The request of one call and the credentials that travel beside it.

    Args:
        lm: Whose defaults hold where the call says nothing; a copy made with ``lm.copy(rollout_id=…)`` has it there.
        args: What was given by position: a prompt, or a typed request.
        kwargs: The rest of the call.
    """
    parameters = {**lm.kwargs, **kwargs}
    prompt, messages, typed = kwargs.get("prompt"), kwargs.get("messages"), kwargs.get("request")
    cache = kwargs.get("cache", getattr(lm, "cache", False)) and _has_cache(lm)
    for name in _NO_PARAMETERS.intersection(kwargs):
        del parameters[name]
    if args:
        prompt, messages = args[0], args[1] if len(args) > 1 else messages
    if typed is not None or not _is_plain(prompt, args):
        messages, shown = _typed.read(lm, args or (prompt if typed is None else typed,), parameters)
        prompt, parameters = None, {**parameters, **shown}
    stream = _settings().send_stream is not None  # to listeners of the program
    return _request(lm, prompt, messages, parameters, stream=stream, cache=bool(cache))


_NO_PARAMETERS: Final = frozenset({"prompt", "messages", "request", "cache"})


def _is_plain(prompt: Any, args: tuple[Any, ...]) -> bool:
    """Whether a prompt is one, with nothing after it but the messages that DSPy 3.2 takes there."""
    return (prompt is None or isinstance(prompt, str)) and (
        len(args) < 2 or args[1] is None or isinstance(args[1], list)
    )


def _request(
    lm: Any, prompt: str | None, messages: Any, parameters: dict[str, Any], *, stream: bool, cache: bool
) -> tuple[LMRequest, dict[str, Any]]:
    safe, secrets = _secrets.split({name: value for name, value in parameters.items() if value is not None})
    known = facts(lm.model, safe.get("api_base") or safe.get("base_url"), None)
    request = new_request(
        model=lm.model,
        model_type=_MODEL_TYPES.get(getattr(lm, "model_type", "chat"), "chat"),
        messages=_messages(lm, messages) if messages else [{"role": "user", "content": prompt}],
        prompt=None if messages else prompt,
        kwargs=safe,
        stream=stream,
        provider=known.provider,
        server_address=known.server_address,
        server_port=known.server_port,
        metadata=wishes(lm, cache=cache),
    )
    return request, secrets


def _messages(lm: Any, messages: Any) -> Any:
    """The messages, with the role of a developer where the LM renames the system to it."""
    if not (getattr(lm, "use_developer_role", False) and lm.model_type == "responses"):
        return messages
    return [{**one, "role": "developer"} if one.get("role") == "system" else one for one in messages]


def _has_cache(lm: Any) -> bool:
    """Whether DSPy keeps the answers of an LM: not those of one that makes them itself, whatever its ``cache`` says."""
    import dspy

    return getattr(type(lm), "forward", None) is dspy.LM.forward and getattr(lm, "_cache_responses", True)


@cache
def _settings() -> Any:
    from dspy.dsp.utils.settings import settings

    return settings
