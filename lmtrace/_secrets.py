"""Credentials among the parameters of a call: which they are, a copy of the parameters without them, and their texts.

`split` runs before a request exists, so nothing made from a request can hold a credential. What it takes out travels beside
the request, for the provider, and for the `Redactor`, which looks for the texts in everything that is recorded.

A name decides: ``api_key``, ``Authorization``, ``aws_secret_access_key`` hold a credential, ``max_tokens`` does not. In a JSON
schema names mean something else, so the names below ``properties`` are not looked at.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote

import orjson

from lmtrace import _wire

REDACTED: Final = "[redacted]"

_SECRET_NAME = re.compile(
    r"api[-_]?key|apikey|secret|passw|credential|authori[sz]ation|cookie|private[-_]?key|subscription[-_]?key"
    r"|access[-_]?key|(^|[-_.])(key|token|auth|signature|sig|bearer|pat|dsn)$"
    r"|(access|auth|bearer|ad|id|session|security|refresh|oauth2?|api|client)[-_]?token",
    re.IGNORECASE,
)
_PUBLIC_NAME = re.compile(r"(cache[-_]?key|(bos|eos|pad|unk|sep|cls|mask|stop|start|end)[-_]token)$", re.IGNORECASE)
"""Names that look like a credential's and are not: prompt cache keys, and the special tokens of a vocabulary."""

_WHOLLY_SECRET: Final = frozenset(
    {"headers", "extra_headers", "default_headers", "client", "http_client", "azure_ad_token_provider", "ssl_verify"}
    | {"async_client", "session", "shared_session", "proxies", "extra_query", "default_query"}
)
"""Parameters that carry secrets or live objects whatever they hold."""

_HARMLESS: Final = frozenset({"content-type", "accept", "user-agent", "http-referer", "x-title", "anthropic-version"})
"""Headers whose value is public, so that hiding it everywhere would only spoil the record."""

_ADDRESSES: Final = frozenset({"api_base", "base_url", "azure_endpoint", "api_endpoint", "proxy", "endpoint"})

_CONTENT: Final = frozenset(
    {"messages", "input", "prompt", "instructions", "suffix", "stop", "system", "functions", "response_format", "text"}
    | {"text_format", "prediction"}
)
"""Parameters that are content or schemas: known keys are looked for in them, names are not."""

_SCHEMA: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})

_PLAIN: Final = frozenset({int, float, bool, type(None)})
_DEEPEST: Final = 64
_DEEPEST_TEXT: Final = 16

_names: dict[str, bool] = {}


def is_secret_name(name: str) -> bool:
    """Whether a parameter, header or query field of this name holds a credential."""
    known = _names.get(name)
    if known is None:
        known = name.lower() in _WHOLLY_SECRET or looks_secret(name)
        if len(_names) < 10_000:
            _names[name] = known
    return known


def looks_secret(name: str) -> bool:
    """Whether a name, of an environment variable perhaps, says that its value is a credential."""
    return _SECRET_NAME.search(name) is not None and _PUBLIC_NAME.search(name) is None


