"""``lmtrace demo``: a newcomer's first LM calls as a trace, as rows, as SQL and as money; no key and no network."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmtrace._cli._fail import settings_errors
from lmtrace._cli._filters import store_option
from lmtrace._cli._print import Column, console, note, print_table, text
from lmtrace._cli._text import one_line

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

SQL = "select rollout_id, output_text, cost from calls where ends_with(run_id, '{}') and rollout_id is not null order by 1"


@click.command("demo")
@store_option
def command(*, store: Path | None) -> None:
    """Make seven LM calls against a provider on this machine, and look at what was recorded.

    They go to a store of their own, .lmtrace-demo, so they never mix with yours.
    """
    path = _demo_store(store)
    os.environ["LMTRACE_STORE"] = str(path)
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    note(f"recording to {path}; importing LiteLLM takes a few seconds …")
    memory = _spans_in_memory()
    run_id = _record()
    _say("The run as a trace: one span for each call, with time, tokens and cost.")
    _show("show", run_id[-8:])
    _say("The same calls as rows. The id in the second column opens one: lmtrace show ID.")
    _show("ls", "--run", run_id[-8:])
    _say("Two rollouts of one prompt, side by side, in SQL.")
    _show("sql", SQL.format(run_id[-8:]))
    _say("What it cost.")
    _show("cost", "--run", run_id[-8:], "--by", "prompt")
    if memory is not None:
        _say("And what Jaeger, Honeycomb or any OTLP backend gets of the first call, without a word of its content.")
        _print_span(memory)
    _next_steps(path)


def _demo_store(given: Path | None) -> Path:
    with settings_errors():
        from lmtrace._places import default_store

        default = default_store()
    if given is not None:
        return given.expanduser().absolute()
    return default.with_name(f"{default.name}-demo") if default is not None else Path(".lmtrace-demo").absolute()


def _record() -> str:
    """Make the calls; the run's id."""
    import lmtrace
    from lmtrace._cli._demo_calls import make_calls
    from lmtrace.testing import LoopbackProvider

    with LoopbackProvider(latency=0.05) as provider:
        note(f"asking a provider without a model at {provider.url}")
        run = make_calls(provider)
    lmtrace.flush(5.0)
    return run.id


def _spans_in_memory() -> InMemorySpanExporter | None:
    """A tracer provider that keeps spans to be shown, unless the user has an OTLP endpoint to send them to."""
    from lmtrace._settings import resolve

    if resolve().otlp or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return None
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    memory = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    trace.set_tracer_provider(provider)
    return memory


def _print_span(memory: InMemorySpanExporter) -> None:
    span = memory.get_finished_spans()[0]
    lines: list[tuple[str, Any]] = [("span", span.name), *sorted((span.attributes or {}).items())]
    columns = [Column("attribute", style="cyan"), Column("value", flexible=True)]
    print_table(columns, [(name, one_line(str(value))) for name, value in lines])


def _say(sentence: str) -> None:
    printer = console()
    printer.print()
    printer.print(text(sentence, "bold"))
    sys.stdout.flush()


def _show(*words: str) -> None:
    """Print a command and what it prints."""
    from lmtrace._cli import cli

    shown = " ".join(f'"{word}"' if " " in word else word for word in words)
    console().print(text(f"$ lmtrace {shown}", "green"), soft_wrap=True)
    sys.stdout.flush()
    cli.main(list(words), prog_name="lmtrace", standalone_mode=False)


def _next_steps(path: Path) -> None:
    lmtrace = "lmtrace" if shutil.which("lmtrace") else _near(Path(sys.executable).parent / "lmtrace")
    lines = (
        (f"{lmtrace} show --store {_near(path)}", "the last call, whole; here it failed"),
        (f"{lmtrace} sql --schema --store {_near(path)}", "everything you can ask for"),
        (f"{lmtrace} run -- python app.py", "record a program of yours as it is"),
    )
    width = max(len(line) for line, _ in lines)
    _say("Next:")
    for line, why in lines:
        console().print(text(f"  {line:<{width}}   {why}"), soft_wrap=True)


def _near(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
