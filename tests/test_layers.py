"""The layers of the design: who may import whom, and what an import costs."""

from __future__ import annotations

import ast
import gc
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HEAVY = ("litellm", "dspy", "duckdb", "pyarrow", "opentelemetry", "openai", "rich", "pydantic")
ROOTS = ("lmtrace", "lmtrace_exporters", "lmtrace_replay")

AT_IMPORT = {
    "lmtrace": (*HEAVY, "lmtrace_exporters", "lmtrace_replay", "click"),
    "lmtrace._cli": (*HEAVY, "lmtrace_exporters", "lmtrace_replay"),
    "lmtrace.integrations": HEAVY,
    "lmtrace_exporters": (*HEAVY, "lmtrace_replay"),
    "lmtrace_replay": ("sqlite3", "duckdb", "pyarrow", "pytest", "syrupy", "lmtrace_exporters"),
    "lmtrace_replay.plugin": (*HEAVY, "syrupy", "orjson", "lmtrace", "lmtrace_exporters"),  # in every run of pytest
}
"""What must not be in `sys.modules` after a bare import."""

HELPERS = {
    "lmtrace": {"orjson", "platformdirs", "opentelemetry"},
    "lmtrace._cli": {"click"},
    "lmtrace._cli._demo_calls": {"litellm"},  # the demo's program, imported when the demo runs
    "lmtrace.integrations": {"litellm", "dspy", "opentelemetry"},
    "lmtrace.testing": {"opentelemetry"},
    "lmtrace_exporters": {"lmtrace", "orjson", "opentelemetry"},
    "lmtrace_replay": {"lmtrace", "orjson", "platformdirs"},
    "lmtrace_replay.plugin": {"pytest"},
    "lmtrace_replay._forecast": {"pytest"},
    "lmtrace_replay._plan": {"pytest"},
    "lmtrace_replay._replay_test": {"pytest", "lmtrace"},
    "lmtrace_replay._snapshots": {"pytest"},
    "lmtrace_replay._syrupy": {"syrupy", "lmtrace"},
}
"""What a module of a layer may import at its top, beside the standard library and its own root."""

COMPOSITION_ROOT = {"lmtrace._compose", "lmtrace._stored", "lmtrace._cli", "lmtrace.testing"}
"""The only parts of `lmtrace` that may reach for the other two roots and the SDK, and only inside functions."""


def sources(root: str) -> Iterator[tuple[str, ast.Module]]:
    """Every module of an installed root, by dotted name."""
    spec = importlib.util.find_spec(root)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0])
    for path in sorted(folder.rglob("*.py")):
        parts = (root, *path.relative_to(folder).with_suffix("").parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        gc.disable()  # Python 3.11.7 fails to parse while a finaliser parses too
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        finally:
            gc.enable()
        yield name, tree


def imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_top(tree: ast.AST) -> Iterator[str]:
    """Names imported when the module is, `if TYPE_CHECKING` and functions left out."""
    for node in ast.iter_child_nodes(tree):
        yield from imported(node)
        checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not checking and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from at_top(node)


def layer(module: str, layers: object) -> str:
    """The most specific layer a module belongs to."""
    return max((name for name in layers if f"{module}.".startswith(f"{name}.")), key=len)  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", AT_IMPORT)
def test_import_is_light(module: str) -> None:
    """A bare import of a layer loads nothing heavy and nothing of a layer above."""
    code = f"import sys, {module}; print(*sorted(sys.modules), sep='\\n')"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & set(AT_IMPORT[module])


@pytest.mark.parametrize("root", ROOTS)
def test_top_imports(root: str) -> None:
    """At its top a module imports the standard library, its own root and the few helpers its layer may use."""
    strangers = [
        f"{module} imports {name}"
        for module, tree in sources(root)
        for name in at_top(tree)
        if (package := name.split(".")[0]) not in sys.stdlib_module_names
        and package != root
        and package not in HELPERS[layer(module, HELPERS)]
    ]
    assert not strangers


def test_core_knows_no_sink() -> None:
    """Outside its composition root the core never names the other two roots or the SDK, not even in a function."""
    offenders = [
        f"{module} imports {name}"
        for module, tree in sources("lmtrace")
        if not any(f"{module}.".startswith(f"{allowed}.") for allowed in COMPOSITION_ROOT)
        for node in ast.walk(tree)
        for name in imported(node)
        if name.startswith(("lmtrace_exporters", "lmtrace_replay", "opentelemetry.sdk", "opentelemetry.exporter"))
    ]
    assert not offenders


def test_only_integrations_patch() -> None:
    """Provider libraries are named in `lmtrace.integrations`, in the exporters never."""
    offenders = [
        f"{module} imports {name}"
        for root in ROOTS
        for module, tree in sources(root)
        if not f"{module}.".startswith(("lmtrace.integrations.", "lmtrace._cli."))
        for node in ast.walk(tree)
        for name in imported(node)
        if name.split(".")[0] in {"litellm", "dspy", "openai"}
    ]
    assert not offenders


def test_exporters_know_no_replay() -> None:
    """Exporters do not know that recordings can be served again."""
    names = [name for _, tree in sources("lmtrace_exporters") for node in ast.walk(tree) for name in imported(node)]
    assert not [name for name in names if name.startswith("lmtrace_replay")]
