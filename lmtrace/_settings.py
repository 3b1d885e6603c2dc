"""Every setting, where its value comes from, and the one place that validates it.

A value is taken from the first source that has one: `configure(...)` or a command-line flag, ``LMTRACE_*`` in the
environment, ``[tool.lmtrace]`` in the project's pyproject.toml, ``config.toml`` in the user's configuration folder, the
default. `Settings` is frozen; a change makes a new one and with it a new recorder.
"""

from __future__ import annotations

import difflib
import logging
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from lmtrace._places import default_store, project_root, user_config

AUTO: Final = "auto"
"""The default of `store`: `.lmtrace` in the project, else the user's state folder."""

OFF: Final = frozenset({"off", "none", "false", "0", "no"})
_ON: Final = frozenset({"on", "true", "1", "yes"})

OTEL_CONTENT: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""OpenTelemetry's own switch for `content`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The effective settings of the process."""

    store: Path | None = None
    """Directory of the durable history, or None when it is off."""

    capture: str = "full"
    """What the store keeps: ``full``, ``metadata`` (no messages, answers, tools, error texts) or ``none`` (no rows)."""

    content: str = "no_content"
    """Message content in telemetry: ``no_content``, ``span_only``, ``event_only`` or ``span_and_event``."""

    otlp: str | None = field(default=None, repr=False)
    """OTLP endpoint to set up, or a preset (``jaeger``, ``honeycomb``); None leaves the application's providers alone."""

    otlp_protocol: str | None = None
    """``http/protobuf`` or ``grpc``; None leaves it to ``OTEL_EXPORTER_OTLP_PROTOCOL``, else HTTP."""

    otlp_headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """Headers of the OTLP requests; never shown."""

    service_name: str | None = None
    """`service.name` of the telemetry lmtrace sets up."""

    metrics: str = "new"
    """``new`` (current GenAI names), ``both`` (older names too) or ``off``."""

    cost_attributes: bool = True
    """Whether spans carry the provisional cost attributes."""

    compat: frozenset[str] = frozenset()
    """Extra attribute sets for backends that read older names: ``jaeger``, ``openinference``, ``v1.41``."""

    durability: str = "process"
    """``process`` (survives the process), ``power`` (survives a power cut) or ``none``."""

    redact: tuple[Any, ...] = field(default=(), repr=False)
    """Extra redactors: texts, compiled patterns, or callables from text to text."""

    exporters: tuple[Any, ...] = ()
    """Further exporters, beside the store."""

    callbacks: tuple[Any, ...] = ()
    """Callbacks of every `LM`, beside its own."""

    disable_history: bool = False
    """Whether the in-memory histories stay empty; the store is not affected."""

    max_history_size: int = 10_000
    """Entries kept by each in-memory history; 0 keeps only the global one, as in DSPy."""

    cache: str = "on"
    """Where calls that allow it look for earlier answers: ``on`` (memory, then the store's index), ``memory``, ``off``."""

    cache_ttl: float | None = None
    """Seconds after which a cached answer counts no more; None for never."""

    cache_max_bytes: int = 10_000_000_000
    """Size of the store's index, above which its oldest entries go."""

    cache_memory_bytes: int = 64_000_000
    """Bytes of the answers that a process keeps in memory."""

    cache_memory_entries: int = 100_000
    """How many answers a process keeps in memory."""

    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)
    """Where each value came from."""


def _choice(*allowed: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        text = str(value).strip().lower()
        if text in allowed:
            return text
        near = difflib.get_close_matches(text, allowed, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"must be one of {', '.join(allowed)}, not {value!r}{hint}")

    return parse


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _ON or text in OFF:
        return text in _ON
    raise ValueError(f"must be true or false, not {value!r}")


def _count(value: Any) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not text.isdecimal():
        raise ValueError(f"must be a whole number, zero or more, not {value!r}")
    return int(text)


def _size(value: Any) -> int:
    """Bytes, as a number or with a unit: ``500 MB``, ``10GB``."""
    text = str(value).strip().upper().removesuffix("B").rstrip()
    factor = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}.get(text[-1:], 0)
    number = text[:-1].rstrip() if factor else text
    if isinstance(value, bool) or not number.isdecimal():
        raise ValueError(f"must be a number of bytes or a size such as 500MB, not {value!r}")
    return int(number) * (factor or 1)


