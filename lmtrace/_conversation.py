"""What the calls of one conversation have in common, carried by the context.

The conventions forbid making up a conversation id, so it exists only where the application says so. Honeycomb's agent
view needs the id and the agent's name on every span below, so both are inherited by whatever runs in the block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final

from lmtrace import _semconv as names

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_inherited: ContextVar[Mapping[str, str]] = ContextVar("lmtrace.inherited", default=_NOTHING)


def inherited() -> Mapping[str, str]:
    """The attributes that spans opened here take over from the conversation around them."""
    return _inherited.get()


@contextmanager
def conversation(conversation_id: str | None = None, *, agent_name: str | None = None) -> Iterator[None]:
    """Mark every LM call in the block as part of one conversation.

    Blocks nest: what an inner one leaves out stays as the outer one said.

    Args:
        conversation_id: The application's id of the conversation or session, for `gen_ai.conversation.id`.
        agent_name: The agent at work, for `gen_ai.agent.name`.
    """
    given = {names.CONVERSATION_ID: conversation_id, names.AGENT_NAME: agent_name}
    changes = {key: str(value) for key, value in given.items() if value is not None}
    token = _inherited.set({**_inherited.get(), **changes})
    try:
        yield
    finally:
        try:
            _inherited.reset(token)
        except ValueError:  # left in another context than it was entered in, as async generators do
            _inherited.set(_NOTHING)
