"""What DSPy says of a program's calls is said of the same line with lmtrace as without."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dspy
import pytest

import lmtrace
from lmtrace_replay import replay

needs_notices = pytest.mark.skipif(dspy.__version__ < "3.4", reason="nothing is deprecated yet")


class CustomLM(dspy.BaseLM):
    """An LM of a program's own, as 3.4 still takes it."""

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        """Always the same."""
        message = SimpleNamespace(content="[[ ## answer ## ]]\nParis", tool_calls=None, reasoning_content=None)
        return SimpleNamespace(
            choices=[SimpleNamespace(message=message, finish_reason="stop")],
            usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            model=self.model,
        )

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        """The same."""
        return self.forward(prompt, messages, **kwargs)


def of_prompt(lm: Any) -> None:
    lm("What is the capital of France?")


def of_messages(lm: Any) -> None:
    lm(messages=[{"role": "user", "content": "What is the capital of France?"}])


def of_await(lm: Any) -> None:
    async def main() -> None:
        await lm.acall("What is the capital of France?")

    asyncio.run(main())


def of_program(lm: Any) -> None:
    with dspy.context(lm=lm):
        dspy.Predict("question -> answer")(question="What is the capital of France?")


def of_threads(lm: Any) -> None:
    with dspy.context(lm=lm):
        dspy.Parallel(num_threads=2, disable_progress_bar=True)([(lm, {"prompt": "one"}), (lm, {"prompt": "two"})])


PROGRAMS = (of_prompt, of_messages, of_await, of_program, of_threads)


@contextmanager
def recorded() -> Iterator[None]:
    lmtrace.instrument()
    try:
        yield
    finally:
        lmtrace.uninstrument()


@contextmanager
def noted(path: Path) -> Iterator[None]:
    with recorded(), replay(path, mode="rewrite"):
        yield


def notices(run: Callable[[Any], None], around: AbstractContextManager[None]) -> list[tuple[str, str, int]]:
    """What is said during a run, and the file and line it is said of."""
    with around, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DeprecationWarning)
        run(CustomLM("custom/one"))
    return sorted(
        (str(one.message), one.filename, one.lineno) for one in caught if issubclass(one.category, DeprecationWarning)
    )


@needs_notices
@pytest.mark.parametrize("run", PROGRAMS)
def test_a_notice_names_the_same_line(run: Callable[[Any], None], tmp_path: Path) -> None:
    """Recorded or noted in a cassette, a call has the notices it has without, each at the same line."""
    plain = notices(run, nullcontext())
    assert plain
    assert notices(run, recorded()) == plain
    assert notices(run, noted(tmp_path / "calls.cassette")) == plain


@needs_notices
def test_a_notice_of_a_program_is_in_its_file() -> None:
    """Python shows a deprecation by the file it is said of, so that is the program's."""
    assert {file for _, file, _ in notices(of_prompt, recorded())} == {__file__}


def test_a_zero_temperature_is_warned_of_once(lm: Any, instrumented: None) -> None:
    """A rollout without effect is warned of as DSPy does: once for each LM."""
    cold = lm.copy(temperature=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cold("hello", rollout_id=1)
        cold("hello", rollout_id=2)
    assert [one.category for one in caught if "rollout_id" in str(one.message)] == [UserWarning]
