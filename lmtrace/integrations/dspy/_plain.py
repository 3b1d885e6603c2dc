"""DSPy's objects as plain data for the inputs and outputs of a step, and their names as a person knows them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from lmtrace import _semconv as names


def plain(value: Any) -> Any:
    """Examples and predictions as their fields, anywhere inside; everything else, and what has no end, as it is."""
    try:
        return _plain(value)
    except RecursionError:
        return value


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {key: _plain(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_plain(item) for item in value]
    # the class is asked: a mock has every method, and each gives another mock
    return _plain(value.toDict()) if callable(getattr(kind, "toDict", None)) else value


def arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What a module or tool was called with."""
    return plain({**({"args": args} if args else {}), **kwargs})


def signature_of(module: Any) -> str | None:
    """``question -> answer`` of a predictor, or of one that has a single predictor inside, as ChainOfThought."""
    text = _text_of(_attribute(module, "signature"))
    if text is None:
        text = _text_of(_attribute(_attribute(module, "predict"), "signature"))
    return text


def _attribute(owner: Any, name: str) -> Any:
    """An attribute that is there: no property is asked, nor ``__getattr__``, which are the program's own code."""
    own = getattr(owner, "__dict__", None)
    return own[name] if own is not None and name in own else getattr(type(owner), name, None)


_texts: WeakKeyDictionary[Any, str | None] = WeakKeyDictionary()
"""By the class of a signature, which DSPy never changes: it works the text out anew whenever it is asked."""


def _text_of(signature: Any) -> str | None:
    if not isinstance(signature, type):
        text = getattr(signature, "signature", None)
        return text if isinstance(text, str) else None
    known = _texts.get(signature)
    if known is None:
        text = getattr(signature, "signature", None)
        known = _texts[signature] = text if isinstance(text, str) else None
    return known


def label_of(module: Any, parent: Any) -> str:
    """The name of a module in its parent, as the program calls it: an attribute, or an item of one; else its class."""
    if parent is not None:
        for name, value in vars(parent).items():
            if value is module:
                return str(name)
            place = _place_in(value, module)
            if place is not None:
                return f"{name}[{place}]"
    return type(module).__name__


def _place_in(value: Any, module: Any) -> str | None:
    """The index or key of a module in a list or dictionary of them."""
    if isinstance(value, (list, tuple)):
        return next((str(index) for index, item in enumerate(value) if item is module), None)
    if isinstance(value, dict):
        return next((_shown(key) for key, item in value.items() if item is module), None)
    return None


def _shown(key: Any) -> str:
    return repr(key) if isinstance(key, (str, int)) else type(key).__name__


@functools.lru_cache(maxsize=256)
def is_agent(cls: Any) -> bool:
    """Whether modules of a class decide by themselves which tools to call."""
    return any(one.__name__ in ("ReAct", "ReActV2", "CodeAct", "Avatar") for one in cls.__mro__)


def address_of(url: Any) -> dict[str, Any]:
    """The server behind an address, as attributes; nothing where there is none or it is not to be read."""
    if not isinstance(url, str):
        return {}
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return {}
    if host is None:
        return {}
    return {names.SERVER_ADDRESS: host} if port is None else {names.SERVER_ADDRESS: host, names.SERVER_PORT: port}
