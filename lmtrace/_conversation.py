"""What the spans of one conversation have in common, carried by the context.

The conventions forbid making up a conversation id, so it exists only where the application says so; an agent's name is also
known where a framework has agents. Honeycomb's agent view needs both on every span below, so whatever runs in the block
inherits them: calls and steps, in tasks and in the threads of frameworks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import Final

from lmtrace import _scope
from lmtrace import _semconv as names

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_inherited: ContextVar[Mapping[str, str]] = ContextVar("lmtrace.inherited", default=_NOTHING)
_scope.carry(_inherited)


def inherited() -> Mapping[str, str]:
    """The attributes that spans opened here take over from the conversation around them."""
    return _inherited.get()


@contextmanager
def conversation(conversation_id: str | None = None, *, agent_name: str | None = None) -> Iterator[None]:
    """Mark every LM call and step in the block as part of one conversation.

    Blocks nest: what an inner one leaves out stays as the outer one said.

    Args:
        conversation_id: The application's id of the conversation or session, for `gen_ai.conversation.id`.
        agent_name: The agent at work, for `gen_ai.agent.name`.
    """
    given = {names.CONVERSATION_ID: conversation_id, names.AGENT_NAME: agent_name}
    changes = {key: str(value) for key, value in given.items() if value is not None}
    token = hand_down(changes)
    try:
        yield
    finally:
        take_back(token)


def hand_down(changes: Mapping[str, str]) -> Token[Mapping[str, str]]:
    """Have spans opened from here on take over `changes`; returns what `take_back` needs."""
    return _inherited.set({**_inherited.get(), **changes})


def take_back(token: Token[Mapping[str, str]]) -> None:
    """Undo `hand_down`."""
    try:
        _inherited.reset(token)
    except ValueError:  # left in another context than it was entered in, as async generators do
        _inherited.set(_NOTHING)
