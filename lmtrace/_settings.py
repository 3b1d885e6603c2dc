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

    otlp: str | None = None
    """OTLP endpoint to set up, or a preset (``jaeger``, ``honeycomb``); None leaves the application's providers alone."""

    otlp_protocol: str = "http/protobuf"
    """``http/protobuf`` or ``grpc``."""

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

    redact: tuple[Any, ...] = ()
    """Extra redactors: texts, compiled patterns, or callables from text to text."""

    exporters: tuple[Any, ...] = ()
    """Further exporters, beside the store."""

    callbacks: tuple[Any, ...] = ()
    """Callbacks of every `LM`, beside its own."""

    disable_history: bool = False
    """Whether the in-memory histories stay empty; the store is not affected."""

    max_history_size: int = 10_000
    """Entries kept by each in-memory history; 0 keeps only the global one, as in DSPy."""

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
    number = int(value)
    if number < 0:
        raise ValueError(f"must be zero or more, not {number}")
    return number


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
    if str(value).strip().lower() == AUTO:
        return default_store()
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
    "redact": _objects,
    "exporters": _objects,
    "callbacks": _objects,
    "disable_history": _boolean,
    "max_history_size": _count,
}

_IN_CODE_ONLY: Final = frozenset({"exporters", "callbacks"})
"""Settings that are objects, so no file or environment variable can name them."""

SECRET_SETTINGS: Final = frozenset({"otlp_headers"})
"""Settings whose values are never shown."""


def resolve(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Settings:
    """The settings that hold for a process started in `directory` with `environ`, `flags` before everything else.

    Raises:
        UnknownOptionError: a source names a setting that does not exist; the message has the nearest valid name.
        SettingsError: a value is not valid; the message names the setting and its source.
    """
    environ = os.environ if environ is None else environ
    directory = Path.cwd() if directory is None else directory
    values: dict[str, Any] = {"store": default_store(directory)}
    sources = {item.name: "default" for item in fields(Settings) if item.name != "sources"}
    for source, given in reversed(_layers(flags or {}, environ, directory)):
        for name, value in given.items():
            values[name] = _parsed(name, value, source)
            sources[name] = source
    return Settings(**values, sources=MappingProxyType(sources))


def _layers(
    flags: Mapping[str, Any], environ: Mapping[str, str], directory: Path
) -> list[tuple[str, Mapping[str, Any]]]:
    """The sources that have something to say, the strongest first."""
    project = project_root(directory)
    layers: list[tuple[str, Mapping[str, Any]]] = [("configure()", flags)]
    layers += [(variable, {name: value}) for variable, name, value in _environment(environ)]
    if OTEL_CONTENT in environ:
        layers.append((OTEL_CONTENT, {"content": environ[OTEL_CONTENT]}))
    if project is not None:
        layers.append(_table(project / "pyproject.toml", "tool", "lmtrace"))
    layers.append(_table(_user_config(environ)))
    return layers


def _environment(environ: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """``LMTRACE_*`` variables that are settings; an unknown one is an error, as a misspelt option is."""
    found = []
    for variable, value in environ.items():
        if not variable.startswith("LMTRACE_") or variable in _OTHER_VARIABLES or variable.startswith("LMTRACE_TEST_"):
            continue
        found.append((variable, variable.removeprefix("LMTRACE_").lower(), value))
    return found


_OTHER_VARIABLES: Final = frozenset({"LMTRACE_RUN_ID", "LMTRACE_RUN_NAME", "LMTRACE_RUN_STATUS"})
"""Variables of the commands, which are not settings."""


def _table(path: Path, *keys: str) -> tuple[str, Mapping[str, Any]]:
    from lmtrace._errors import SettingsError

    source = f"{path} [{'.'.join(keys)}]" if keys else str(path)
    try:
        table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return source, {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None
    for key in keys:
        table = table.get(key, {})
    return source, table


def _parsed(name: str, value: Any, source: str) -> Any:
    from lmtrace._errors import SettingsError, UnknownOptionError

    if name not in PARSERS or (name in _IN_CODE_ONLY and source != "configure()"):
        raise UnknownOptionError(name, known=sorted(PARSERS), source=source)
    try:
        return PARSERS[name](value)
    except (ValueError, TypeError) as error:
        shown = f"{name} (from {source})" if source != "configure()" else name
        raise SettingsError(f"setting {shown} {error}") from None


def project_root(directory: Path | None = None) -> Path | None:
    """The nearest folder at or above `directory` that is a project, or None; the home folder and above never are."""
    start = Path.cwd() if directory is None else directory
    home = Path.home()
    for folder in (start, *start.parents):
        if folder in (home, folder.parent):
            return None
        if any((folder / mark).exists() for mark in (".lmtrace", "pyproject.toml", ".git", "setup.py")):
            return folder
    return None


def default_store(directory: Path | None = None) -> Path:
    """Where the store is when nobody says otherwise."""
    project = project_root(directory)
    if project is not None:
        return project / ".lmtrace"
    import platformdirs

    return Path(platformdirs.user_state_path("lmtrace")) / "store"


def _user_config(environ: Mapping[str, str]) -> Path:
    if "XDG_CONFIG_HOME" in environ:
        return Path(environ["XDG_CONFIG_HOME"]) / "lmtrace" / "config.toml"
    import platformdirs

    return Path(platformdirs.user_config_path("lmtrace")) / "config.toml"


_active: Settings | None = None


def current() -> Settings:
    """The settings of this process; resolved on first use. Never raises: what is wrong in the environment is logged."""
    global _active
    if _active is None:
        try:
            _active = resolve()
        except Exception as error:
            logging.getLogger("lmtrace").warning("lmtrace goes on with default settings: %s", error)
            _active = Settings(store=default_store())
    return _active


def use(settings: Settings | None) -> None:
    """Make `settings` those of the process; None forgets them, so that the next use resolves them again."""
    global _active
    _active = settings
