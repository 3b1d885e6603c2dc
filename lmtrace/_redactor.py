"""Removing secrets from what is about to leave the process, by value.

Known secrets (those of the call at hand and those in the environment) are removed from everything; what only looks like a
well-known key, from short texts. This runs on every call and mostly finds nothing, so it is written for that: each secret is
looked for in the serialised bytes with a substring search, and only a line that holds one is taken apart.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

import orjson

from lmtrace import _large, _wire
from lmtrace._secrets import REDACTED, forms, looks_secret, secret_texts

WITHHELD: Final = "[withheld: a redactor failed]"

_SHORTEST: Final = 6
"""Texts shorter than this are not looked for: they occur in ordinary words, and nobody's key is that short."""

_PLACEHOLDERS: Final = frozenset(
    {
        "ollama",
        "openai",
        "anthropic",
        "lm-studio",
        "lmstudio",
        "not-needed",
        "not-required",
        "no-key-required",
        "unused",
    }
    | {"sk-no-key-required", "no-key", "api-key", "apikey", "api_key", "anything", "dummy-key", "fake-key", "test-key"}
    | {"placeholder", "default", "disabled", "enabled", "string", "object", "secret", "password", "foobar", "changeme"}
)
"""What people write where a key is asked for and none is needed. Hiding these words everywhere would spoil the record."""

_KEY_SHAPES: Final[tuple[tuple[bytes, re.Pattern[bytes]], ...]] = tuple(
    (beginning, re.compile(pattern))
    for beginning, pattern in (
        (b"sk-", rb"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))sk-[A-Za-z0-9_\-]{20,}"),
        (b"AKIA", rb"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))AKIA[0-9A-Z]{16}(?![0-9A-Z])"),
        (b"AIza", rb"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))AIza[0-9A-Za-z_\-]{35}"),
        (b"ghp_", rb"ghp_[A-Za-z0-9]{36}"),
        (b"github_pat_", rb"github_pat_[A-Za-z0-9_]{40,}"),
        (b"xox", rb"xox[abprs]-[A-Za-z0-9\-]{10,}"),
        (b"hf_", rb"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))hf_[A-Za-z0-9]{30,}"),
        (b"gsk_", rb"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))gsk_[A-Za-z0-9]{30,}"),
        (b"earer ", rb"(?<=earer )[A-Za-z0-9_\-.=+/]{20,}"),
        (b"PRIVATE KEY-----", rb"-----BEGIN [A-Z ]*PRIVATE KEY-----[^\"]*?-----END [A-Z ]*PRIVATE KEY-----"),
        (
            b"eyJ",
            rb"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))eyJ[A-Za-z0-9_\-]{10,}\.eyJ[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{10,}",
        ),
    )
)

_STRUCTURE: Final = frozenset(
    {"user", "assistant", "system", "developer", "tool", "function", "text", "reasoning", "tool_call", "citation"}
    | {
        "refusal",
        "image",
        "audio",
        "embedding",
        "other",
        "image_url",
        "input_text",
        "output_text",
        "input_image",
        "file",
    }
    | {"input_audio", "tool_use", "tool_result", "function_call", "function_call_output", "message", "object", "string"}
    | {"stop", "length", "tool_calls", "content_filter", "max_tokens", "end_turn", "completed"}
)
"""Words that give content its form. The user's redactors do not see them: without its form a record cannot be read."""


_SCALAR_TAGS: Final = frozenset({"float", "int", "bytes", "datetime", "date", "time", "decimal", "blob"})
"""Odd values that are no texts."""


