"""These tests need DSPy and run in an environment for each version of it: ``make test-dspy``."""

from __future__ import annotations

import asyncio
import gc
import importlib
import sys
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import pytest
from warm import Warm

import lmtrace
from lmtrace.testing import LoopbackProvider, capture

_IS_THERE: Final = any(metadata.distributions(name="dspy"))

if not _IS_THERE:
    collect_ignore_glob = ["test_*.py"]
else:
    sys.path.insert(0, str(Path(__file__).parent))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # DSPy 3.2 warns of itself when it is imported
        importlib.import_module("dspy")

_FOREIGN: Final = (
    "ignore::DeprecationWarning",  # 3.4 deprecates what 3.2 requires
    "ignore::pytest.PytestUnraisableExceptionWarning",  # event loops that LiteLLM's clients outlive
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            for text in _FOREIGN:
                item.add_marker(pytest.mark.filterwarnings(text))


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    """DSPy parses signatures, and Python 3.11.7 fails to if the garbage collector runs a finaliser that parses too."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Runs programs that use DSPy without the seconds that a fresh interpreter needs to import it."""
    with Warm("dspy,litellm,openai.resources", "ignore") as warm:
        yield warm


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    """A provider on loopback."""
    with LoopbackProvider() as provider:
        yield provider


@pytest.fixture
def instrumented() -> Iterator[None]:
    """DSPy and LiteLLM are instrumented."""
    lmtrace.instrument()
    yield
    lmtrace.uninstrument()


@pytest.fixture
def captured(instrumented: None) -> Iterator[Any]:
    """What is recorded meanwhile."""
    with capture() as captured:
        yield captured


@pytest.fixture(params=["litellm", "default"])
def engine(request: pytest.FixtureRequest) -> dict[str, Any]:
    """LiteLLM, and whatever this version of DSPy prefers."""
    import dspy

    if request.param == "litellm":
        return {"engine": "litellm"} if dspy.__version__ >= "3.4" else {}
    if dspy.__version__ < "3.4":
        pytest.skip("this version knows one engine")
    return {}


@pytest.fixture
def lm(provider: LoopbackProvider, engine: dict[str, Any]) -> Iterator[Any]:
    """A `dspy.LM` that asks the loopback provider, without a cache; the configured one for the test."""
    import dspy

    made = dspy.LM(
        "openai/gpt-4o-mini",
        api_key="sk-loopback-0123456789",
        api_base=provider.openai_base,
        cache=False,
        temperature=0.5,
        num_retries=0,
        **engine,
    )
    with dspy.context(lm=made):
        yield made


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Any:
    """`call(thing, *args, **kwargs)` in both ways."""
    if request.param == "sync":
        return lambda thing, *args, **kwargs: thing(*args, **kwargs)
    return lambda thing, *args, **kwargs: asyncio.run(thing.acall(*args, **kwargs))