def _duration(value: Any) -> float | None:
    """Seconds, as a number or with a unit: ``90s``, ``30m``, ``12h``, ``7d``, ``2w``; nothing for no end."""
    text = str(value).strip().lower()
    if value is None or text in OFF - {"0"}:
        return None
    factor = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}.get(text[-1:])
    try:
        seconds = float(text[:-1]) * factor if factor else float(text)
    except ValueError:
        seconds = 0.0
    if isinstance(value, bool) or not 0 < seconds < float("inf"):
        raise ValueError(f"must be a number of seconds above 0, or one with a unit such as 7d, not {value!r}")
    return seconds


def _cache(value: Any) -> str:
    text = str(value).strip().lower()
    return "on" if text in _ON else "off" if text in OFF else _choice("on", "memory", "off")(value)


def _optional(value: Any) -> str | None:
    return str(value).strip() or None if value is not None else None


def _names(value: Any) -> frozenset[str]:
    items = value.split(",") if isinstance(value, str) else value
    parse = _choice("jaeger", "openinference", "v1.41")
    return frozenset(parse(item) for item in items if str(item).strip())


def _content(value: Any) -> str:
    """OpenTelemetry's values, and the booleans older instrumentations used."""
    if isinstance(value, bool) or str(value).strip().lower() in _ON | OFF:
        return "span_only" if _boolean(value) else "no_content"
    return _choice("no_content", "span_only", "event_only", "span_and_event")(value)


def _objects(value: Any) -> tuple[Any, ...]:
    return (value,) if isinstance(value, str) or not hasattr(value, "__iter__") else tuple(value)


def _redactors(value: Any) -> tuple[Any, ...]:
    from lmtrace._redactor import as_callable

    redactors = _objects(value)
    for item in redactors:
        try:
            as_callable(item)
        except TypeError as error:
            raise ValueError(f"is not valid: {error}") from None
    return redactors


def _exporters(value: Any) -> tuple[Any, ...]:
    exporters = _objects(value)
    for item in exporters:
        missing = [name for name in ("export", "force_flush", "shutdown") if not callable(getattr(item, name, None))]
        if missing or isinstance(item, type):
            raise ValueError(f"needs exporters, objects with export, force_flush and shutdown, not {item!r}")
    return exporters


def _headers(value: Any) -> Mapping[str, str]:
    if isinstance(value, str):
        pairs = [item.split("=", 1) for item in value.split(",") if item.strip()]
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError("must be written as name=value,name=value")
        value = dict(pairs)
    return MappingProxyType({str(name).strip(): str(text).strip() for name, text in dict(value).items()})


def _store(value: Any) -> Path | None:
    if value is None or str(value).strip().lower() in OFF:
        return None
    if value is True or str(value).strip().lower() == AUTO:
        return default_store()
    if not isinstance(value, (str, os.PathLike)) or not str(value).strip():
        raise ValueError(f"must be a folder, {AUTO!r} or 'off', not {value!r}")
    return Path(value).expanduser().absolute()


PARSERS: Final[dict[str, Callable[[Any], Any]]] = {
    "store": _store,
    "capture": _choice("full", "metadata", "none"),
    "content": _content,
    "otlp": _optional,
    "otlp_protocol": _choice("http/protobuf", "grpc"),
    "otlp_headers": _headers,
    "service_name": _optional,
    "metrics": _choice("new", "both", "off"),
    "cost_attributes": _boolean,
    "compat": _names,
    "durability": _choice("process", "power", "none"),
    "redact": _redactors,
    "exporters": _exporters,
    "callbacks": _objects,
    "disable_history": _boolean,
    "max_history_size": _count,
    "cache": _cache,
    "cache_ttl": _duration,
    "cache_max_bytes": _size,
    "cache_memory_bytes": _size,
    "cache_memory_entries": _count,
}

_IN_CODE_ONLY: Final = frozenset({"exporters", "callbacks"})
"""Settings that are objects, so no file or environment variable can name them."""

SECRET_SETTINGS: Final = frozenset({"otlp_headers"})
"""Settings whose values are never shown."""


_CAUTIOUS: Final[dict[str | None, tuple[str, Any]]] = {
    "store": ("store", None),
    "content": ("content", "no_content"),
    "capture": ("capture", "metadata"),
    "redact": ("capture", "metadata"),
    None: ("capture", "metadata"),
}
"""What holds instead of a value that makes no sense, or a file that cannot be read: less is recorded, never more."""


