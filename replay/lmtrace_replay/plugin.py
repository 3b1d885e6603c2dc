"""The pytest plugin: hooks, options and fixtures; the work is imported when a test asks for it.

Every pytest of a machine on which lmtrace is installed imports this module, so it imports nothing but pytest.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion

    from lmtrace_replay._replay_test import ReplayTest
    from lmtrace_replay._tally import Tally

MODES = ("replay", "record-missing", "rewrite", "verify", "live", "off")

_replay_key = pytest.StashKey["ReplayTest"]()
_tally_key = pytest.StashKey["Tally"]()
_forecast_key = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; nothing is imported for them."""
    group = parser.getgroup("lmtrace", "recorded answers of language models (lmtrace)")
    group.addoption(
        "--lmtrace-mode",
        dest="lmtrace_mode",
        choices=MODES,
        help="replay (the default): recorded answers, no network. record-missing: ask the provider for what is not recorded. "
        "rewrite: record everything again. verify: replay, and compare with the provider. live: ask the provider, keep "
        "nothing. off: as if lmtrace were not there.",
    )
    group.addoption(
        "--lmtrace-allow",
        dest="lmtrace_allow",
        action="append",
        default=[],
        metavar="HOST",
        help="A host, host:port or 'loopback' that tests may connect to while they replay; can be repeated.",
    )
    parser.addini("lmtrace_mode", "The mode of tests that say none.", default="replay")
    parser.addini("lmtrace_allow", "Hosts that tests may connect to while they replay.", type="args", default=[])
    parser.addini("lmtrace_rollouts", "How rollout ids are compared: exact, ordinal, ignore.", default="exact")
    parser.addini("lmtrace_order", "any, or strict: requests come in the recorded order.", default="any")
    parser.addini(
        "lmtrace_normalisers",
        "What is made equal before requests are compared: dates, uuids, folders, or package.module:function.",
        type="args",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Describe the marker."""
    config.addinivalue_line(
        "markers",
        "lmtrace(cassette=None, *, mode, rollouts, order, allow, normalisers): replay recorded answers of language models, "
        "without a network; `pytest --lmtrace-mode=record-missing` records them.",
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give a marked test the fixture, after those of wider scopes and before its own others."""
    if not isinstance(item, pytest.Function) or item.get_closest_marker("lmtrace") is None:
        return
    names = item.fixturenames
    if "lm_replay" not in names:
        definitions = item._fixtureinfo.name2fixturedefs
        wider = [
            index
            for index, name in enumerate(names)
            if name in definitions and definitions[name][-1].scope != "function"
        ]
        names.insert(max(wider, default=-1) + 1, "lm_replay")


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """Say what recording again will cost, before it is spent."""
    if config.getoption("lmtrace_mode") != "rewrite":
        return []
    from lmtrace_replay._forecast import forecast

    line = forecast(items)
    return [line] if line is not None else []


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    """The same under pytest-xdist, whose first process knows only the names of tests; once, as all processes collect all."""
    config = node.config
    if config.getoption("lmtrace_mode") != "rewrite" or config.stash.get(_forecast_key, False):
        return
    config.stash[_forecast_key] = True
    from lmtrace_replay._forecast import forecast_of_names

    reporter = config.pluginmanager.get_plugin("terminalreporter")
    line = forecast_of_names(config.rootpath, ids)
    if line is not None and reporter is not None:
        reporter.ensure_newline()
        reporter.write_line(line)


@pytest.fixture
def lm_replay(request: pytest.FixtureRequest) -> Iterator[ReplayTest]:
    """The replay of this test: `calls`, `cost`, `misses`; begins here and ends with the test's body."""
    from lmtrace_replay._replay_test import ReplayTest

    item = request.node
    replay = ReplayTest.of(item)
    item.stash[_replay_key] = replay
    replay.start()
    try:
        yield replay
    finally:
        replay.abandon()
        del item.stash[_replay_key]
        _tally(request.config).add(replay.tally)


@pytest.fixture
def lm_transcript(request: pytest.FixtureRequest, lm_replay: ReplayTest) -> Iterator[SnapshotAssertion]:
    """Compare what was asked with the transcript of the last run: ``assert lm_replay.calls == lm_transcript``."""
    from lmtrace_replay._snapshots import keep_rest, transcript_assertion

    assertion = transcript_assertion(request.node, write=lm_replay.records)
    yield assertion
    if not lm_replay.has_passed:
        keep_rest(assertion)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Keep the files of a test whose fixtures fail before its replay begins."""
    try:
        return (yield)
    except BaseException:
        if "lm_replay" in getattr(item, "fixturenames", ()) and _replay_key not in item.stash:
            from lmtrace_replay._snapshots import keep_files

            keep_files(item)
        raise


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """End the replay inside the call phase, where a miss makes the test fail and a pass allows writing."""
    try:
        result = yield
    except BaseException as error:
        replay = item.stash.get(_replay_key, None)
        if replay is not None:
            replay.failed(error)
        raise
    replay = item.stash.get(_replay_key, None)
    if replay is not None:
        replay.passed()
    return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the counts of a process of pytest-xdist over."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None and _tally_key in session.config.stash:
        output["lmtrace_tally"] = session.config.stash[_tally_key].to_wire()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Add the counts of a process of pytest-xdist to those of the session."""
    wire = (getattr(node, "workeroutput", None) or {}).get("lmtrace_tally")
    if wire is not None:
        from lmtrace_replay._tally import Tally

        _tally(node.config).add(Tally.from_wire(wire))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was replayed and recorded, and what to do about misses."""
    tally = terminalreporter.config.stash.get(_tally_key, None)
    for line in tally.lines() if tally is not None else ():
        terminalreporter.write_line(line)


def _tally(config: pytest.Config) -> Tally:
    from lmtrace_replay._tally import Tally

    return config.stash.setdefault(_tally_key, Tally())
