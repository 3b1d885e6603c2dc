"""Settings: five sources in one order, each value with where it came from, and clear errors."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lmtrace
from lmtrace import SettingsError, UnknownOptionError, _settings
from lmtrace._places import default_store, project_root
from lmtrace._settings import OTEL_CONTENT, resolve


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project in an empty home."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "work" / "project"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "pyproject.toml").write_text("")
    return folder


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """The user's configuration file, in the folder the test's environment names."""
    path = tmp_path / "xdg" / "config" / "lmtrace" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def settings(project: Path, user: Path | None = None, flags: Any = None, **environ: str) -> _settings.Settings:
    if user is not None:
        environ["XDG_CONFIG_HOME"] = str(user.parent.parent)
    return resolve(flags, environ={"XDG_CONFIG_HOME": str(project / "none"), **environ}, directory=project)


def test_precedence(project: Path, user: Path) -> None:
    """Code goes before LMTRACE_*, that before OpenTelemetry's variable, pyproject.toml, the user's file, the default."""
    expected = ("no_content", "default")
    found = []

    def check(*, flags: Any = None, **environ: str) -> None:
        resolved = settings(project, user, flags, **environ)
        found.append((resolved.content, resolved.sources["content"]))

    check()
    user.write_text('content = "span_only"')
    check()
    (project / "pyproject.toml").write_text('[tool.lmtrace]\ncontent = "event_only"')
    check()
    check(**{OTEL_CONTENT: "SPAN_AND_EVENT"})
    check(**{OTEL_CONTENT: "SPAN_AND_EVENT", "LMTRACE_CONTENT": "span_only"})
    check(flags={"content": "no_content"}, **{OTEL_CONTENT: "SPAN_AND_EVENT", "LMTRACE_CONTENT": "span_only"})
    assert found == [
        expected,
        ("span_only", str(user)),
        ("event_only", f"{project / 'pyproject.toml'} [tool.lmtrace]"),
        ("span_and_event", OTEL_CONTENT),
        ("span_only", "LMTRACE_CONTENT"),
        ("no_content", "configure()"),
    ]


def test_every_setting_has_a_source(project: Path) -> None:
    """Each setting says where its value came from."""
    resolved = settings(project, LMTRACE_STORE="off", LMTRACE_MAX_HISTORY_SIZE="7")
    assert resolved.store is None
    assert resolved.max_history_size == 7
    changed = {name: source for name, source in resolved.sources.items() if source != "default"}
    assert changed == {"store": "LMTRACE_STORE", "max_history_size": "LMTRACE_MAX_HISTORY_SIZE"}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("store", "off", None),
        ("store", "NONE", None),
        ("capture", " Metadata ", "metadata"),
        ("content", "true", "span_only"),
        ("content", "false", "no_content"),
        ("metrics", "off", "off"),
        ("cost_attributes", "no", False),
        ("compat", "jaeger, openinference", frozenset({"jaeger", "openinference"})),
        ("compat", "", frozenset()),
        ("otlp", "honeycomb", "honeycomb"),
        ("otlp_headers", "a=b,c=d=e", {"a": "b", "c": "d=e"}),
        ("redact", "Ann", ("Ann",)),
        ("disable_history", "on", True),
        ("max_history_size", "0", 0),
        ("durability", "power", "power"),
    ],
)
def test_environment(project: Path, name: str, text: str, value: object) -> None:
    """Each setting can be given as text."""
    assert getattr(settings(project, **{f"LMTRACE_{name.upper()}": text}), name) == value


def test_empty_variables(project: Path) -> None:
    """An empty variable is one that is not set, as OpenTelemetry says."""
    resolved = settings(project, LMTRACE_STORE="", LMTRACE_CAPTURE="", **{OTEL_CONTENT: ""})
    assert resolved == settings(project)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("capture", "metdata", "capture must be one of full, metadata, none, not 'metdata'; did you mean 'metadata'?"),
        ("max_history_size", "many", "max_history_size must be a whole number, zero or more, not 'many'"),
        ("max_history_size", -1, "zero or more, not -1"),
        ("max_history_size", True, "zero or more, not True"),
        ("cost_attributes", "perhaps", "cost_attributes must be true or false, not 'perhaps'"),
        ("store", "", "store must be a folder, 'auto' or 'off', not ''"),
        ("store", 5, "store must be a folder"),
        ("otlp_headers", "a", "otlp_headers must be written as name=value,name=value"),
        ("redact", [5], "redact is not valid: a redactor is a text, a compiled pattern or a callable, not int"),
        (
            "exporters",
            ["store"],
            "exporters needs exporters, objects with export, force_flush and shutdown, not 'store'",
        ),
        ("compat", ["jager"], "did you mean 'jaeger'?"),
    ],
)
def test_bad_values(name: str, value: object, message: str) -> None:
    """A value that makes no sense is refused with what would make sense."""
    with pytest.raises(SettingsError) as caught:
        lmtrace.configure(**{name: value})
    assert message in str(caught.value)


def test_bad_value_in_a_source(project: Path) -> None:
    """The message names the source."""
    with pytest.raises(SettingsError, match=r"setting capture \(from LMTRACE_CAPTURE\) must be one of"):
        settings(project, LMTRACE_CAPTURE="x")


@pytest.mark.parametrize("name", ["stor", "captur", "otlp_header", "redactor"])
def test_unknown_names(name: str, project: Path, user: Path) -> None:
    """An unknown setting is an error that names the nearest valid one, wherever it stands."""
    nearest = {"stor": "store", "captur": "capture", "otlp_header": "otlp_headers", "redactor": "redact"}[name]
    with pytest.raises(UnknownOptionError, match=f"did you mean {nearest!r}"):
        lmtrace.configure(**{name: 1})
    with pytest.raises(UnknownOptionError, match=f"in LMTRACE_{name.upper()}; did you mean {nearest!r}"):
        settings(project, **{f"LMTRACE_{name.upper()}": "1"})
    user.write_text(f"{name} = 1")
    with pytest.raises(UnknownOptionError, match=f"config.toml; did you mean {nearest!r}"):
        settings(project, user)


@pytest.mark.parametrize("name", ["exporters", "callbacks"])
def test_objects_in_code_only(name: str, project: Path) -> None:
    """Settings that are objects cannot be named by a text."""
    with pytest.raises(UnknownOptionError):
        settings(project, **{f"LMTRACE_{name.upper()}": "x"})


def test_other_variables(project: Path) -> None:
    """The variables of `lmtrace run` and of our tests are not settings."""
    assert settings(project, LMTRACE_RUN_ID="1", LMTRACE_TEST_RAISE="1") == settings(project)


class TestFiles:
    """pyproject.toml and the user's file."""

    def test_invalid_toml(self, project: Path, user: Path) -> None:
        """A file that cannot be read as TOML is named, with the place; another project's mistake is not ours."""
        user.write_text("store = [")
        with pytest.raises(SettingsError, match=r"config\.toml is not valid TOML: .*at end of document"):
            settings(project, user)
        user.write_bytes(b"\xff")
        with pytest.raises(SettingsError, match="not valid TOML"):
            settings(project, user)
        (project / "pyproject.toml").write_text("[tool.lmtrace]\nx = ")
        with pytest.raises(SettingsError, match="not valid TOML"):
            settings(project)
        (project / "pyproject.toml").write_text("[project]\nname = ")
        assert settings(project).sources["capture"] == "default"

    @pytest.mark.parametrize("text", ["tool = 3", "[tool]\nlmtrace = 3", "[[tool.lmtrace]]\na = 1"])
    def test_not_a_table(self, project: Path, text: str) -> None:
        """A table that is none is refused where it says lmtrace."""
        (project / "pyproject.toml").write_text(text)
        if "lmtrace" in text:
            with pytest.raises(SettingsError, match="is not a table"):
                settings(project)
        else:
            assert settings(project)

    def test_relative_store(self, project: Path) -> None:
        """A store named in a file is meant from that file, wherever in the project the program runs."""
        (project / "pyproject.toml").write_text('[tool.lmtrace]\nstore = "history"')
        assert settings(project / "deep" / "er").store == project / "history"
        (project / "pyproject.toml").write_text('[tool.lmtrace]\nstore = "off"')
        assert settings(project / "deep").store is None
        (project / "pyproject.toml").write_text('[tool.lmtrace]\nstore = "~/x"')
        assert settings(project).store == Path("~/x").expanduser()
        (project / "pyproject.toml").write_text("[tool.lmtrace]\nstore = false")
        assert settings(project).store is None

    def test_unreadable(self, project: Path) -> None:
        """What is not a file is not there."""
        (project / "pyproject.toml").unlink()
        (project / "pyproject.toml").mkdir()
        assert settings(project)


