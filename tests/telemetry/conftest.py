"""Finished calls made by hand, an SDK in memory, and a real OTLP receiver."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmtrace._data import LMOutput, LMRequest, LMResponse, LMTextPart, LMUsage
from lmtrace._entry import HistoryEntry

sys.path.insert(0, str(Path(__file__).parent.parent))

from receiver import receiver, running_receiver, servers  # noqa: F401 - fixtures

DATA = Path(__file__).parent / "data"


@pytest.fixture
def data() -> Callable[[str], Any]:
    """Reads a file of the GenAI conventions."""
    return lambda name: json.loads((DATA / f"{name}.json").read_text())


@pytest.fixture
def request_() -> LMRequest:
    """A plain chat request."""
    return LMRequest(
        model="openai/gpt-4o-mini",
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who wrote Faust?"}],
        kwargs={"temperature": 0.7, "max_tokens": 100},
        server_address="api.openai.com",
        server_port=443,
    )


@pytest.fixture
def response() -> LMResponse:
    """Its answer, with every kind of usage."""
    usage = LMUsage(
        input_tokens=20,
        output_tokens=5,
        total_tokens=25,
        reasoning_tokens=2,
        cache_read_tokens=10,
        cache_write_tokens=4,
        details={"prompt_tokens_details": {"audio_tokens": 3}, "completion_tokens_details": {"text_tokens": 5}},
    )
    return LMResponse(
        model="gpt-4o-mini-2024-07-18",
        outputs=[LMOutput(parts=[LMTextPart("Goethe.")], finish_reason="stop")],
        usage=usage,
        cost=1.5e-5,
        response_id="chatcmpl-1",
        provider_data={"system_fingerprint": "fp_1", "service_tier": "default"},
        metadata={"cost_source": "litellm"},
    )


@pytest.fixture
def make_entry(request_: LMRequest, response: LMResponse) -> Callable[..., HistoryEntry]:
    """Makes a finished call; arguments replace fields."""
    plain = HistoryEntry(
        uuid="0199-call",
        timestamp_ns=1_795_000_000_000_000_000,
        duration_ms=250.0,
        request=request_,
        response=response,
        outputs=["Goethe."],
        request_key="lm1:abc",
    )
    return lambda **changes: replace(plain, **changes)
