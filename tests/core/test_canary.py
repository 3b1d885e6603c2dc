"""The canary: a key planted wherever keys come from turns up in nothing that lmtrace leaves behind."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pydantic
import pytest
from backends import Answering, answer, asked
from opentelemetry.sdk import _logs as logs_sdk
from opentelemetry.sdk._logs import export as logs_export
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import lmtrace
from lmtrace import LM, _recorder
from lmtrace._events import Events
from lmtrace._redactor import Redactor
from lmtrace._secrets import split
from lmtrace._traced import TracedBackend
from lmtrace_exporters import compact

CANARY = "cAnArY+9f8e7d6c5b4a/3210=="
FORMS = (CANARY, quote(CANARY, safe=""), quote(CANARY))
BASIC = base64.b64encode(f"me:{CANARY}".encode()).decode()


class Client:
    """A client object of a provider library, whose `repr` is not discreet."""

    def __init__(self) -> None:
        self.api_key = CANARY

    def __repr__(self) -> str:
        return f"Client({CANARY})"


class Config(pydantic.BaseModel):
    api_key: str = CANARY
    safe: int = 1


KWARGS: dict[str, Any] = {
    "key": {"api_key": CANARY},
    "bytes": {"api_key": CANARY.encode()},
    "SecretStr": {"api_key": pydantic.SecretStr(CANARY)},
    "headers": {"extra_headers": {"AUTHORIZATION": f"Bearer {CANARY}", "x-Api-Key": CANARY, "Cookie": f"s={CANARY}"}},
    "basic": {"headers": {"authorization": f"Basic {BASIC}"}},
    "userinfo": {"api_base": f"https://me:{quote(CANARY, safe='')}@host.test/v1"},
    "user only": {"base_url": f"https://{quote(CANARY, safe='')}@host.test/v1"},
    "query": {"api_base": f"https://host.test/v1?api_key={quote(CANARY, safe='')}&sig={quote(CANARY, safe='')}"},
    "aws": {"aws_secret_access_key": CANARY, "aws_access_key_id": CANARY, "aws_session_token": CANARY},
    "vertex": {"vertex_credentials": json.dumps({"type": "service_account", "private_key": CANARY})},
    "azure": {"azure_ad_token": CANARY, "client_secret": CANARY},
    "client": {"client": Client()},
    "nested": {"extra_body": {"deep": [{"auth": {"token": CANARY}, "password": CANARY}], "config": Config()}},
    "dictionary key": {"headers": {CANARY: "x"}, "api_key": CANARY},
    "hosted tool": {
        "tools": [
            {"type": "mcp", "server_url": f"https://h.test?key={quote(CANARY, safe='')}", "authorization": CANARY}
        ]
    },
    "environment": {},
}


def echo(request: Any, secrets: Any) -> Any:
    """An answer that repeats every credential it was sent, as text, in a tool's arguments, and in the provider's data."""
    text = " ".join(FORMS)
    return answer(text, provider_data={"debug": {"sent": list(FORMS)}}, response_id=f"id-{CANARY}", model=f"m-{CANARY}")


def test_basic_auth() -> None:
    """User name and password are hidden as the ``Authorization`` header encodes them, too."""
    for name in ("basic", "userinfo"):
        line = Redactor().line(json.dumps({"text": BASIC}).encode(), split(KWARGS[name])[1])
        assert line == b'{"text":"[redacted]"}'


def refuse(request: Any, secrets: Any) -> Any:
    """A provider that quotes the key in its error, in the cause, and in the cause's cause."""
    try:
        try:
            {}[CANARY]
        except KeyError as error:
            raise ConnectionError(f"https://me:{quote(CANARY, safe='')}@host refused {CANARY}") from error
    except ConnectionError as error:
        raise ValueError(f"Incorrect API key provided: {' '.join(FORMS)}") from error


def assert_clean(what: str, data: bytes | str) -> None:
    data = data.encode() if isinstance(data, str) else data
    for form in FORMS:
        assert form.encode() not in data, f"{what} holds {form}"


@contextlib.contextmanager
def telemetry(content: str) -> Any:
    """The recorder as `configure` makes it, with telemetry kept in memory."""
    spans, logs = InMemorySpanExporter(), logs_export.InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    tracers, loggers = TracerProvider(shutdown_on_exit=False), logs_sdk.LoggerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    loggers.add_log_record_processor(logs_export.SimpleLogRecordProcessor(logs))
    recorder = _recorder.current()
    recorder.tracer = tracers.get_tracer("lmtrace")
    recorder.events = Events(loggers.get_logger("lmtrace"), content=content)
    yield lambda: [
        *[span.to_json() for span in spans.get_finished_spans()],
        *[
            item.log_record.to_json() if hasattr(item.log_record, "to_json") else repr(item)
            for item in logs.get_finished_logs()
        ],
    ]


@pytest.mark.parametrize("content", ["no_content", "span_and_event"])
@pytest.mark.parametrize("where", KWARGS)
def test_canary(  # noqa: PLR0917 - all of them are fixtures
    where: str,
    content: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """No file of the store, span, event, log, output or `repr` of anything public holds the key in any form."""
    if where == "environment":
        monkeypatch.setenv("SOME_PROVIDER_API_KEY", CANARY)
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:{quote(CANARY, safe='')}@proxy.test:1")
    store, kwargs = tmp_path / "canary", KWARGS[where]
    messages = [{"role": "user", "content": f"my key is {CANARY}, or {FORMS[1]}"}]
    seen: list[Any] = []
    lmtrace.configure(store=store, content=content)
    with caplog.at_level(logging.DEBUG, "lmtrace"), telemetry(content) as recorded, lmtrace.run("canary") as run:
        for reply in (echo, refuse):
            safe, secrets = split(kwargs)
            backend = TracedBackend(Answering(reply, pieces=("a", CANARY[:9], CANARY[9:], *FORMS)))
            with contextlib.suppress(ValueError):
                seen.append(backend.call(asked(messages=messages, kwargs=safe), secrets)[1])
            for _ in backend.stream(asked(messages=messages, kwargs=safe, stream=True), secrets):
                pass
            lm = LM("openai/gpt-4o-mini", backend=Answering(reply), num_retries=0, **kwargs)
            with contextlib.suppress(lmtrace.LMError):
                lm(messages=messages)
            seen += [lm, lm.dump_state(), repr(lm.history), asked(kwargs=safe)]
            with contextlib.suppress(AttributeError):
                seen.append(lm.kwargs.keys())
    lmtrace.flush()
    seen += [run, lmtrace.stats(), _recorder.current().settings]
    with lmtrace.history() as history:
        rows = history.sql("select * from calls").fetchall()
        assert len(rows) == 6
        assert_clean("a row read with SQL", repr(rows))
    lmtrace.shutdown()
    compact(store)
    files = [path for path in store.rglob("*") if path.is_file()]
    for path in files:
        assert_clean(str(path.relative_to(store)), path.read_bytes())
        assert_clean("a file's name", str(path))
    assert any(path.suffix == ".parquet" for path in files)
    shown = recorded()
    assert len([text for text in shown if "gen_ai.operation.name" in text]) >= 6
    for text in shown:
        assert_clean("telemetry", text)
    for item in seen:
        assert_clean(f"the repr of {type(item).__name__}", repr(item))
    assert_clean("the log", caplog.text)
    assert_clean("the output", "".join(capfd.readouterr()))


def test_the_provider_gets_everything() -> None:
    """What is kept from the record reaches the provider unchanged."""
    for kwargs in KWARGS.values():
        safe, secrets = split(kwargs)
        assert {**safe, **secrets} == kwargs