class TestPlaces:
    """Where the project and its store are."""

    def test_inside_a_project(self, project: Path) -> None:
        """The nearest folder with a mark of a project holds the store."""
        assert default_store(project / "deep" / "er") == project / ".lmtrace"
        (project / "deep" / ".git").mkdir()
        assert default_store(project / "deep" / "er") == project / "deep" / ".lmtrace"

    def test_home_is_no_project(self, project: Path, tmp_path: Path) -> None:
        """Neither the home folder nor one above it is a project, even with a mark, even through a link."""
        home = project.parent.parent
        for folder in (home, tmp_path):
            (folder / ".git").mkdir()
        (project / "pyproject.toml").unlink()
        link = tmp_path / "link"
        link.symlink_to(home)
        for folder in (home, home / "work", tmp_path, link, link / "work"):
            assert project_root(folder) is None
        assert default_store(home) == tmp_path / "xdg" / "state" / "lmtrace" / "store"

    def test_nowhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A working directory that is gone, and a user without a home, are no reason to fail."""
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        monkeypatch.setattr(Path, "home", classmethod(lambda cls: (_ for _ in ()).throw(RuntimeError)))
        assert resolve({}).sources


class TestCurrent:
    """The settings a call finds: never an error, and with a mistake less is recorded, not more."""

    @pytest.mark.parametrize(
        ("environ", "expected"),
        [
            ({"LMTRACE_CAPTURE": "metdata"}, {"capture": "metadata"}),
            ({"LMTRACE_REDACT": "x", "LMTRACE_CONTENT": "spam"}, {"content": "no_content", "redact": ("x",)}),
            ({"LMTRACE_STORE": "off", "LMTRACE_METRICS": "loud"}, {"store": None, "metrics": "new"}),
            ({"LMTRACE_STOER": "x", "LMTRACE_STORE": "off"}, {"store": None}),
        ],
    )
    def test_mistakes(
        self, environ: dict[str, str], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: Any
    ) -> None:
        """One warning for each mistake; what was said otherwise holds."""
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        _settings.use(None)
        with caplog.at_level(logging.WARNING, "lmtrace"):
            found = _settings.current()
        assert {name: getattr(found, name) for name in expected} == expected
        assert len(caplog.records) == 1

    def test_broken_file(self, user: Path, caplog: Any) -> None:
        """A file that cannot be read might have asked for less: content is not kept."""
        user.write_text("capture = ")
        _settings.use(None)
        assert _settings.current().capture == "metadata"
        assert "not valid TOML" in caplog.text


def test_repr_is_clean() -> None:
    """Headers, redacted texts and addresses with passwords are not shown."""
    resolved = resolve({"otlp_headers": {"x": "sk-1"}, "redact": ["sk-2"], "otlp": "https://u:sk-3@host"})
    assert "sk-" not in repr(resolved)


@given(st.dictionaries(st.sampled_from(["store", "capture", "compat", "redact", "otlp_headers"]), st.text(max_size=5)))
def test_any_text(environ: dict[str, str]) -> None:
    """Whatever the environment says, resolving succeeds or raises a SettingsError."""
    with suppress(SettingsError):
        assert resolve(environ={f"LMTRACE_{name.upper()}": value for name, value in environ.items()}).sources


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("cache", True, "on"),
        ("cache", "off", "off"),
        ("cache", "Memory", "memory"),
        ("cache_ttl", "7d", 604_800.0),
        ("cache_ttl", 90, 90.0),
        ("cache_ttl", "1.5h", 5_400.0),
        ("cache_ttl", "none", None),
        ("cache_max_bytes", "10GB", 10_000_000_000),
        ("cache_max_bytes", "500 mb", 500_000_000),
        ("cache_memory_bytes", 0, 0),
    ],
)
def test_cache_settings(name: str, given: Any, value: Any) -> None:
    """Ages and sizes may have a unit."""
    assert getattr(resolve({name: given}, environ={}), name) == value


@pytest.mark.parametrize(
    ("name", "given"),
    [("cache", "disk"), ("cache_ttl", 0), ("cache_ttl", "-1d"), ("cache_ttl", "soon"), ("cache_max_bytes", "much")],
)
def test_cache_settings_that_make_no_sense(name: str, given: Any) -> None:
    """Anything else is an error that names the setting."""
    with pytest.raises(SettingsError, match=name):
        resolve({name: given}, environ={})
