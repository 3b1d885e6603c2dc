"""A program that puts credentials everywhere they can be put, and asks lmtrace to show everything it shows.

Argument: the address of a loopback provider. The canaries are in the environment.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import litellm

import lmtrace

logging.basicConfig(level=logging.WARNING)
logging.getLogger("lmtrace").setLevel(logging.DEBUG)
litellm.suppress_debug_info = True

host = sys.argv[1].removeprefix("http://")
canary = {
    name.removeprefix("CANARY_").lower(): value for name, value in os.environ.items() if name.startswith("CANARY_")
}
for name in list(os.environ):
    if name.startswith("CANARY_"):
        del os.environ[name]
os.environ["WAREHOUSE_PASSWORD"] = canary["environment"]

model = "openai/gpt-4o-mini"
connection: dict[str, Any] = {
    "api_key": canary["api_key"],
    "extra_headers": {"Authorization": f"Bearer {canary['header']}", "X-Gateway": canary["custom_header"]},
    "api_base": f"http://me:{quote(canary['userinfo'], safe='')}@{host}/v1",
}
in_query = {**connection, "api_base": f"http://{host}/v1?api_key={canary['query']}&subscription-key={canary['query']}"}
asked = f"Log in with {canary['environment']} please."
messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": asked}]
tool = {"type": "function", "function": {"name": "login", "description": asked, "parameters": {"type": "object"}}}


def show(*values: object) -> None:
    """Print."""
    sys.stdout.write(" ".join(map(str, values)) + "\n")


async def with_lm(given: dict[str, Any]) -> None:
    """Every way of asking an LM, and everything it shows afterwards."""
    lm = lmtrace.LM(model, num_retries=0, metadata={"note": "mine"}, **given)
    with suppress(lmtrace.LMError):
        lm(messages=messages, tools=[tool])
    with suppress(lmtrace.LMError):
        list(lm.stream(asked, rollout_id=1))
    with suppress(lmtrace.LMError):
        await lm.acall(asked, rollout_id=2)
    try:
        lm("refuse this")
    except lmtrace.LMError as error:
        show(error, repr(error), error.args)
    show(lm, lm.dump_state(), lm.history[-1]["kwargs"] if lm.history else "no answer")


async def with_litellm(given: dict[str, Any]) -> None:
    """Every way of asking LiteLLM. What it raises is its own and not printed."""
    given = {**given, "num_retries": 0, "max_retries": 0, "metadata": {"note": asked}}
    for ask in (
        lambda: litellm.completion(model, messages, **given),
        lambda: list(litellm.completion(model, messages, stream=True, **given)),
        lambda: litellm.responses(asked, model, **given),
        lambda: litellm.text_completion(asked, "text-completion-openai/gpt-3.5-turbo-instruct", **given),
        lambda: litellm.embedding("openai/text-embedding-3-small", [asked], **given),
        lambda: litellm.completion(model, [{"role": "user", "content": "refuse this"}], **given),
    ):
        with suppress(Exception):
            ask()
    with suppress(Exception):
        await litellm.acompletion(model, messages, **given)


async def main() -> None:
    """All of it."""
    with lmtrace.run("careless", tags={"team": canary["environment"]}):
        for given in (connection, in_query):
            await with_lm(given)
            await with_litellm(given)
    await litellm.close_litellm_async_clients()
    assert lmtrace.flush()
    show(lmtrace.stats())


asyncio.run(main())
