"""What a real LLM observability product makes of our spans: Arize Phoenix, read back through its REST API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.quiet]

PROGRAM = textwrap.dedent("""
    import sys, lmtrace
    from lmtrace.testing import LoopbackProvider

    lmtrace.configure(otlp=sys.argv[1], content="span_only", metrics="off", store="off")
    with LoopbackProvider() as provider, lmtrace.conversation("conv-1"):
        provider.reply("Goethe.")
        lmtrace.LM("openai/gpt-4o-mini", api_base=provider.openai_base, api_key="sk-x")("Who wrote Faust?")
    assert lmtrace.flush()
""")


@pytest.fixture(scope="module")
def phoenix_url(phoenix: str, servers: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port, grpc = servers.free_ports(2)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path_factory.mktemp("home")),
        "PHOENIX_WORKING_DIR": str(tmp_path_factory.mktemp("phoenix")),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(grpc),
        "PHOENIX_TELEMETRY_ENABLED": "false",
    }
    process = subprocess.Popen(
        [phoenix, "serve"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        servers.answers(lambda: read(f"{url}/v1/projects"), process, seconds=180)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def read(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


def spans(url: str) -> list[dict[str, Any]]:
    """The spans of our project, once Phoenix has stored them."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            found: list[dict[str, Any]] = read(f"{url}/v1/projects/lmtrace-test/spans?limit=10")["data"]
        except urllib.error.HTTPError:  # the project does not exist yet
            found = []
        if found:
            return found
        time.sleep(0.2)
    pytest.fail("Phoenix stored no span")


@pytest.mark.timeout(300)
def test_phoenix_understands_our_spans(phoenix_url: str):
    """Phoenix finds model, tokens, messages and session in the conventions' attributes."""
    environment = {
        "OTEL_RESOURCE_ATTRIBUTES": "openinference.project.name=lmtrace-test",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    subprocess.run(
        [sys.executable, "-c", PROGRAM, phoenix_url], env={**os.environ, **environment}, check=True, timeout=200
    )
    (span,) = spans(phoenix_url)
    attributes = span["attributes"]
    assert (span["name"], span["span_kind"]) == ("chat gpt-4o-mini", "LLM")
    assert attributes["llm.model_name"] == "gpt-4o-mini"
    assert attributes["llm.token_count.prompt"] == attributes["gen_ai.usage.input_tokens"] > 0
    assert attributes["llm.token_count.completion"] == attributes["gen_ai.usage.output_tokens"] > 0
    assert "Who wrote Faust?" in [value for name, value in attributes.items() if name.startswith("llm.input_messages")]
    assert "Goethe." in [value for name, value in attributes.items() if name.startswith("llm.output_messages")]
    assert attributes["session.id"] == "conv-1"
