"""``enable`` and ``disable``: the extension in every IPython session, or not.

The profile's ``ipython_config.json`` is edited, never its ``ipython_config.py``,
which is the user's program. IPython reads both; where they set the same list, the
JSON one *replaces* the other. So the name goes into ``extra_extensions``, which
nobody's ``ipython_config.py`` sets, and not into ``extensions``, which many do.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from dask_async_run.commands.exit_codes import OK
from dask_async_run.errors import ProfileError

EXTENSION = "dask_async_run"

_SECTION = "InteractiveShellApp"
_LISTS = ("extra_extensions", "extensions")


def run(given: argparse.Namespace) -> int:
    """Run the command that was given; returns its exit code."""
    path = config_file(given.profile)
    enabling = given.command == "enable"
    changed = enable(path) if enabling else disable(path)
    if given.json:
        facts = {"profile": given.profile, "path": str(path), "enabled": enabling}
        print(json.dumps({**facts, "changed": changed}))
    elif enabling:
        if changed:
            print(f"every IPython session of profile {given.profile!r} loads it now ({path}).")
        else:
            print(f"enabled already ({path}).")
    elif changed:
        print(f"IPython sessions of profile {given.profile!r} no longer load it ({path}).")
    else:
        print(f"not enabled ({path}).")
    return OK


def config_file(profile: str = "default") -> Path:
    """Where `profile`'s JSON configuration is, or would be; respects ``IPYTHONDIR``."""
    from IPython.paths import get_ipython_dir  # here: the other commands need no IPython

    return Path(get_ipython_dir()) / f"profile_{profile}" / "ipython_config.json"


def enabled(config: dict[str, Any]) -> bool:
    """Whether `config`, as read from the file, loads the extension."""
    section = config.get(_SECTION, {})
    return any(EXTENSION in section.get(name, []) for name in _LISTS)


def with_extension(config: dict[str, Any]) -> dict[str, Any]:
    """`config` with the extension; all else stays as it is."""
    if enabled(config):
        return config
    section = config.get(_SECTION, {})
    extensions = [*section.get(_LISTS[0], []), EXTENSION]
    return {**config, _SECTION: {**section, _LISTS[0]: extensions}}


def without_extension(config: dict[str, Any]) -> dict[str, Any]:
    """`config` without the extension, and without what that leaves empty."""
    if not enabled(config):
        return config
    section = dict(config[_SECTION])
    for name in _LISTS:
        if EXTENSION in section.get(name, []):
            section[name] = [other for other in section[name] if other != EXTENSION]
            if not section[name]:
                del section[name]
    config = {**config, _SECTION: section}
    if not section:
        del config[_SECTION]
    return config


def enable(path: Path) -> bool:
    """Load the extension by the configuration file at `path`; False if it did already.

    Raises
    ------
    ProfileError
        The file is no valid configuration, or cannot be written.
    """
    config = _read(path)
    if enabled(config):
        return False
    _write(path, with_extension(config))
    return True


def disable(path: Path) -> bool:
    """Undo `enable`; False if there was nothing to undo.

    A file that then says nothing is removed.

    Raises
    ------
    ProfileError
        As `enable`.
    """
    config = _read(path)
    if not enabled(config):
        return False
    _write(path, without_extension(config))
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ProfileError(str(path), error.strerror or str(error)) from error
    except ValueError as error:
        raise ProfileError(str(path), f"it is no valid JSON ({error})") from error
    section = config.get(_SECTION, {}) if isinstance(config, dict) else None
    if not isinstance(section, dict):
        raise ProfileError(str(path), "it does not look like an IPython configuration")
    for name in _LISTS:
        if not isinstance(section.get(name, []), list):
            raise ProfileError(str(path), f"{_SECTION}.{name} is not a list")
    checked: dict[str, Any] = config
    return checked


def _write(path: Path, config: dict[str, Any]) -> None:
    """Write aside and rename, so that IPython never reads half a file."""
    real = path.resolve()  # a link into somebody's dotfiles stays a link
    try:
        if not config:
            path.unlink()
            return
        real.parent.mkdir(parents=True, exist_ok=True)
        mode = real.stat().st_mode if real.exists() else 0o100644
        fd, aside = tempfile.mkstemp(prefix=".ipython_config-", dir=real.parent)
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as stream:
                stream.write(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
            Path(aside).chmod(mode & 0o777)
            Path(aside).replace(real)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ProfileError(str(path), error.strerror or str(error)) from error
