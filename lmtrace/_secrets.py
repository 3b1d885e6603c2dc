"""Secrets never enter a record: they are taken out of the parameters by name, and out of every text by value.

By name: `split` separates credentials, headers and client objects from the parameters before a request exists.
By value: `Redactor` removes, from everything about to leave the process, the secrets of the call at hand, those in the
environment, and, in short texts, what looks like a well-known key. Both run on every call, so both are written for
speed: a secret is looked for in the serialised bytes with a substring search.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

REDACTED: Final = "[redacted]"
WITHHELD: Final = "[withheld: a redactor failed]"

_SECRET_NAME = re.compile(
    r"api[-_]?key|apikey|secret|passw|credential|authori[sz]ation|cookie|private[-_]?key|subscription[-_]?key"
    r"|(^|[-_.])(key|token|auth|signature|sig|bearer|pat|dsn)$"
    r"|(access|auth|bearer|ad|id|session|security|refresh|oauth2?|api|client)[-_]?token",
    re.IGNORECASE,
)
"""Names under which a credential is passed; `max_tokens` and `logit_bias` must not match."""

_WHOLLY_SECRET: Final = frozenset(
    {"headers", "extra_headers", "default_headers", "client", "http_client", "azure_ad_token_provider", "ssl_verify"}
    | {"async_client", "session", "shared_session", "proxies", "extra_query", "default_query"}
)
"""Parameters that carry secrets or live objects whatever they hold."""

_ADDRESSES: Final = frozenset({"api_base", "base_url", "azure_endpoint", "api_endpoint", "proxy", "endpoint"})

_SHORTEST: Final = 6
"""Texts shorter than this are not looked for: they occur in ordinary words, and nobody's key is that short."""

_names: dict[str, bool] = {}


def is_secret_name(name: str) -> bool:
    """Whether a parameter, header or query field of this name holds a credential."""
    known = _names.get(name)
    if known is None:
        known = name.lower() in _WHOLLY_SECRET or _SECRET_NAME.search(name) is not None
        if len(_names) < 10_000:
            _names[name] = known
    return known


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
        elif type(value) in _PLAIN:
            safe[name] = value
        elif (clean := _without_secrets(name, value)) is value:
            safe[name] = value
        else:
            safe[name] = clean
            secrets[name] = value
    return safe, secrets


_PLAIN: Final = frozenset({int, float, bool, type(None)})


