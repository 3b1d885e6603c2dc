"""Where things are when nobody says otherwise: the project around a folder, its store, the user's configuration.

The home folder and those above it are never a project: people keep dot files under git there, and their scripts anywhere.
Nothing here raises where a place cannot be told (a working directory that was deleted, a user without a home).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import platformdirs

_MARKS: Final = (".lmtrace", "pyproject.toml", ".git", "setup.py")


def working_directory() -> Path | None:
    """The current directory, or None when it does not exist any more."""
    try:
        return Path.cwd()
    except OSError:
        return None


def project_root(directory: Path | None = None) -> Path | None:
    """The nearest folder at or above `directory` that is a project, or None; the home folder and above never are."""
    start = working_directory() if directory is None else directory.resolve()
    home = _home()
    for folder in (start, *start.parents) if start is not None else ():
        if folder == folder.parent or (home is not None and home.is_relative_to(folder)):
            return None
        if any((folder / mark).exists() for mark in _MARKS):
            return folder
    return None


def default_store(directory: Path | None = None) -> Path | None:
    """Where the store is when nobody says otherwise: in the project, else in the user's state folder."""
    project = project_root(directory)
    if project is not None:
        return project / ".lmtrace"
    state = Path(platformdirs.user_state_path("lmtrace"))
    return state / "store" if state.is_absolute() else None


def user_config(environ: Mapping[str, str]) -> Path:
    """The user's configuration file."""
    if environ.get("XDG_CONFIG_HOME"):
        return Path(environ["XDG_CONFIG_HOME"]) / "lmtrace" / "config.toml"
    return Path(platformdirs.user_config_path("lmtrace")) / "config.toml"


def _home() -> Path | None:
    try:
        return Path.home().resolve()
    except (OSError, RuntimeError):
        return None
