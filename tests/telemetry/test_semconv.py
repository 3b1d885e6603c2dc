"""The names we emit are those of the conventions, with their types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lmtrace import _semconv as names
from lmtrace._providers import WELL_KNOWN, identity

NEWER = {names.TOKEN_MODALITY}
"""Attributes of the newest conventions that the August registry does not have."""

NEWER_METRICS = "gen_ai.client.inference."
"""Prefix of the metrics that replace `gen_ai.client.operation.*` for inference."""

CONSTANTS = {
    name: value
    for name, value in vars(names).items()
    if name.isupper() and isinstance(value, str) and "." in value and not value.endswith(".")
}
NOT_ATTRIBUTES = {
    *names.METRICS,
    names.COLLECT_HOOK,
    names.INFERENCE_CONTEXT_KEY,
    names.CONVENTIONS_VERSION,
    names.SCHEMA_URL,
    names.INFERENCE_DETAILS_EVENT,
    names.EXCEPTION_EVENT,
    names.EVALUATION_EVENT,
    names.ATTEMPT_EVENT,
    names.FIRST_CHUNK_EVENT,
}


def test_every_attribute_has_a_type():
    """No attribute name is added without saying what type its values have."""
    assert set(CONSTANTS.values()) - NOT_ATTRIBUTES == set(names.VALUE_TYPES)


def test_types_are_those_of_the_registry(data: Callable[[str], Any]):
    """A `gen_ai.*` attribute exists in the conventions with the type we give it, or is a named exception."""
    registry = data("conventions")["attributes"]
    ours = {name: kind for name, kind in names.VALUE_TYPES.items() if name.startswith("gen_ai.")}
    excepted = names.PROVISIONAL | NEWER | {names.SYSTEM}
    assert {name for name in ours if name not in registry} == excepted
    assert {name: registry[name]["type"] for name in ours.keys() - excepted} == {
        name: kind for name, kind in ours.items() if name not in excepted
    }


def test_metrics_are_those_of_the_conventions(data: Callable[[str], Any]):
    """A `gen_ai.*` metric has the instrument and the unit of the conventions."""
    known = data("conventions")["metrics"]
    ours = {name: metric for name, metric in names.METRICS.items() if name.startswith("gen_ai.")}
    checked = {name: metric for name, metric in ours.items() if not name.startswith(NEWER_METRICS)}
    assert {name: {"instrument": m.instrument, "unit": m.unit} for name, m in checked.items()} == {
        name: known[name] for name in checked
    }


def test_events_are_those_of_the_conventions(data: Callable[[str], Any]):
    """Events of the Logs API bear the conventions' names."""
    assert {names.INFERENCE_DETAILS_EVENT, names.EXCEPTION_EVENT, names.EVALUATION_EVENT} <= set(
        data("conventions")["events"]
    )


def test_histograms_have_buckets():
    """A histogram without advice would get the SDK's buckets, which are for milliseconds."""
    assert all((metric.instrument == "histogram") == (metric.buckets is not None) for metric in names.METRICS.values())


def test_provider_names_are_well_known(data: Callable[[str], Any]):
    """LiteLLM's providers map to names the conventions list, where these have one."""
    assert set(WELL_KNOWN.values()) - {"ollama"} <= set(
        data("conventions")["attributes"][names.PROVIDER_NAME]["members"]
    )


@pytest.mark.parametrize(
    ("model", "provider", "expected"),
    [
        ("openai/gpt-4o-mini", None, ("openai", "gpt-4o-mini")),
        ("azure/my-deployment", None, ("azure.ai.openai", "my-deployment")),
        ("gemini/gemini-2.0-flash", None, ("gcp.gemini", "gemini-2.0-flash")),
        ("vertex_ai/gemini-2.0-flash", None, ("gcp.vertex_ai", "gemini-2.0-flash")),
        ("bedrock/anthropic.claude-3", None, ("aws.bedrock", "anthropic.claude-3")),
        ("mistral/mistral-large", None, ("mistral_ai", "mistral-large")),
        ("xai/grok-4", None, ("x_ai", "grok-4")),
        ("openrouter/anthropic/claude-3", None, ("openrouter", "anthropic/claude-3")),
        ("ollama/llama3", None, ("ollama", "llama3")),
        ("gpt-4o", None, ("openai", "gpt-4o")),
        ("claude-sonnet-4", None, ("anthropic", "claude-sonnet-4")),
        ("my-model", None, ("unknown", "my-model")),
        ("my-model", "azure", ("azure.ai.openai", "my-model")),
        ("azure/gpt-4o", "azure.ai.openai", ("azure.ai.openai", "gpt-4o")),
        ("meta-llama/Llama-3", "openai", ("openai", "meta-llama/Llama-3")),
        ("/leading", None, ("unknown", "/leading")),
        ("trailing/", None, ("unknown", "trailing/")),
    ],
)
def test_provider_and_model(model: str, provider: str | None, expected: tuple[str, str]):
    """A prefix that names the provider is cut off; everything else of a model's name stays."""
    assert identity(model, provider) == expected
