"""What a client sent, whole and as far as it can be said in terms of no particular provider."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """The question in a request, read out of its dialect."""

    model: str = "unknown"
    messages: tuple[tuple[str, str], ...] = ()
    """Role and text of each message; images and the like are left out."""

    stream: bool = False
    choices: int = 1
    max_tokens: int | None = None
    logprobs: bool = False

    schema: Mapping[str, Any] | None = None
    """JSON Schema of the wanted answer; empty when any JSON object will do."""

    tool: tuple[str, Mapping[str, Any]] | None = None
    """Name and parameter schema of the tool the request insists on, if it does."""

    inputs: tuple[str, ...] = ()
    """Texts to embed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """One request as it came in over the loopback connection."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)

    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case: ``request.headers["authorization"]``."""

    body: bytes = b""

    json: Any = None
    """The parsed body, or None when it is not JSON."""

    dialect: str = "unknown"
    """``openai.chat``, ``openai.text``, ``openai.responses``, ``openai.embeddings``, ``anthropic``, ``gemini``, …"""

    ask: Ask = field(default_factory=Ask)

    @property
    def model(self) -> str:
        """The model asked for."""
        return self.ask.model

    @property
    def stream(self) -> bool:
        """Whether the client wants the answer in pieces."""
        return self.ask.stream

    @property
    def messages(self) -> tuple[tuple[str, str], ...]:
        """Role and text of each message."""
        return self.ask.messages

    @property
    def prompt(self) -> str:
        """The text of the last user message, or of the last message when no user spoke."""
        texts = [text for role, text in self.messages if role == "user"] or [text for _, text in self.messages]
        return texts[-1] if texts else ""


def text_of(content: Any) -> str:
    """The text inside message content: a string, or parts that have a ``text`` or content of their own."""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        return text_of(content.get("text") or content.get("content"))
    if isinstance(content, list):
        return "\n".join(text for part in content if (text := text_of(part)))
    return ""


def spoken(messages: Any, default_role: str = "user") -> tuple[tuple[str, str], ...]:
    """Role and text of messages that have ``role`` and ``content``."""
    if not isinstance(messages, list):
        return ((default_role, text_of(messages)),) if messages else ()
    return tuple(
        (str(message.get("role") or default_role), text_of(message.get("content")))
        for message in messages
        if isinstance(message, Mapping)
    )


def insisted(
    tools: Iterable[tuple[str, Mapping[str, Any] | None]], *, named: str | None = None, any_of: bool = False
) -> tuple[str, Mapping[str, Any]] | None:
    """The tool a request insists on: the one it names, or the first one when it wants any."""
    for name, schema in tools:
        if name == named or (any_of and named is None):
            return name, schema or {"type": "object"}
    return None
