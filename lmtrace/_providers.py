"""From a LiteLLM-style model name to the names the GenAI conventions use for provider and model.

LiteLLM is not asked: it is heavy to import and the answer is needed before every call. A provider that is not in the
table keeps its LiteLLM name, as the conventions allow.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

WELL_KNOWN: Final[dict[str, str]] = {
    "anthropic_text": "anthropic",
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "azure_text": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_mantle": "aws.bedrock",
    "chatgpt": "openai",
    "codestral": "mistral_ai",
    "cohere_chat": "cohere",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "ollama_chat": "ollama",  # the same server, asked at its other address
    "text-completion-codestral": "mistral_ai",
    "text-completion-openai": "openai",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "watsonx_text": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""`gen_ai.provider.name` of LiteLLM's providers whose names differ."""

UNKNOWN: Final = "unknown"
"""Provider of a bare model name of no known family; the attribute is required."""

_FAMILIES: Final = (
    (("gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-", "davinci-", "babbage-", "ft:gpt-"), "openai"),
    (("claude-",), "anthropic"),
    (("gemini-",), "gcp.vertex_ai"),  # where LiteLLM sends a bare gemini name
    (("command-", "embed-"), "cohere"),
    (("mistral-",), "mistral_ai"),
    (("deepseek-",), "deepseek"),
    (("grok-",), "x_ai"),
)


def provider_name(provider: str) -> str:
    """The conventions' name of a LiteLLM provider; a name the table does not know passes unchanged."""
    return WELL_KNOWN.get(provider, provider)


@lru_cache(maxsize=1024)
def identity(model: str, provider: str | None = None) -> tuple[str, str]:
    """Provider and model of a request, as `gen_ai.provider.name` and `gen_ai.request.model`.

    The prefix is cut off only where it names the provider: ``meta-llama/Llama-3`` served by an OpenAI-compatible server
    stays whole when `provider` says ``openai``.

    Args:
        model: ``provider/model``, or a bare model name.
        provider: The provider, if known; LiteLLM's name or the conventions'.
    """
    prefix, slash, rest = model.partition("/")
    known = provider_name(provider) if provider else None
    if not slash or not prefix or not rest:
        return known or _family(model), model
    if known is None or known == provider_name(prefix):
        return known or provider_name(prefix), rest
    return known, model


def _family(model: str) -> str:
    for prefixes, provider in _FAMILIES:
        if model.startswith(prefixes):
            return provider
    return UNKNOWN
