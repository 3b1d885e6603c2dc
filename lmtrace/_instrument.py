"""`instrument()`: record calls of libraries that know nothing of lmtrace."""

from __future__ import annotations


def instrument(*, cache: bool | None = None) -> None:
    """Record every call made through LiteLLM and DSPy from now on, whichever way and whenever they are imported.

    Of a DSPy program its modules, adapters, tools, evaluations and compilations are recorded too, as steps around the
    calls. Idempotent, and costs nothing until one of the two is imported. Calls through `lmtrace.LM` are recorded anyway
    and once.

    Args:
        cache: Whether DSPy's calls with ``cache=True`` are answered from the store's cache, which `LM` uses, in the place of
            DSPy's own. None leaves it as it is: off, until somebody turns it on. Calls of LiteLLM ask the provider anyway.

    Raises:
        LMTraceError: the installed DSPy is not supported; LiteLLM is instrumented all the same.
    """
    from lmtrace.integrations import dspy, litellm

    litellm.instrument()
    dspy.instrument(cache=cache)


def uninstrument() -> None:
    """Undo `instrument`."""
    from lmtrace.integrations import dspy, litellm

    litellm.uninstrument()
    dspy.uninstrument()
