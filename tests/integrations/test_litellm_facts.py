"""What is known about a call before it is made: provider and server."""

from __future__ import annotations

import litellm
import pytest

from lmtrace.integrations.litellm import facts

assert litellm.provider_list  # its tables are what `facts` reads


@pytest.mark.parametrize(
    ("model", "api_base", "expected"),
    [
        ("openai/gpt-4o-mini", None, ("openai", "api.openai.com", 443)),
        ("gpt-4o-mini", None, ("openai", "api.openai.com", 443)),
        ("anthropic/claude-sonnet-4-5", None, ("anthropic", "api.anthropic.com", 443)),
        ("groq/llama-3.3-70b-versatile", None, ("groq", "api.groq.com", 443)),
        ("ollama_chat/llama3.1", None, ("ollama_chat", "localhost", 11434)),
        ("openai/gpt-4o-mini", "http://127.0.0.1:8123/v1", ("openai", "127.0.0.1", 8123)),
        ("openai/x", "https://user:secret@llm.example/v1?key=1", ("openai", "llm.example", 443)),
        ("nobody-knows", None, (None, None, None)),
        (None, None, (None, None, None)),
        (["unhashable"], None, (None, None, None)),
    ],
)
def test_facts(model: object, api_base: str | None, expected: object, capsys: pytest.CaptureFixture[str]) -> None:
    """The provider's name is LiteLLM's; what is not known is None, and nothing is printed."""
    assert facts(model, api_base) == expected
    assert capsys.readouterr().out == ""
