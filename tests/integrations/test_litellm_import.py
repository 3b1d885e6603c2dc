"""`instrument()` around the import of LiteLLM: in a process of its own each, because an import happens once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

BEGINNING = """
import sys
from lmtrace import _recorder
from lmtrace._settings import Settings
from lmtrace.integrations.litellm import instrument, uninstrument
from opentelemetry import trace
rows = []
class Rows:
    def export(self, records): rows.extend(records)
    def force_flush(self, timeout_millis=0): return True
    def shutdown(self, timeout_millis=0): pass
_recorder.replace(_recorder.Recorder(Settings(store=None), tracer=trace.get_tracer("t"), exporters=[Rows()]))
ASK = dict(model="openai/gpt-4o-mini", messages=[{"role": "user", "content": "x"}], mock_response="hello")
"""


def run(program: str) -> str:
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LMTRACE_TEST_RAISE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", BEGINNING + textwrap.dedent(program)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_instrumenting_imports_nothing() -> None:
    """`instrument()` in a program that may never use LiteLLM costs it nothing."""
    assert run("instrument(); print('litellm' in sys.modules, len(sys.meta_path))").startswith("False")


@pytest.mark.slow
def test_litellm_imported_afterwards_is_recorded() -> None:
    """By attribute and by name; and the finder is gone after the import."""
    program = """
    instrument(); instrument()
    import litellm
    from litellm import completion
    assert not any(type(finder).__module__.startswith("lmtrace") for finder in sys.meta_path)
    assert litellm.__spec__.loader is litellm.__loader__ and type(litellm.__loader__).__name__ == "SourceFileLoader"
    litellm.completion(**ASK); completion(**ASK)
    print(len(rows))
    """
    assert run(program) == "2"


@pytest.mark.slow
def test_an_import_going_on_in_another_thread_is_waited_for() -> None:
    """`instrument()` in the middle of somebody's ``import litellm``."""
    program = """
    import threading, time
    importing = threading.Thread(target=__import__, args=("litellm",))
    importing.start()
    while "litellm" not in sys.modules: time.sleep(0.001)
    instrument()
    importing.join()
    import litellm
    deadline = time.monotonic() + 60
    while not hasattr(litellm.completion, "_lmtrace_original") and time.monotonic() < deadline: time.sleep(0.01)
    litellm.completion(**ASK)
    print(len(rows))
    """
    assert run(program) == "1"


@pytest.mark.slow
def test_taking_it_back_before_the_import_leaves_litellm_alone() -> None:
    """`uninstrument()` removes what waits for the import."""
    program = """
    before = list(sys.meta_path)
    instrument(); uninstrument()
    assert sys.meta_path == before
    import litellm
    litellm.completion(**ASK)
    print(len(rows))
    """
    assert run(program) == "0"


@pytest.mark.slow
def test_a_stream_left_open_at_the_end_of_the_process_is_recorded() -> None:
    """With what had arrived."""
    program = """
    import atexit
    atexit.register(lambda: print(len(rows), b"StreamAbandoned" in rows[0].line))
    instrument()
    import litellm
    stream = litellm.completion(stream=True, **ASK)
    next(stream)
    """
    assert run(program) == "1 True"


def test_an_lm_looks_nothing_up_but_its_provider() -> None:
    """LiteLLM, imported for an LM, is kept from fetching its price list; a program that wants it can say so before."""
    program = """
        import os, socket
        asked = []
        look_up = socket.getaddrinfo
        socket.getaddrinfo = lambda host, *rest, **options: asked.append(host) or look_up(host, *rest, **options)
        del os.environ["LITELLM_LOCAL_MODEL_COST_MAP"]
        import lmtrace
        from lmtrace.testing import LoopbackProvider
        with LoopbackProvider() as provider:
            print(lmtrace.LM("openai/gpt-4o-mini", api_base=provider.openai_base, api_key="any")("hello"))
        print(sorted(set(map(str, asked))))
    """
    answer, asked = run(program).splitlines()
    assert answer == "['Hello! How can I help you?']"
    assert asked in ("[]", "['127.0.0.1']")
