"""What `lmtrace doctor` looks at. Each check says what it found and, when that is bad, what to do."""

from __future__ import annotations

import os
import platform
import socket
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from lmtrace._cli._fail import Failure
from lmtrace._cli._store import opened, rows, store_path
from lmtrace._cli._text import plural, size
from lmtrace._errors import SettingsError

if TYPE_CHECKING:
    from lmtrace._settings import Settings

MALWARE = {"1.82.7", "1.82.8"}
"""Releases of LiteLLM that carried malware."""

PRESETS = {"jaeger": "http://localhost:4318", "honeycomb": "https://api.honeycomb.io"}

CONNECT_SECONDS = 2.0

ROOM = 1 << 20
"""Bytes that a store must have room for: a long conversation is one row."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    check: str
    state: Literal["ok", "note", "warning", "error"]
    message: str


@dataclass(frozen=True, slots=True)
class Found:
    """The settings, as far as they could be had."""

    store: Path | None
    otlp: str | None
    findings: tuple[Finding, ...]
    active: Settings | None = None


def settings(given: Path | None) -> Found:
    """Whether the settings are valid, and which store and endpoint they name."""
    from lmtrace._settings import resolve

    otlp = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    try:
        active = resolve()
    except Exception as error:
        return Found(given, otlp, (Finding("settings", "error", str(error)),))
    changed = [name for name, source in active.sources.items() if source != "default"]
    found = [
        Finding("settings", "ok", f"valid; not default: {', '.join(changed)}" if changed else "valid; all default")
    ]
    if active.capture != "full":
        found.append(Finding("capture", "note", f"{active.capture}: the store keeps less than whole calls"))
    try:
        path = store_path(given)
    except Failure as failure:
        found.append(Finding("store", "warning", failure.message))
        return Found(None, active.otlp or otlp, tuple(found), active)
    return Found(path, active.otlp or otlp, tuple(found), active)


def store(path: Path) -> Iterator[Finding]:
    """Whether the store can be written and read, and what is in it."""
    yield _writable(path)
    yield from _troubles(path)
    if not (path / "store.json").exists():
        yield Finding("history", "note", "empty; the first call creates it")
        return
    try:
        with opened(path) as history:
            counted = rows(history, "SELECT count(*) AS calls, count(error_type) AS errors FROM calls")[0]
            problems = history.problems
    except Failure as failure:
        yield Finding("history", "error", failure.message)
        return
    yield Finding("history", "ok", f"{plural(counted['calls'], 'call')}, {counted['errors']:,} of them failed")
    yield _files(path, "journal", "*.jsonl")
    yield _files(path, "segments", "**/*.parquet")
    yield _cache(path)
    for problem in problems:
        yield Finding("damage", "error", f"{problem}; everything else is served")
    quarantined = list((path / "quarantine").glob("*"))
    if quarantined:
        yield Finding("quarantine", "warning", f"{plural(len(quarantined), 'file')} in {path / 'quarantine'}")


def _writable(path: Path) -> Finding:
    """Try it where the first call would: in the store, or in the nearest folder that exists."""
    folder = next(parent for parent in (path, *path.parents) if parent.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".lmtrace-doctor-") as file:
            file.write(bytes(ROOM))
            file.flush()
    except OSError as error:
        reason = error.strerror or str(error)
        return Finding("store", "error", f"{path} cannot be written: {reason}; calls succeed, but their rows are lost")
    return Finding("store", "ok", f"{path} is writable")


def _troubles(path: Path) -> Iterator[Finding]:
    """What went wrong in the programs that record here, summed up by kind."""
    from lmtrace_exporters._layout import Layout
    from lmtrace_exporters._troubles import troubles

    kinds: dict[str, list[Any]] = {}
    for trouble in troubles(Layout(path)):
        kinds.setdefault(trouble.kind, []).append(trouble)
    for kind, found in kinds.items():
        newest, count = found[0], sum(trouble.count for trouble in found)
        when = datetime.fromtimestamp(newest.at).astimezone().isoformat(" ", "seconds")
        reason = f" ({newest.last})" if newest.last else ""
        yield Finding(
            "failures",
            "warning",
            f"{kind}{reason}: {count:,} in the last seven days, at last in process {newest.pid}, {when}",
        )


def _files(path: Path, folder: str, pattern: str) -> Finding:
    sizes = [file.stat().st_size for file in (path / folder).glob(pattern)]
    return Finding(folder, "note", f"{plural(len(sizes), 'file')}, {size(sum(sizes))}")


def _cache(path: Path) -> Finding:
    """What the cache's part of the store holds, or why it cannot be used."""
    from lmtrace_replay._index import Index
    from lmtrace_replay._open_cache import INDEX_NAME

    index = Index(path / INDEX_NAME, max_bytes=0)
    try:
        found = index.figures()
    except (sqlite3.Error, OSError) as error:
        how = f"calls ask the provider; remove {path / INDEX_NAME}, and it is made again"
        return Finding("cache", "warning", f"cannot be read: {error}; {how}")
    finally:
        index.close()
    return Finding("cache", "note", f"{plural(found.entries, 'answer')}, {size(found.bytes)}")


