"""What is wrong is said once, in words that help, and no LM call pays for it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import litellm
import pytest

import lmtrace
from lmtrace.testing import LoopbackProvider

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "programs"))

from instant import instant_lm
from litellm_runs import run

Start = Callable[..., "subprocess.Popen[str]"]


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """`lmtrace` as a user runs it."""
    return subprocess.run([sys.executable, "-m", "lmtrace", *words], capture_output=True, text=True, check=False)


# --- names and values that do not exist --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mistake", "wrong", "nearest"),
    [
        (lambda: lmtrace.configure(captur="full"), "captur", "capture"),
        (lambda: lmtrace.configure(capture="metdata"), "metdata", "metadata"),
        (lambda: lmtrace.configure(durability="powr"), "powr", "power"),
        (lambda: lmtrace.LM("openai/gpt-4o-mini", temprature=1), "temprature", "temperature"),
        (lambda: instant_lm()("hi", max_token=5), "max_token", "max_tokens"),
    ],
    ids=["setting", "value", "other value", "option", "option of a call"],
)
def test_unknown_names(mistake: Callable[[], object], wrong: str, nearest: str) -> None:
    """An unknown setting, value or option is an error that names it and the nearest valid one."""
    with pytest.raises(lmtrace.LMTraceError) as caught:
        mistake()
    assert repr(wrong) in str(caught.value)
    assert repr(nearest) in str(caught.value)


@pytest.mark.parametrize(
    ("words", "nearest"),
    [(["sho"], "nearest: show"), (["ls", "--jsn"], "--json"), (["cost", "--by", "modl"], "model")],
    ids=lambda words: " ".join(words) if isinstance(words, list) else words,
)
def test_unknown_words_of_a_command(words: list[str], nearest: str) -> None:
    """A mistyped command or option is wrong usage, and the nearest one is named."""
    done = command(*words)
    assert done.returncode == 2
    assert nearest in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_setting_in_the_environment(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that means nothing is one warning of the program that names the nearest setting; its calls go on."""
    monkeypatch.setenv("LMTRACE_CAPTUR", "full")
    report, complaints = reported(start, 3)
    assert report["answers"] == [True] * 3
    assert len(complaints) == 1
    assert "captur" in complaints[0]
    assert "'capture'" in complaints[0]
    done = command("doctor")
    assert done.returncode == 3
    assert "capture" in done.stdout


# --- stores that cannot be used ----------------------------------------------------------------------------------------


@contextmanager
def file_in_its_place(store: Path) -> Iterator[None]:
    store.write_text("not a folder")
    yield


@contextmanager
def read_only(store: Path) -> Iterator[None]:
    with mounted(store, "size=1m,ro"):
        yield


@contextmanager
def full_disk(store: Path) -> Iterator[None]:
    with mounted(store, "size=64k"):
        yield


@contextmanager
def no_room_at_all(store: Path) -> Iterator[None]:
    with mounted(store, "nr_inodes=1"):
        yield


