"""Where OTLP goes: endpoint, protocol, headers and presets, validated and with the credentials kept apart.

User and password in an endpoint become a header, so that what is shown and logged never contains them; headers are
checked here because the HTTP library would quote a bad one, key and all, in its error.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from lmtrace._errors import SettingsError

SIGNALS: Final = ("traces", "metrics", "logs")
PROTOCOLS: Final = ("http/protobuf", "grpc")


@dataclass(frozen=True)
class Preset:
    """What a backend needs to be told."""

    http: str
    grpc: str
    signals: tuple[str, ...] = SIGNALS
    key_variable: str | None = None
    key_header: str = ""
    delta: bool = False
    """Whether metrics are sent as differences."""


PRESETS: Final = {
    "jaeger": Preset("http://localhost:4318", "http://localhost:4317", signals=("traces",)),  # it takes nothing else
    "honeycomb": Preset(
        "https://api.honeycomb.io",
        "https://api.honeycomb.io:443",
        key_variable="HONEYCOMB_API_KEY",
        key_header="x-honeycomb-team",
        delta=True,
    ),
}


@dataclass(frozen=True)
class Target:
    """Where to send, validated."""

    endpoint: str | None
    protocol: str
    headers: Mapping[str, str] = field(repr=False)
    preset: Preset | None = None

    @property
    def shown(self) -> str:
        default = "http://localhost:4317" if self.protocol == "grpc" else "http://localhost:4318"
        return self.endpoint or _without_user(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or default)

    def options(self, signal: str, service: str) -> dict[str, Any]:
        """The arguments of a signal's exporter."""
        options: dict[str, Any] = {}
        if self.endpoint is not None:
            options["endpoint"] = self.endpoint if self.protocol == "grpc" else f"{self.endpoint}/v1/{signal}"
        headers = dict(self.headers)
        if headers:  # an exporter that is given headers may forget those of the environment
            headers = {**_environment_headers(signal), **headers}
        if signal == "metrics" and self.preset is not None and self.preset.delta:
            headers.setdefault("x-honeycomb-dataset", f"{service}_metrics")
            if "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE" not in os.environ:
                options["preferred_temporality"] = _delta()
        if headers:
            options["headers"] = headers
        return options


def target_of(
    endpoint: str | None, protocol: str | None, headers: Mapping[str, str] | None, preset: str | None
) -> Target:
    protocol = protocol or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or PROTOCOLS[0]
    if protocol not in PROTOCOLS:
        raise SettingsError(f"the OTLP protocol must be one of {', '.join(PROTOCOLS)}, not {protocol!r}")
    if preset is not None and preset not in PRESETS:
        raise SettingsError(f"unknown OTLP preset {preset!r}; there are {', '.join(PRESETS)}")
    known = PRESETS[preset] if preset is not None else None
    if endpoint is None and known is not None:
        endpoint = known.grpc if protocol == "grpc" else known.http
    given = _checked_headers(headers or {})
    if known is not None and known.key_variable is not None:
        given = {**_key(known), **given}
    if endpoint is None:
        return Target(None, protocol, given, known)
    base, credentials = _parsed(endpoint)
    return Target(base, protocol, {**credentials, **given}, known)


def wanted_signals(target: Target) -> list[str]:
    """What the backend takes and OpenTelemetry's variables do not leave out."""
    signals = target.preset.signals if target.preset is not None else SIGNALS
    return [signal for signal in signals if os.environ.get(f"OTEL_{signal.upper()}_EXPORTER") != "none"]


def _parsed(endpoint: str) -> tuple[str, dict[str, str]]:
    """The base address without credentials, and the header they become."""
    url = _split(endpoint)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise SettingsError("the OTLP endpoint must look like http://localhost:4318 or https://api.honeycomb.io")
    if url.query or url.fragment:
        raise SettingsError(f"the OTLP endpoint {_without_user(endpoint)} has a query; keys belong in headers")
    base = _without_user(endpoint)
    for signal in SIGNALS:
        base = base.removesuffix(f"/v1/{signal}")
    if url.username is None:
        return base, {}
    pair = f"{unquote(url.username)}:{unquote(url.password or '')}".encode()
    return base, {"authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _split(endpoint: str) -> SplitResult:
    try:
        return urlsplit(endpoint.strip())
    except ValueError:
        raise SettingsError("the OTLP endpoint is not a valid address") from None


def _without_user(endpoint: str) -> str:
    """The address as it may be shown."""
    url = _split(endpoint)
    return urlunsplit((url.scheme, url.netloc.rpartition("@")[2], url.path.rstrip("/"), "", ""))


def _checked_headers(headers: Mapping[str, Any]) -> dict[str, str]:
    """Headers with names in lower case, as gRPC wants them; a bad one is named without its value."""
    for name, value in headers.items():
        if not all(isinstance(text, str) and text.isascii() and text.isprintable() for text in (name, value)):
            raise SettingsError(f"the OTLP header {name!r} must consist of printable ASCII characters")
    return {name.strip().lower(): value.strip() for name, value in headers.items()}


def _environment_headers(signal: str = "traces") -> dict[str, str]:
    """``OTEL_EXPORTER_OTLP_HEADERS``, or the variable of the signal alone. What is not ``name=value`` is left out."""
    general = os.environ.get("OTEL_EXPORTER_OTLP_HEADERS", "")
    text = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_HEADERS", general)
    pairs = [item.partition("=") for item in text.split(",")]
    return {unquote(name).strip().lower(): unquote(value).strip() for name, equals, value in pairs if equals}


def _key(preset: Preset) -> dict[str, str]:
    assert preset.key_variable is not None
    key = os.environ.get(preset.key_variable, "")
    if not key and preset.key_header not in _environment_headers():
        raise SettingsError(f"set {preset.key_variable} to your ingest key, or pass the header {preset.key_header}")
    return _checked_headers({preset.key_header: key}) if key else {}


def _delta() -> dict[type, Any]:
    from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter
    from opentelemetry.sdk.metrics.export import AggregationTemporality

    return dict.fromkeys((Counter, Histogram, ObservableCounter), AggregationTemporality.DELTA)
