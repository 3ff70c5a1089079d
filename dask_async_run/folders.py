"""Where this user's state and connection files lie, and that nobody else can touch them.

Two folders. The *state folder*, one for each server name, holds what has to last:
journal, frames, log. The *runtime folder* holds what only means something while a
server lives: connection files with credentials, and locks. Both are 0700, and
checked at every use: a pickle is only loaded from, and a credential only written
to, a place that this user alone controls.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from dask_async_run.errors import ServerError
from dask_async_run.memory import is_hidden

DEFAULT_SERVER = "default"
"""Name of the server that is meant when none is named."""

STATE_VARIABLE = "DASK_ASYNC_RUN_STATE"
"""Environment variable: the folder in which each server's state folder lies."""

RUNTIME_VARIABLE = "DASK_ASYNC_RUN_RUNTIME"
"""Environment variable: the runtime folder."""

_SERVER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def server_name(name: str) -> str:
    """Return `name` if it can name a server: it becomes part of file names.

    Raises
    ------
    ServerError
        It has other characters than letters, digits, ``_ . -``, is empty, starts
        with ``.`` or ``-``, or is longer than 64.
    """
    if _SERVER_NAME.fullmatch(name):
        return name
    shown = name if len(name) <= 64 else name[:64] + "..."
    raise ServerError(
        f"{shown!r} cannot name a server: use up to 64 letters, digits, '_', '.' and '-', "
        "starting with a letter, a digit or '_'."
    )


def state_folder(name: str = DEFAULT_SERVER) -> Path:
    """Absolute path of the state folder of the server called `name`; not created."""
    server_name(name)
    if chosen := os.environ.get(STATE_VARIABLE):
        return Path(chosen).expanduser().absolute() / name
    import platformdirs  # here: the package's import must stay light

    return platformdirs.user_state_path("dask_async_run").absolute() / name


FRAMES = "frames"
"""In a state folder: the folder of frames."""

TOKEN_FILE = "host_token"
"""In a state folder: something random, for `sees`."""


def runtime_folder() -> Path:
    """Absolute path of the folder of connection files and locks; not created."""
    if chosen := os.environ.get(RUNTIME_VARIABLE):
        return Path(chosen).expanduser().absolute()
    from jupyter_core.paths import jupyter_runtime_dir  # here: as above

    return Path(jupyter_runtime_dir()).absolute() / "dask_async_run"


def sees(folder: Path, token: str) -> bool:
    """Whether this process sees the very folder in which a registry put `token`, and its frames.

    It may not see those that lie in memory, where it is in a container and the scheduler is not.
    """
    try:
        return (folder / TOKEN_FILE).read_text() == token and not is_hidden(folder / FRAMES)
    except OSError:
        return False


def private_folder(folder: Path, variable: str) -> Path:
    """Return `folder`, made if missing, after checking that it is this user's alone.

    Parameters
    ----------
    folder : Path
        Made with mode 0700, its missing parents too.
    variable : str
        The environment variable that chooses another place: for the message.

    Raises
    ------
    ServerError
        It cannot be made, is no folder, belongs to somebody else, can be entered
        by others, or cannot be written to.
    """
    way_out = f"Set {variable} to a folder of yours that can be written to."
    try:
        # mkdir's mode does not reach the parents that it makes.
        for parent in reversed([p for p in folder.parents if not p.exists()]):
            parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ServerError(
            f"the folder {folder} cannot be made: {error.strerror or error}. {way_out}"
        ) from error
    check_private_folder(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ServerError(f"the folder {folder} cannot be written to. {way_out}")
    return folder


def check_spelling(folder: Path, variable: str) -> None:
    """Refuse a folder whose name is no text to this process: Dask sends it to workers as one.

    Raises
    ------
    ServerError
        It is named, and what to do.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        said = str(folder).encode(errors="backslashreplace").decode()
        raise ServerError(
            f"the folder {said} has a name that is no text in {sys.getfilesystemencoding()}, which "
            "Python uses here for names. Set PYTHONUTF8=1 or LC_ALL=C.UTF-8, or choose another "
            f"folder with {variable}."
        ) from None


def check_private_folder(folder: Path) -> None:
    """Check that `folder`, which exists, is this user's alone.

    Raises
    ------
    ServerError
        It is no folder, belongs to somebody else, or can be entered by others.
    FileNotFoundError
        It does not exist.
    """
    _check_owner(folder.stat(), folder, "folder", stat.S_ISDIR, "chmod 700")


def check_private_file(status: os.stat_result, path: Path) -> None:
    """Check by `status`, got from the *open* file, that `path` is this user's alone.

    Raises
    ------
    ServerError
        It is no regular file, belongs to somebody else, or can be read by others.
    """
    _check_owner(status, path, "file", stat.S_ISREG, "chmod 600")


def _check_owner(
    status: os.stat_result,
    path: Path,
    kind: str,
    is_kind: Callable[[int], bool],
    remedy: str,
) -> None:
    if not is_kind(status.st_mode):
        raise ServerError(f"{path} is not a {kind}. Move it away and try again.")
    if status.st_uid != os.geteuid():
        raise ServerError(
            f"the {kind} {path} belongs to user {status.st_uid}, not to you (user "
            f"{os.geteuid()}): it is not trusted. Move it away, or have it removed."
        )
    if status.st_mode & 0o077:
        raise ServerError(
            f"the {kind} {path} is open to other users (mode {stat.S_IMODE(status.st_mode):04o}): "
            f"it is not trusted. If nobody else had a hand in it: {remedy} '{path}'"
        )
