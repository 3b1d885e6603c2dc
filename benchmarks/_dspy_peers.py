"""The tracers that `dspy_overhead.py` measures: what to install for each, and how it is switched on."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any

from _peers import Installed, set_up_provider

_BASE = ("dspy==3.4.1", "litellm==1.106.2", "opentelemetry-exporter-otlp-proto-http")
PEERS = {
    "opentelemetry": (*_BASE, "--pre", "opentelemetry-instrumentation-genai-dspy"),
    "mlflow": (*_BASE, "mlflow"),
    "openinference": (*_BASE, "openinference-instrumentation-dspy"),
    "langfuse": (*_BASE, "langfuse", "openinference-instrumentation-dspy"),
    "logfire": (*_BASE, "logfire[dspy]"),
}


def install_lmtrace(address: str) -> Installed:
    import lmtrace

    provider = set_up_provider(address)
    lmtrace.configure(store=tempfile.mkdtemp(prefix="lmtrace-bench-"))
    return Installed(lambda: (provider.force_flush(), lmtrace.flush()), lmtrace.instrument)


def install_callback(address: str) -> Installed:
    import dspy

    provider, silent = set_up_provider(address), dspy.utils.BaseCallback()
    return Installed(provider.force_flush, lambda: dspy.configure(callbacks=[silent]))


def install_opentelemetry(address: str) -> Installed:
    os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "SPAN_ONLY"
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"
    from opentelemetry.instrumentation.genai.dspy import DSPyInstrumentor

    return _instrumented(DSPyInstrumentor(), set_up_provider(address))


def install_openinference(address: str) -> Installed:
    from openinference.instrumentation.dspy import DSPyInstrumentor

    return _instrumented(DSPyInstrumentor(), set_up_provider(address))


def _instrumented(instrumentor: Any, provider: Any) -> Installed:
    return Installed(provider.force_flush, lambda: instrumentor.instrument(tracer_provider=provider))


def install_langfuse(address: str) -> Installed:
    from langfuse import Langfuse
    from openinference.instrumentation.dspy import DSPyInstrumentor

    client = Langfuse(public_key="pk-lf-x", secret_key="sk-lf-x", host=address)  # its provider becomes the global one
    return Installed(client.flush, DSPyInstrumentor().instrument)


def install_logfire(address: str) -> Installed:
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = address
    import logfire

    logfire.configure(send_to_logfire=False, console=False)
    return Installed(logfire.force_flush, logfire.instrument_dspy)


def install_mlflow(address: str) -> Installed:
    os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = f"{address}/v1/traces"
    os.environ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = "http/protobuf"
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{tempfile.mkdtemp(prefix='mlflow-bench-')}/mlflow.db"
    import mlflow
    from mlflow.tracing import provider

    def flush() -> None:
        for processor in provider._get_tracer("bench").span_processor._span_processors:
            processor.force_flush()

    return Installed(flush, mlflow.dspy.autolog)


INSTALLERS: dict[str, Callable[[str], Installed]] = {
    "lmtrace": install_lmtrace,
    "callback": install_callback,
    "opentelemetry": install_opentelemetry,
    "mlflow": install_mlflow,
    "openinference": install_openinference,
    "langfuse": install_langfuse,
    "logfire": install_logfire,
}
