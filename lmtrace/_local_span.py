"""Identities for calls and runs where no OpenTelemetry SDK is set up.

The store shows a program as a tree whether or not anything is exported, so a span that OpenTelemetry's no-op tracer made is
replaced by one that has ids and records nothing. It is not sampled, and costs two microseconds.
"""

from __future__ import annotations

from opentelemetry.trace import NonRecordingSpan, Span, SpanContext

from lmtrace._ids import random_bits


def has_identity(span: Span, around: SpanContext) -> bool:
    """Whether a tracer gave the span ids of its own; the no-op tracer gives none, or those of the span around it."""
    context = span.get_span_context()
    return context.is_valid and context.span_id != around.span_id


def local_span(around: SpanContext) -> Span:
    """A span below `around`, or the root of a new trace, that only has an identity."""
    trace_id = around.trace_id if around.is_valid else random_bits(128)
    return NonRecordingSpan(SpanContext(trace_id, random_bits(64), is_remote=False))