def resolve(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    refused: Callable[[str], object] | None = None,
) -> Settings:
    """The settings that hold for a process started in `directory` with `environ`, `flags` before everything else.

    Args:
        flags: What was said in code or on the command line.
        environ: The environment; that of the process by default.
        directory: Where the project is looked for; the current directory by default.
        refused: Told what is wrong in a source, which is then left out, instead of an error being raised.

    Raises:
        UnknownOptionError: a source names a setting that does not exist; the message has the nearest valid name.
        SettingsError: a value is not valid; the message names the setting and its source.
    """
    from lmtrace._errors import SettingsError

    values: dict[str, Any] = {"store": default_store(directory)}
    sources = {item.name: "default" for item in fields(Settings) if item.name != "sources"}
    for source, read in reversed(_layers(flags or {}, os.environ if environ is None else environ, directory)):
        name = None
        try:
            for name, value in read().items():
                values[name] = _parsed(name, value, source)
                sources[name] = source
        except SettingsError as error:
            if refused is None:
                raise
            refused(str(error))
            if name in _CAUTIOUS:
                instead, value = _CAUTIOUS[name]
                values[instead], sources[instead] = value, f"{source} (not valid)"
    return Settings(**values, sources=MappingProxyType(sources))


def only(flags: Mapping[str, Any]) -> Settings:
    """The defaults and `flags`, whatever the environment and the files say."""
    return Settings(**{name: _parsed(name, value, "configure()") for name, value in flags.items()})


_Source = tuple[str, Callable[[], Mapping[str, Any]]]


def _layers(flags: Mapping[str, Any], environ: Mapping[str, str], directory: Path | None) -> list[_Source]:
    """The sources that may have something to say, the strongest first, and how to read them."""
    project = project_root(directory)
    layers: list[_Source] = [_given("configure()", name, value) for name, value in flags.items()]
    layers += [
        _given(variable, variable.removeprefix("LMTRACE_").lower(), value)
        for variable, value in environ.items()
        if variable.startswith("LMTRACE_") and not variable.startswith(_NO_SETTINGS) and value
    ]
    if environ.get(OTEL_CONTENT):
        layers.append(_given(OTEL_CONTENT, "content", environ[OTEL_CONTENT]))
    if project is not None:
        layers += _table(project / "pyproject.toml", "tool", "lmtrace")
    layers += _table(user_config(environ))
    return layers


def _given(source: str, name: str, value: Any) -> _Source:
    return source, lambda: {name: value}


_NO_SETTINGS: Final = ("LMTRACE_RUN_", "LMTRACE_TEST_")
"""Beginnings of variables that are not settings: those of the commands and of our tests."""


def _table(path: Path, *keys: str) -> list[_Source]:
    """One source for each setting in a file, or one that raises when the file cannot be understood."""
    source = f"{path} [{'.'.join(keys)}]" if keys else str(path)
    try:
        text = path.read_bytes()
    except OSError:
        return []
    try:
        table: Any = tomllib.loads(text.decode())
        for key in keys:
            table = table.get(key, {})
        return [_given(source, name, _beside(path, name, value)) for name, value in table.items()]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        reason = f"{path} is not valid TOML: {error}"
    except AttributeError:
        reason = f"{source} is not a table"
    return [(source, lambda: _refuse(reason))] if not keys or b"lmtrace" in text else []


def _refuse(reason: str) -> Mapping[str, Any]:
    from lmtrace._errors import SettingsError

    raise SettingsError(reason)


def _beside(path: Path, name: str, value: Any) -> Any:
    """A store named in a file is meant from where that file is, wherever the program runs."""
    if name != "store" or not isinstance(value, str) or value.strip().lower() in {AUTO, "", *OFF}:
        return value
    return path.parent / Path(value).expanduser()


def _parsed(name: str, value: Any, source: str) -> Any:
    from lmtrace._errors import SettingsError, UnknownOptionError

    if name not in PARSERS or (name in _IN_CODE_ONLY and source != "configure()"):
        raise UnknownOptionError(name, known=sorted(PARSERS), source=source)
    try:
        return PARSERS[name](value)
    except (ValueError, TypeError) as error:
        shown = f"{name} (from {source})" if source != "configure()" else name
        raise SettingsError(f"setting {shown} {error}") from None


_active: Settings | None = None


def current() -> Settings:
    """The settings of this process; resolved on first use. Never raises: what is wrong in a source is logged."""
    global _active
    if _active is None:
        _active = resolve(refused=_warn)
    return _active


def _warn(reason: str) -> None:
    logging.getLogger("lmtrace").warning("lmtrace goes on without a setting: %s", reason)


def use(settings: Settings | None) -> Settings | None:
    """Make `settings` those of the process and return the ones before; None means to resolve them at the next use."""
    global _active
    before, _active = _active, settings
    return before