def _without_secrets(name: str, value: Any, depth: int = 0) -> Any:
    """`value` itself when it is clean, else a copy without credentials."""
    if isinstance(value, str):
        return clean_url(value) if name in _ADDRESSES or "://" in value[:64] else value
    if depth > 8 or name in ("messages", "tools", "functions", "input", "prompt"):
        return value
    if isinstance(value, dict):
        clean = {
            key: REDACTED
            if isinstance(key, str) and is_secret_name(key)
            else _without_secrets(str(key), item, depth + 1)
            for key, item in value.items()
        }
        return clean if any(clean[key] is not value[key] for key in value) else value
    if isinstance(value, (list, tuple)):
        items = [_without_secrets("", item, depth + 1) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def clean_url(url: str) -> str:
    """`url` without user name, password and credential fields of its query."""
    if "@" not in url and "?" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return REDACTED
    if not parts.netloc:
        return url
    netloc = parts.netloc.rpartition("@")[2]
    query = "&".join(
        f"{name}=" + (REDACTED if is_secret_name(name) else value) for name, value in parse_qsl(parts.query)
    )
    if netloc == parts.netloc and REDACTED not in query:
        return url
    return urlunsplit((parts.scheme, netloc, parts.path, query, ""))


def values(secrets: Any, depth: int = 0) -> Iterable[str]:
    """Every secret text inside the parameters `split` took out."""
    if isinstance(secrets, (bytes, bytearray)):
        secrets = bytes(secrets).decode("utf-8", "replace")
    if isinstance(secrets, str):
        yield from _forms(secrets)
    elif depth < 8 and isinstance(secrets, Mapping):
        for name, value in secrets.items():
            if not (depth and isinstance(value, str) and _harmless(str(name))):
                yield from values(value, depth + 1)
    elif depth < 8 and isinstance(secrets, (list, tuple, set, frozenset)):
        for value in secrets:
            yield from values(value, depth + 1)
    elif callable(reveal := getattr(secrets, "get_secret_value", None)):
        yield from values(reveal(), depth + 1)


def _harmless(name: str) -> bool:
    """Headers whose value is public, so that hiding it everywhere would only spoil the record."""
    return name.lower() in {"content-type", "accept", "user-agent", "http-referer", "x-title", "anthropic-version"}


def _forms(text: str) -> Iterable[str]:
    """A secret as given, and the parts of it that appear on their own."""
    scheme, _, rest = text.partition(" ")
    if rest and scheme.lower() in ("bearer", "basic", "token", "apikey"):
        yield rest
    if "://" in text:
        yield from _url_secrets(text)
    else:
        yield text


def _url_secrets(url: str) -> Iterable[str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    for text in (parts.password, parts.username):
        if text:
            yield text
            yield unquote(text)
    for name, value in parse_qsl(parts.query):
        if is_secret_name(name):
            yield value


_KEY_SHAPES: Final[tuple[tuple[bytes, re.Pattern[bytes]], ...]] = tuple(
    (beginning, re.compile(pattern))
    for beginning, pattern in (
        (b"sk-", rb"(?<![A-Za-z0-9])sk-[A-Za-z0-9_\-]{20,}"),
        (b"AKIA", rb"(?<![A-Za-z0-9])AKIA[0-9A-Z]{16}(?![0-9A-Z])"),
        (b"AIza", rb"(?<![A-Za-z0-9])AIza[0-9A-Za-z_\-]{35}"),
        (b"ghp_", rb"ghp_[A-Za-z0-9]{36}"),
        (b"github_pat_", rb"github_pat_[A-Za-z0-9_]{40,}"),
        (b"xox", rb"xox[abprs]-[A-Za-z0-9\-]{10,}"),
        (b"hf_", rb"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{30,}"),
        (b"gsk_", rb"(?<![A-Za-z0-9])gsk_[A-Za-z0-9]{30,}"),
        (b"earer ", rb"(?<=earer )[A-Za-z0-9_\-.=+/]{20,}"),
        (b"PRIVATE KEY-----", rb"-----BEGIN [A-Z ]*PRIVATE KEY-----[^\"]*?-----END [A-Z ]*PRIVATE KEY-----"),
        (b"eyJ", rb"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_\-]{10,}\.eyJ[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{10,}"),
    )
)


class Redactor:
    """Removes secrets from what is about to leave the process."""

    __slots__ = ("_environ", "_environ_values", "custom")

    def __init__(self, custom: Iterable[Any] = ()) -> None:
        self.custom: tuple[Callable[[str], str], ...] = tuple(_as_callable(item) for item in custom)
        """The user's redactors, each a function from text to text."""
        self._environ: Any = None
        self._environ_values: tuple[bytes, ...] = ()

    def line(self, line: bytes, secrets: Mapping[str, Any]) -> bytes:
        """A serialised record without the secrets of the call and of the environment."""
        for secret in self._environment():
            if secret in line:
                line = line.replace(secret, b"[redacted]")
        for value in secrets.values():
            for secret in _needles(value) if type(value) is str else map(_escaped, _long(values(value))):
                if secret in line:
                    line = line.replace(secret, b"[redacted]")
        return line

    def shapes(self, line: bytes) -> bytes:
        """`line` without what is shaped like a well-known key.

        Searching costs 30 µs in 5 KB of prose, so this is for parameters and error texts, which are short and where a
        key is most likely; message texts are searched for the keys we know.
        """
        for beginning, pattern in _KEY_SHAPES:
            if beginning in line:
                line = pattern.sub(b"[redacted]", line)
        return line

    def text(self, text: str, secrets: Mapping[str, Any]) -> str:
        """One text without secrets known or guessed, after the user's redactors."""
        clean = self.shapes(self.line(text.encode("utf-8", "replace"), secrets)).decode("utf-8", "replace")
        return self.apply_custom(clean)

    def apply_custom(self, text: str) -> str:
        """`text` after the user's redactors; withheld when one of them fails."""
        for redact in self.custom:
            try:
                result = redact(text)
            except Exception:
                return WITHHELD
            if not isinstance(result, str):
                return WITHHELD
            text = result
        return text

    def walk(self, value: Any) -> Any:
        """JSON-like data with the user's redactors applied to every text in it."""
        if isinstance(value, str):
            return self.apply_custom(value)
        if isinstance(value, dict):
            return {key: self.walk(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.walk(item) for item in value]
        return value

    def _environment(self) -> tuple[bytes, ...]:
        """The credentials among the environment's values, looked up again when the environment has changed.

        Comparing two dictionaries of the same objects costs a microsecond; filtering the names costs thirty.
        """
        environ = getattr(os.environ, "_data", None) or os.environ
        if environ != self._environ:
            self._environ = dict(environ)
            found = {
                form
                for name, value in os.environ.items()
                if _SECRET_NAME.search(name) is not None
                for form in _long(_forms(value))
                if not form.startswith(("/", "~"))
            }
            found.update(_long(_environment_urls()))
            self._environ_values = tuple(_escaped(text) for text in sorted(found, key=len, reverse=True))
        return self._environ_values


def _long(texts: Iterable[str]) -> Iterable[str]:
    return (text for text in texts if len(text) >= _SHORTEST)


@lru_cache(maxsize=256)
def _needles(secret: str) -> tuple[bytes, ...]:
    """What to look for when `secret` is a credential; remembered, because it is the same in every call."""
    return tuple(_escaped(text) for text in _long(_forms(secret)))


def _environment_urls() -> Iterable[str]:
    """Passwords and key fields in addresses, whatever the variable is called (proxies, database URLs)."""
    for value in os.environ.values():
        if "://" in value and ("@" in value or "?" in value):
            yield from _url_secrets(value)
    for variable in ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"):
        for item in os.environ.get(variable, "").split(","):
            yield from _forms(unquote(item.partition("=")[2].strip()))


def _escaped(text: str) -> bytes:
    """`text` as it stands inside a JSON string."""
    import orjson

    try:
        return orjson.dumps(text)[1:-1]
    except orjson.JSONEncodeError:
        return text.encode("utf-8", "replace")


def _as_callable(item: Any) -> Callable[[str], str]:
    if isinstance(item, str):
        return lambda text: text.replace(item, REDACTED)
    if isinstance(item, re.Pattern):
        return lambda text: item.sub(REDACTED, text)
    if callable(item):
        return item  # type: ignore[no-any-return]
    raise TypeError(f"a redactor is a text, a compiled pattern or a callable, not {type(item).__name__}")