class Redactor:
    """Removes secrets from what is about to leave the process."""

    __slots__ = ("_environ", "_environ_needles", "custom")

    def __init__(self, custom: Iterable[Any] = ()) -> None:
        self.custom: tuple[Callable[[str], Any], ...] = tuple(as_callable(item) for item in custom)
        """The user's redactors, each a function from text to text."""
        self._environ: Any = None
        self._environ_needles: tuple[bytes, ...] = ()

    def line(self, line: bytes, secrets: Mapping[str, Any]) -> bytes:
        """A serialised record without the secrets of the call and of the environment; the record's own keys stay."""
        if len(line) > _large.LARGE:
            return self._large_line(line, secrets)
        found = [needle for needle in self._environment() if needle in line]
        for name, value in secrets.items():
            found += [needle for needle in _needles(name, value) if needle in line]
        return _without(line, found) if found else line

    def _large_line(self, line: bytes, secrets: Mapping[str, Any]) -> bytes:
        """The same without holding up other threads, unless there is something to remove."""
        needles = [
            *self._environment(),
            *(needle for name, value in secrets.items() for needle in _needles(name, value)),
        ]
        found = [needle for needle in needles if _large.find(line, needle)]
        return _without(line, found) if found else line

    def data(self, text: bytes, secrets: Mapping[str, Any]) -> Any:
        """What a JSON text says, without secrets known, after the user's redactors."""
        clean = orjson.loads(self.line(b'{"value":' + text + b"}", secrets))["value"]
        return self.walk(clean) if self.custom else clean

    def text(self, text: str, secrets: Mapping[str, Any]) -> str:
        """One text without secrets known or guessed, after the user's redactors."""
        readable = text.encode("utf-8", "replace").decode()
        clean = orjson.loads(self.line(orjson.dumps({"value": readable}), secrets))["value"]
        return self.apply_custom(hide_shapes(clean.encode()).decode())

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
            return value if value in _STRUCTURE else self.apply_custom(value)
        if isinstance(value, dict):
            if value.get(_wire.TAG) in _SCALAR_TAGS:
                return value
            return {key: item if key == _wire.TAG else self.walk(item) for key, item in value.items()}
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
            self._environ_needles = tuple({_escaped(text) for text in _environment_texts() if _is_worth_hiding(text)})
        return self._environ_needles


def hide_shapes(line: bytes) -> bytes:
    """`line` without what is shaped like a well-known key; `line` itself when there is none.

    Searching costs 30 µs in 5 KB of prose, so this is for parameters and error texts, which are short and where a
    key is most likely; message texts are searched for the keys we know.
    """
    for beginning, pattern in _KEY_SHAPES:
        if beginning in line:
            line = pattern.sub(b"[redacted]", line)
    return line


def _needles(name: str, value: Any) -> Iterable[bytes]:
    """What to look for, given a parameter that `split` took out."""
    if type(value) is str:
        return _text_needles(name, value)
    return [_escaped(text) for text in secret_texts(name, value) if _is_worth_hiding(text)]


@lru_cache(maxsize=256)
def _text_needles(name: str, value: str) -> tuple[bytes, ...]:
    """The same for a text; remembered, because it is the same in every call."""
    return tuple({_escaped(text) for text in secret_texts(name, value) if _is_worth_hiding(text)})


def _is_worth_hiding(text: str) -> bool:
    return len(text) >= _SHORTEST and text.lower() not in _PLACEHOLDERS


def _environment_texts() -> Iterable[str]:
    for name, value in list(os.environ.items()):
        if looks_secret(name):
            if not (value.startswith(("/", "~")) and os.path.exists(os.path.expanduser(value))):  # noqa: PTH110, PTH111
                yield from forms(value)
        elif "://" in value and ("@" in value or "?" in value):  # proxies, databases, whatever the variable is called
            yield from secret_texts(name, value)
        elif name in _HEADER_VARIABLES:
            for item in value.split(","):
                yield from forms(unquote(item.partition("=")[2].strip()))


_HEADER_VARIABLES: Final = frozenset(
    {f"OTEL_EXPORTER_OTLP_{signal}HEADERS" for signal in ("", "TRACES_", "METRICS_", "LOGS_")}
    | {"LMTRACE_OTLP_HEADERS"}
)


def _escaped(text: str) -> bytes:
    """`text` as it stands inside a JSON string."""
    return orjson.dumps(text.encode("utf-8", "replace").decode())[1:-1]


def _without(line: bytes, found: Iterable[bytes]) -> bytes:
    """`line` with the found secrets removed from its values, the longest first, so that none is left in part."""
    texts = sorted((orjson.loads(b'"%b"' % needle) for needle in found), key=len, reverse=True)
    return orjson.dumps({name: _hide(value, texts) for name, value in orjson.loads(line).items()})


def _hide(value: Any, texts: list[str]) -> Any:
    if isinstance(value, str):
        for text in texts:
            value = value.replace(text, REDACTED)
        return value
    if isinstance(value, dict):
        return {_hide(key, texts): _hide(item, texts) for key, item in value.items()}
    if isinstance(value, list):
        return [_hide(item, texts) for item in value]
    return value


def as_callable(item: Any) -> Callable[[str], Any]:
    """A redactor as a function.

    Raises:
        TypeError: it is no text, pattern or function.
    """
    if isinstance(item, str):
        return lambda text: text.replace(item, REDACTED)
    if isinstance(item, re.Pattern):
        return lambda text: item.sub(REDACTED, text)
    if callable(item):
        function: Callable[[str], Any] = item
        return function
    raise TypeError(f"a redactor is a text, a compiled pattern or a callable, not {type(item).__name__}")