def telemetry(settings: Found) -> Iterator[Finding]:
    """Whether spans can be sent to the OTLP endpoint, and something listens there."""
    otlp, active = settings.otlp, settings.active
    if otlp is None:
        yield Finding("otlp", "note", "no endpoint set; spans go where the application sends them")
        return
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if active is not None and active.otlp is not None:
        try:
            protocol = _protocol(active)
        except SettingsError as error:  # Honeycomb's key is missing, say
            yield Finding("otlp", "error", f"{error}; until then nothing is sent")
            return
    host, port = endpoint(otlp)
    try:
        with socket.create_connection((host, port), CONNECT_SECONDS):
            yield Finding("otlp", "ok", f"{host}:{port} answers")
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        yield Finding("otlp", "error", f"nothing at {host}:{port} ({reason}); spans are dropped, rows are not")
    usual, spoken = _USUAL_PROTOCOLS.get(port), protocol or "http/protobuf"
    if usual is not None and spoken != usual:
        yield Finding("otlp", "warning", f"{spoken} to port {port}, where collectors speak {usual}; see otlp_protocol")


def _protocol(active: Settings) -> str:
    from lmtrace_exporters._otlp_target import target_of

    preset = active.otlp if active.otlp in PRESETS else None
    target = target_of(None if preset else active.otlp, active.otlp_protocol, dict(active.otlp_headers), preset)
    return target.protocol


_USUAL_PROTOCOLS = {4317: "grpc", 4318: "http/protobuf"}


def endpoint(otlp: str) -> tuple[str, int]:
    """Host and port of an OTLP endpoint: a preset, a URL, or ``host:port``."""
    url = PRESETS.get(otlp, otlp)
    parts = urlsplit(url if "://" in url else f"http://{url}")
    default = 443 if parts.scheme == "https" else 80 if "://" in url else 4317
    try:
        port = parts.port
    except ValueError:
        port = None
    return parts.hostname or "localhost", port or default


def packages() -> Iterator[Finding]:
    """The versions of what matters; nothing of it is imported."""
    yield Finding("python", "note", f"{platform.python_version()} on {platform.system()}")
    for name in ("lmtrace", "litellm", "dspy", "duckdb", "pyarrow", "opentelemetry-sdk"):
        try:
            found = version(name)
        except PackageNotFoundError:
            if name != "dspy":
                yield Finding(name, "error", f"not installed; run: pip install {name}")
            continue
        if name == "litellm" and found in MALWARE:
            yield Finding(name, "error", f"{found} carried malware; upgrade now and change your keys")
        else:
            yield Finding(name, "note", found)


def environment() -> Iterator[Finding]:
    """Settings of others that a user of LM calls wants to know about."""
    if os.environ.get("LITELLM_LOCAL_MODEL_COST_MAP", "").lower() != "true":
        yield Finding(
            "litellm",
            "note",
            "fetches its price list when imported; LITELLM_LOCAL_MODEL_COST_MAP=True uses the built-in one",
        )
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield Finding("otel", "warning", "OTEL_SDK_DISABLED=true: no spans")
