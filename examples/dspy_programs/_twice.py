"""What each program here does: ask a scripted model once and keep its answers, then run again where there is no network.

With a real provider there is no script, no `LoopbackProvider` and no `api_base`; the rest stays.
"""

from __future__ import annotations

import io
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

warnings.simplefilter("ignore")  # DSPy warns of itself when it is imported
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # prices as LiteLLM brings them along

import dspy  # noqa: E402

import lmtrace  # noqa: E402
from lmtrace.testing import LoopbackProvider, ReceivedRequest  # noqa: E402

Model = Callable[[ReceivedRequest], Mapping[str, object]]
"""Answers a request: a value for each field of the signature."""


def twice(program: Callable[[], str], model: Model) -> None:
    """Print what `program` says, and what it cost with the provider and without."""
    cassette = Path("program.cassette")
    with LoopbackProvider() as provider:
        provider.respond(lambda request: written(request, model(request)))
        dspy.configure(lm=dspy.LM("openai/gpt-4o-mini", api_base=provider.openai_base, api_key="any"))
        with lmtrace.replay(cassette, mode="rewrite") as recorded, quiet():
            said = program()
    with no_network(), lmtrace.replay(cassette) as replayed, quiet():
        assert program() == said
    print(said)
    print(
        f"{len(recorded.calls)} calls for ${recorded.billed_cost:.6f}; "
        f"again without a network: {len(replayed.calls)} calls for ${replayed.billed_cost:.0f}"
    )


def no_network() -> mock._patch[mock.MagicMock]:
    """Refuses every connection."""
    return mock.patch("socket.socket.connect", side_effect=ConnectionRefusedError("there is no network"))


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars and the diaries of optimisers."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield


def asked(request: ReceivedRequest) -> list[str]:
    """The fields that DSPy's adapter asks for; none where it wants plain text."""
    _, found, wanted = request.prompt.rpartition("Respond with ")
    marks = r"`(\w+)`" if wanted.startswith("a JSON object") else r"\[\[ ## (\w+) ## \]\]"
    return [name for name in re.findall(marks, wanted) if found and name != "completed"]


def written(request: ReceivedRequest, values: Mapping[str, object]) -> str:
    """The answer in the form that is asked for: JSON, marked fields, or a fenced text."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    if "Respond with a JSON object" in request.prompt:
        return json.dumps(values)
    if asked(request):
        return "\n\n".join(f"[[ ## {name} ## ]]\n{text}" for name, text in (texts | {"completed": ""}).items())
    return "```\n{}\n```".format("\n".join(texts.values()))
