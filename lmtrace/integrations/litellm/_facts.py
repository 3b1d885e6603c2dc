"""What is known about a call before it is made: who serves the model, and where.

LiteLLM is asked only about models it can place, because it prints advice for the others; the answers are kept.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit


class Facts(NamedTuple):
    """Provider under LiteLLM's name, and the server's address; None where unknown."""

    provider: str | None
    server_address: str | None
    server_port: int | None


_UNKNOWN: Final = Facts(None, None, None)

_HOMES: Final = {
    "anthropic": "https://api.anthropic.com",
    "cohere": "https://api.cohere.com",
    "cohere_chat": "https://api.cohere.com",
    "gemini": "https://generativelanguage.googleapis.com",
    "mistral": "https://api.mistral.ai",
    "ollama": "http://localhost:11434",
    "ollama_chat": "http://localhost:11434",
    "openai": "https://api.openai.com",
    "text-completion-openai": "https://api.openai.com",
    "vertex_ai": "https://aiplatform.googleapis.com",
}
"""Addresses of providers for which LiteLLM's own look-up gives none."""

_VARIABLES: Final = {
    "anthropic": ("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"),
    "azure": ("AZURE_API_BASE",),
    "ollama": ("OLLAMA_API_BASE",),
    "ollama_chat": ("OLLAMA_API_BASE",),
    "openai": ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    "text-completion-openai": ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
}
"""Where LiteLLM looks for an address before it takes the provider's own."""


def facts(model: Any, api_base: Any = None, provider: Any = None) -> Facts:
    """What is known about a call; nothing, for arguments that no call can be made with."""
    try:
        return _facts(model, api_base, provider)
    except TypeError:  # an argument that cannot be hashed
        return _UNKNOWN


@lru_cache(maxsize=1024)
def _facts(model: Any, api_base: Any, provider: Any) -> Facts:
    if not isinstance(model, str):
        return _UNKNOWN
    found, address = _placed(model, api_base, provider)
    if api_base is None and found is not None:
        variables = (os.environ.get(variable) for variable in _VARIABLES.get(found, ()))
        address = next(filter(None, variables), None) or address or _HOMES.get(found)
    return Facts(found, *_endpoint(api_base or address))


def _placed(model: str, api_base: Any, provider: Any) -> tuple[str | None, str | None]:
    """Provider and default address, by LiteLLM where it knows the model."""
    litellm = sys.modules.get("litellm")
    prefix = model.partition("/")[0]
    if litellm is None or not (provider or prefix in litellm.provider_list or model in litellm.model_cost):
        return provider, None
    try:
        _, found, _, address = litellm.get_llm_provider(model, custom_llm_provider=provider, api_base=api_base)
    except Exception:  # the call itself will say what is wrong
        return provider, None
    return str(getattr(found, "value", found)), address


def _endpoint(address: Any) -> tuple[str | None, int | None]:
    """Host and port of an address."""
    if not isinstance(address, str):
        return None, None
    try:
        parts = urlsplit(address if "//" in address else f"//{address}")
        return parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return None, None
