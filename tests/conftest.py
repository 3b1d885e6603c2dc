"""What holds for every test: nothing comes in from the developer's machine, and nothing is left on it.

The environment is cleaned before anything of lmtrace or LiteLLM is imported; each test has its own store, and its own
XDG folders. Tests that need an OTLP receiver take `otlp_agent`, the path of its command.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from warm import Warm

ROOT = Path(__file__).resolve().parent.parent
"""The checkout, or the folder the wheel test copied tests/ to."""

_AGENT = os.environ.get("LMTRACE_TEST_AGENT")
_PHOENIX = os.environ.get("LMTRACE_TEST_PHOENIX")
_TOOLS = ("LMTRACE_TEST_AGENT", "LMTRACE_TEST_PHOENIX")  # left alone: the workers of xdist inherit them

for _name in [name for name in os.environ if name.startswith(("LMTRACE_", "OTEL_")) and name not in _TOOLS]:
    del os.environ[_name]
# a shell's background job is started deaf to Ctrl-C, and so would be the programs that tests start
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
hypothesis.settings.register_profile(
    "lmtrace",
    deadline=None,  # how long an example takes says how busy the machine is
    derandomize=bool(os.environ.get("CI")),  # new examples are for people, who can act on what they find
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("lmtrace")
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # LiteLLM would ask the network for prices on import


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Private XDG folders, a private store, our own failures raised; settings and recorder are forgotten afterwards."""
    for kind in ("CONFIG", "STATE", "CACHE", "DATA"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / "xdg" / kind.lower()))
    monkeypatch.setenv("LMTRACE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("LMTRACE_TEST_RAISE", "1")
    yield
    if "lmtrace._settings" in sys.modules:
        import lmtrace

        lmtrace.shutdown()
        sys.modules[
            "lmtrace._failures"
        ].failures._logged.clear()  # another test's failure of the same kind is logged again
    if "lmtrace._compose" in sys.modules:  # a traceback may keep a test's recorder, and its broken store, alive
        sys.modules["lmtrace._compose"]._retired.clear()


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Runs programs that use LiteLLM without the seconds that a fresh interpreter needs to import it."""
    with Warm("litellm,openai.resources") as warm:
        yield warm


@pytest.fixture(scope="session")
def otlp_agent() -> str:
    """The command of the OTLP receiver, from its own environment (`make test` creates it)."""
    return _tool(_AGENT, ".venv-agent", "ddapm-test-agent", "make test")


@pytest.fixture(scope="session")
def phoenix() -> str:
    """The command of Arize Phoenix, from its own environment (`make phoenix` creates it)."""
    return _tool(_PHOENIX, ".venv-phoenix", "phoenix", "make phoenix")


def _tool(given: str | None, folder: str, command: str, target: str) -> str:
    path = Path(given) if given else ROOT / folder / "bin" / command
    if not path.exists():
        pytest.fail(f"{path} does not exist; `{target}` installs it")
    return str(path)