def split(kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters of a call as ``(safe, secrets)``; ``{**safe, **secrets}`` is what the provider needs.

    An address with a user name, password or credential in its query is in both: cleaned in the first, whole in the
    second. A nested value that holds a credential is in both as well.
    """
    safe: dict[str, Any] = {}
    secrets: dict[str, Any] = {}
    for name, value in kwargs.items():
        if is_secret_name(name):
            secrets[name] = value
        elif type(value) in _PLAIN or (clean := _cleaned(name, value, ())) is value:
            safe[name] = value
        else:
            safe[name] = clean
            secrets[name] = value
    return safe, secrets


# --- the copy without them ---------------------------------------------------------------------------------------------


def _cleaned(name: str, value: Any, above: tuple[int, ...]) -> Any:
    """`value` itself when it is clean, else a copy without credentials."""
    kind = type(value)
    if kind in _PLAIN or (name in _CONTENT and not above):
        return value
    if isinstance(value, str):
        clean = clean_url(value) if "://" in value or name in _ADDRESSES else value
        return value if clean == value else clean
    if len(above) > _DEEPEST or id(value) in above:
        return REDACTED
    try:
        return _cleaned_inside(name, value, (*above, id(value)))
    except Exception:  # an object that fails when it is looked at; its type is all that is recorded of it
        return value


def _cleaned_inside(name: str, value: Any, above: tuple[int, ...]) -> Any:
    if type(value) is list and name == "tools" and all(map(_is_function, value)):
        return value
    if isinstance(value, (list, tuple)):
        items = [item if name == "tools" and _is_function(item) else _cleaned("", item, above) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    if isinstance(value, Mapping):
        copy = {key: _cleaned_item(name, key, item, above) for key, item in value.items()}
        return copy if any(copy[key] is not item for key, item in value.items()) else value
    if _is_model(value):
        data = _data_of(value)
        clean = _cleaned("", data, above)
        return value if clean is data else clean
    return value


def _cleaned_item(parent: str, key: Any, item: Any, above: tuple[int, ...]) -> Any:
    if type(key) is str and item is not None and parent not in _SCHEMA and is_secret_name(key):
        return REDACTED
    return _cleaned(str(key), item, above)


def _is_function(tool: Any) -> bool:
    """Whether a tool is described by a schema alone; servers and hosted tools come with headers and keys."""
    return type(tool) is dict and tool.get("type") == "function"


def _is_model(value: Any) -> bool:
    kind = type(value)
    return not isinstance(value, type) and (hasattr(kind, "model_dump") or dataclasses.is_dataclass(kind))


def _data_of(value: Any) -> Any:
    encoded = _wire.encode(value)
    return encoded.get("data", encoded) if isinstance(encoded, dict) else encoded


_USER = re.compile(r"(?<=://)[^/?#\s]*@")
_FIELD = re.compile(r"(?<=[?&#;])([^=&#\s?]+)=([^&#\s]*)")


def clean_url(url: str) -> str:
    """`url`, or every address in a text, without user name, password and credential fields of its query."""
    if "@" not in url and "?" not in url and "#" not in url:
        return url
    url = _USER.sub("", url) if "://" in url else url.rpartition("@")[2]
    return _FIELD.sub(lambda field: f"{field[1]}={REDACTED}" if is_secret_name(field[1]) else field[0], url)


# --- their texts -------------------------------------------------------------------------------------------------------


def secret_texts(name: str, value: Any) -> Iterator[str]:
    """The secret texts in one parameter that `split` took out, in every form in which they may turn up."""
    with suppress(Exception):  # an object that fails when it is looked at; what is known of it until then counts
        for text in _texts(value, 0) if is_secret_name(name) else _inside(name, value, 0):
            yield from forms(text)


def _texts(value: Any, depth: int) -> Iterator[str]:
    """Every text in a value that is secret as a whole."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (bytes, bytearray)):
        yield bytes(value).decode("utf-8", "replace")
    elif value is None or type(value) in _PLAIN or depth > _DEEPEST_TEXT:
        return
    elif isinstance(value, Mapping):
        for name, item in value.items():
            if str(name).lower() not in _HARMLESS:
                yield from _texts(item, depth + 1)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _texts(item, depth + 1)
    else:
        yield from _of_object(value)


def _of_object(value: Any) -> Iterator[str]:
    """The key in a `SecretStr`, and those a client object of a provider library holds."""
    reveal = getattr(type(value), "get_secret_value", None)
    if reveal is not None:
        secret = reveal(value)
        yield secret.decode("utf-8", "replace") if isinstance(secret, bytes) else str(secret)
    for name, item in getattr(value, "__dict__", {}).items():
        if isinstance(item, (str, bytes)) and is_secret_name(name):
            yield from _texts(item, 1)


def _inside(name: str, value: Any, depth: int) -> Iterator[str]:
    """The secret texts in a value that is not secret as a whole."""
    if isinstance(value, str):
        if "://" in value or (name in _ADDRESSES and "@" in value):
            yield from _in_address(value)
    elif value is None or type(value) in _PLAIN or depth > _DEEPEST_TEXT:
        return
    elif isinstance(value, Mapping):
        for key, item in value.items():
            hidden = type(key) is str and name not in _SCHEMA and is_secret_name(key)
            yield from _texts(item, depth + 1) if hidden else _inside(str(key), item, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _inside("", item, depth + 1)
    elif _is_model(value):
        yield from _inside("", _data_of(value), depth + 1)


def forms(text: str) -> Iterator[str]:
    """A secret as given, the parts of it that appear on their own, and its encodings."""
    scheme, _, rest = text.partition(" ")
    if rest and scheme.lower() in ("bearer", "basic", "token", "apikey"):
        yield from _encodings(rest)
        if scheme.lower() == "basic":
            for found in _of_basic(rest):
                yield from _encodings(found)
    if "://" in text and not text.startswith("{"):
        for found in _in_address(text):
            yield from _encodings(found)
        return
    yield from _encodings(text)
    if text.startswith("{"):
        with suppress(ValueError):
            for found in _inside("", orjson.loads(text), 0):
                yield from _encodings(found)


def _encodings(text: str) -> Iterator[str]:
    yield text
    if not text.isalnum():
        yield from {quote(text, safe=""), quote(text), quote_plus(text)} - {text}


def _of_basic(encoded: str) -> Iterator[str]:
    """User name and password as the ``Authorization`` header hides them."""
    with suppress(binascii.Error, ValueError):
        both = base64.b64decode(encoded, validate=True).decode()
        yield both
        yield from _of_user(both)


def _of_user(both: str) -> Iterator[str]:
    """The secrets in ``user:password``; a short user name beside a password is none."""
    user, _, password = both.partition(":")
    for text in (password, unquote(password)):
        if text:
            yield text
    if not password or len(user) >= 12:
        yield user
        yield unquote(user)
    yield base64.b64encode(unquote(both).encode("utf-8", "replace")).decode()


def _in_address(text: str) -> Iterator[str]:
    """The secrets in an address, or in every address in a text."""
    found = _USER.findall(text) or ([text[: text.rindex("@") + 1]] if "://" not in text and "@" in text else [])
    for both in found:
        yield from _of_user(both[:-1])
    for name, value in _FIELD.findall(text):
        if is_secret_name(name):
            yield value
            yield unquote(value)
