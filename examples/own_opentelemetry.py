"""An application with OpenTelemetry set up: LM spans go through its provider and nest under its spans."""

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import lmtrace
from lmtrace.testing import LoopbackProvider

finished = InMemorySpanExporter()  # an application has an OTLP exporter here
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(finished))
trace.set_tracer_provider(provider)

with LoopbackProvider() as answers:
    lm = lmtrace.LM("openai/gpt-4o-mini", api_base=answers.openai_base, api_key="any")
    with trace.get_tracer("shop").start_as_current_span("answer customer"):
        lm("hello")

call, request = finished.get_finished_spans()
print(call.name, "inside", request.name, call.parent.span_id == request.context.span_id)