@contextmanager
def newer_version(store: Path) -> Iterator[None]:
    store.mkdir()
    (store / "store.json").write_text('{"format": 2, "created": "2031-01-01T00:00:00Z", "by": "9.0"}')
    yield


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A file system of its own at a folder; root may write whatever the permissions say, so they are no test."""
    folder.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run([mount, "-t", "tmpfs", "-o", options, "lmtrace", folder], check=False).returncode
    ):
        pytest.skip("mounting a file system needs more rights")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def reported(start: Start, calls: int) -> tuple[dict[str, Any], list[str]]:
    """What a program with so many calls reports, and the lines it writes to stderr."""
    process = start("reporting.py", calls, stderr=subprocess.PIPE)
    report, complaints = process.communicate()
    assert process.returncode == 0, complaints
    return json.loads(report), complaints.splitlines()


STORES = [file_in_its_place, read_only, full_disk, no_room_at_all, newer_version]


@pytest.mark.parametrize("broken", STORES)
def test_unusable_store(broken: Any, store: Path, start: Start) -> None:
    """Calls succeed, one warning comes at once and the count of lost rows at the end; `lmtrace doctor` is red."""
    with broken(store):
        report, complaints = reported(start, 50)
        doctor = command("doctor")
        written = stored(store) if broken is full_disk else 0
    assert report["answers"] == [True] * 50
    assert report["entries"] == 50
    warning, loss = complaints
    assert "lmtrace doctor" in warning
    assert f"{50 - written} finished calls are lost" in loss
    account = report["stats"]["exporters"]["StoreExporter"]
    assert account["written"] == written
    assert account["buffered"] + account["dropped"] == 50 - written
    assert sum(report["stats"]["failures"].values()) == 50 - written
    assert doctor.returncode == 3, doctor.stdout
    assert "✗" in doctor.stdout
    assert str(store) in doctor.stdout


def stored(store: Path) -> int:
    with lmtrace.history(store) as history:
        ((count,),) = history.sql("SELECT count(*) FROM calls").fetchall()
    assert 0 < count < 50
    return int(count)


def test_lost_rows_are_counted(store: Path, start: Start) -> None:
    """Rows wait in memory up to a limit; what finds no room there is lost, and counted as such."""
    store.write_text("not a folder")
    report, complaints = reported(start, 4_000)
    account = report["stats"]["exporters"]["StoreExporter"]
    assert (account["written"], account["buffered"] + account["dropped"]) == (0, 4_000)
    assert account["dropped"] > 0
    assert len(complaints) == 2
    assert "4000 finished calls are lost" in complaints[1]


def test_newer_store_is_refused(store: Path) -> None:
    """A reader of a store of a newer major version says which version, and what to do; so does every command."""
    with newer_version(store):
        with pytest.raises(Exception, match="newer") as caught:
            lmtrace.history()
        assert "upgrade" in str(caught.value).lower()
        for words in (["ls"], ["sql", "SELECT 1"], ["cost"], ["compact"]):
            done = command(*words)
            assert done.returncode == 3, words
            assert "newer" in done.stderr
            assert "Traceback" not in done.stderr


# --- messages that make no sense ---------------------------------------------------------------------------------------

STRANGE = object()
MESSAGES = {
    "no list": 42,
    "text": "hello",
    "list of numbers": [42],
    "number as content": [{"role": "user", "content": 42}],
    "no content": [{"role": "user"}],
    "content of None": [{"role": "user", "content": None}],
    "object as content": [{"role": "user", "content": STRANGE}],
    "object in a part": [{"role": "user", "content": [{"type": "text", "text": STRANGE}]}],
    "part without a type": [{"role": "user", "content": [{}]}],
    "unknown role": [{"role": "wizard", "content": "hello"}],
    "empty": [],
}
MODELS = {"openai/gpt-4o-mini": "openai_base", "anthropic/claude-sonnet-4-5": "anthropic_base"}


@pytest.fixture
def connection(
    provider: LoopbackProvider, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], dict[str, Any]]]:
    monkeypatch.setattr(litellm, "suppress_debug_info", True)
    monkeypatch.setattr(litellm, "disable_aiohttp_transport", True)
    yield lambda model: {"api_base": getattr(provider, MODELS[model]), "api_key": "key-0000", "max_retries": 0}
    lmtrace.uninstrument()


def outcome(ask: Callable[[], Any]) -> tuple[Any, ...]:
    """What a call of LiteLLM comes to: its answer, or its error's class and text.

    LiteLLM writes the stack into some texts; a frame of the wrapper that records is in it, and so is left out here.
    """
    try:
        return "answer", ask().choices[0].message.content
    except Exception as error:
        return type(error), re.sub(r"Traceback .*?\n(?=\S)", "", str(error), flags=re.DOTALL)


def asked(lm: lmtrace.LM, messages: Any) -> Any:
    """An LM's answer in LiteLLM's form, or what LiteLLM raised."""
    try:
        text = lm(messages=messages)[0]
    except lmtrace.LMError as error:
        raise (error.__cause__ or error) from None
    return SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content=text))])


@pytest.mark.parametrize("messages", MESSAGES.values(), ids=MESSAGES)
@pytest.mark.parametrize("model", MODELS)
def test_wrong_messages(messages: Any, model: str, connection: Callable[[str], dict[str, Any]]) -> None:
    """LiteLLM raises the same class with the same text, or answers the same, as without lmtrace; an LM has it as the cause."""
    given = connection(model)

    def ask() -> Any:
        return litellm.completion(model, messages, **given)

    def ask_async() -> Any:
        return run(litellm.acompletion(model, messages, **given))

    bare = outcome(ask), outcome(ask_async)
    lmtrace.instrument()
    assert (outcome(ask), outcome(ask_async)) == bare
    lmtrace.uninstrument()
    if not messages:
        return  # an LM takes no messages for a question that was not asked
    assert outcome(lambda: asked(lmtrace.LM(model, num_retries=0, **given), messages)) == bare[0]
    with lmtrace.history() as history:
        assert len(history.recent(10)) == 3
