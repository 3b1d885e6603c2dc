"""What is documented is run: every block of README and docs, as a reader would type it, against a local provider."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from warm import Warm

import lmtrace
from lmtrace import _schema, _semconv, _settings
from lmtrace.testing import LoopbackProvider

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAM = """
import litellm
messages = [{"role": "user", "content": "hello"}]
print(litellm.completion("openai/gpt-4o-mini", messages).choices[0].message.content)
"""


def blocks_of(document: str) -> list[tuple[str, str]]:
    return BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider() as provider:
        yield provider


class Reader:
    """Somebody who follows a document in an empty project, with a provider at hand."""

    def __init__(self, folder: Path, provider: LoopbackProvider, warm: Warm) -> None:
        self.folder = folder
        self.warm = warm
        (folder / "pyproject.toml").write_text('[project]\nname = "reader"\n')
        (folder / "my_program.py").write_text(PROGRAM)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LMTRACE_", "OTEL_"))}
        self.environment = kept | {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "OPENAI_API_KEY": "any",
            "OPENAI_BASE_URL": provider.openai_base,
            "HONEYCOMB_API_KEY": "any",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "COLUMNS": "100",
        }

    def python(self, blocks: list[str]) -> list[str]:
        program, typed = Path(__file__).parent / "run_blocks.py", json.dumps(blocks)
        done = self.warm.run(program, cwd=self.folder, environ=self.environment, typed=typed)
        assert done.returncode == 0, done.stdout + done.stderr
        printed: list[str] = json.loads(done.stdout.splitlines()[-1])
        return printed

    def command(self, line: str) -> str:
        done = subprocess.run(
            shlex.split(line), cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def reader(tmp_path: Path, provider: LoopbackProvider, warm: Warm) -> Reader:
    return Reader(tmp_path, provider, warm)


WITH_PYTHON = [
    name
    for name in DOCUMENTS
    if any(kind == "python" for kind, _ in blocks_of(name)) and name != "docs/dspy.md"  # tests/with_dspy runs that
]


@pytest.mark.parametrize("document", WITH_PYTHON)
def test_blocks_do_what_they_say(document: str, reader: Reader) -> None:
    """Python blocks run, and print exactly what the text block after them shows; commands and SQL run on what they left."""
    blocks = blocks_of(document)
    printed = iter(reader.python([text for kind, text in blocks if kind == "python"]))
    last = ""
    for kind, text in blocks:
        if kind == "python":
            last = next(printed)
            assert "(the block failed)" not in last, f"{text}\n{last}"
        elif kind == "text":
            assert last == text
        elif kind == "console":
            run_console(reader, text)
        elif kind == "sql":
            run_sql(reader, text)


def run_console(reader: Reader, text: str) -> None:
    """Commands of ours run; lines below one are what it prints, figures aside."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, *expected = part.strip().splitlines()
        if not line.startswith("lmtrace"):
            continue
        printed = reader.command(line)
        for shown in expected:
            assert figureless(shown) in figureless(printed), printed


def figureless(text: str) -> str:
    return re.sub(r"[\d.]+", "#", re.sub(r"\b[\da-f]{8}\b", "#", text))


def run_sql(reader: Reader, text: str) -> None:
    with lmtrace.history(reader.folder / ".lmtrace") as history:
        for statement in text.split(";"):
            if statement.strip():
                history.sql(statement).fetchall()


def test_every_setting_is_documented() -> None:
    """docs/settings.md has one row for each setting, and none for anything else."""
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
    assert rows == list(_settings.PARSERS)


def test_every_column_is_documented() -> None:
    """docs/store.md names every column of the `calls` view, in the order of the schema."""
    table = (ROOT / "docs/store.md").read_text().split("## Columns")[1]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert [name for cell in cells for name in re.findall(r"`(\w+)`", cell)] == list(_schema.CALL_COLUMNS)


def test_every_emitted_name_is_documented() -> None:
    """docs/telemetry.md has every metric, event and `lmtrace.*` attribute we emit."""
    text = (ROOT / "docs/telemetry.md").read_text()
    prefixes = re.findall(r"`((?:gen_ai|lmtrace|openai)\.[\w.]+)`((?:, `\.[\w.]+`)*)", text)
    named = {first for first, _ in prefixes}
    for first, rest in prefixes:
        stems = [first[: match.start()] for match in re.finditer(r"\.", first)]
        named |= {stem + ending for ending in re.findall(r"`(\.[\w.]+)`", rest) for stem in stems}
    emitted = {*_semconv.METRICS, _semconv.INFERENCE_DETAILS_EVENT, _semconv.EXCEPTION_EVENT, _semconv.EVALUATION_EVENT}
    emitted |= {name for name in _semconv.VALUE_TYPES if name.startswith("lmtrace.")} - {_semconv.RETRY_DELAY}
    assert emitted - named == set()
