"""`instrument()`: record calls of libraries that know nothing of lmtrace."""

from __future__ import annotations


def instrument() -> None:
    """Record every call made through LiteLLM from now on, whichever way and whenever it is imported.

    Idempotent, and costs nothing until LiteLLM is imported. Calls through `lmtrace.LM` are recorded anyway and once.
    """
    from lmtrace.integrations import litellm

    litellm.instrument()


def uninstrument() -> None:
    """Undo `instrument`."""
    from lmtrace.integrations import litellm

    litellm.uninstrument()
