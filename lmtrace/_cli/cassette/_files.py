"""Cassettes as commands read and write them: errors are sentences with an exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lmtrace._cli._fail import EnvironmentFailure, NotFoundFailure, UsageFailure
from lmtrace._cli._text import message_text, one_line

if TYPE_CHECKING:
    from lmtrace_replay._format import Cassette, Header
    from lmtrace_replay._recording import Recording

Function = TypeVar("Function", bound=Callable[..., Any])

PREVIEW = 200
"""Characters of a text that a line can show at most."""


@contextmanager
def cassette_errors() -> Iterator[None]:
    """Turn what can be wrong with a cassette into a failure: 1 for its content, 3 for the file."""
    from lmtrace_replay._errors import CassetteError, CassetteSecretError, CassetteTamperedError

    try:
        yield
    except (CassetteSecretError, CassetteTamperedError) as error:
        raise NotFoundFailure(str(error)) from None
    except CassetteError as error:
        raise EnvironmentFailure(str(error)) from None


def read(path: Path, *, trust_keys: bool = False) -> Cassette:
    """The cassette at `path`.

    Raises:
        Failure: it cannot be read.
    """
    from lmtrace_replay._cassette import load

    with cassette_errors():
        return load(path, trust_keys=trust_keys)


def write(path: Path, recordings: Sequence[Recording], header: Header | None, *, scan: bool = True) -> bool:
    """Write a cassette, and return whether the file is another one now.

    Raises:
        Failure: it holds something like a credential, or cannot be written.
    """
    from lmtrace_replay._cassette import save

    with cassette_errors():
        return save(path, recordings, header, scan=scan)


def found(paths: Iterable[Path]) -> list[Path]:
    """The files named, and the ``.cassette`` files in the folders named, each once.

    Raises:
        Failure: there are none.
    """
    files = [file for path in paths for file in (sorted(path.rglob("*.cassette")) if path.is_dir() else [path])]
    if not files:
        raise NotFoundFailure("no cassette there; make one: lmtrace cassette create --trace ID -o FILE")
    return list(dict.fromkeys(files))


def target_option(function: Function) -> Function:
    """Add ``-o`` and ``--force``."""
    output = click.option(
        "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="FILE",
        help="The cassette to write.",
    )  # fmt: skip
    force = click.option("--force", is_flag=True, help="Replace FILE if it exists.")
    return output(force(function))


def check_target(output: Path, *, force: bool) -> None:
    """Raise a failure if `output` exists and must not be replaced."""
    if not force and output.exists():
        raise UsageFailure(f"{output} exists; choose another name, or replace it with --force")


def secrets_option(function: Function) -> Function:
    """Add ``--allow-secrets``."""
    text = "Write even what looks like a credential."
    return click.option("--allow-secrets", is_flag=True, help=text)(function)


def facts(number: int, recording: Recording) -> dict[str, Any]:
    """One call of a cassette for a table or JSON."""
    return {
        "number": number,
        "model": recording.request.model,
        "operation": recording.request.operation,
        "scope": recording.scope,
        "path": recording.path,
        "rollout_id": recording.rollout_id,
        "asked": asked(recording),
        "answered": answered(recording),
        "error_type": None if recording.error is None else recording.error.type,
        "streamed": recording.chunks is not None,
        "cost": None if recording.response is None else recording.response.cost,
        "key": recording.request_key,
    }


def asked(recording: Recording) -> str:
    """The last message of a request on one line."""
    from lmtrace_replay._texts import messages_of

    messages = messages_of(recording.request)
    return one_line(messages[-1].text, PREVIEW) if messages else ""


def answered(recording: Recording) -> str:
    """The first answer of a recording on one line, or the tools it calls, or the error."""
    if recording.error is not None:
        return one_line(f"✗ {recording.error.type.rpartition('.')[2]}: {recording.error.message or ''}", PREVIEW)
    if recording.response is None:
        return ""
    output = recording.response.outputs[0]
    calls = ", ".join(
        f"{getattr(part, 'name', '')}({getattr(part, 'arguments', '')})" for part in output.of_type("tool_call")
    )
    return one_line(message_text(output.text) or calls, PREVIEW)
