"""Runs a command in a pseudo-terminal, as ``!command`` does in a notebook.

IPython does the same through pexpect. Here, reading takes time in proportion to what
is read (pexpect's 20 MB take a minute); a command that asks for input finds its end,
since nobody is there to type; and an interrupt ends the cell, not only the command.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import select
import signal
import struct
import sys
import termios
import time
import warnings

_SIZE = struct.pack("HHHH", 24, 80, 0, 0)
"""Rows and columns that pexpect gives a terminal."""
_READ = 64 * 1024
_END_OF_FILE = b"\x04"
_INTERRUPT = b"\x03"


def run_in_terminal(command: str) -> int:
    """Run a shell command; what it writes goes to ``sys.stdout`` as it comes.

    Returns
    -------
    int
        Its exit status, or minus the number of the signal that ended it.

    Raises
    ------
    KeyboardInterrupt
        After the command was ended.
    """
    shell = os.environ.get("SHELL") or "/bin/sh"
    # An interrupt amid the fork would be lost in a callback of somebody's at-fork hook.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    with warnings.catch_warnings():
        # Python 3.12 and later warn of forks in processes with threads. Until it is
        # another program, the child does nothing that needs one of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid, terminal = os.forkpty()
    if pid == 0:
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            fcntl.ioctl(0, termios.TIOCSWINSZ, _SIZE)
            os.execvp(shell, [shell, "-c", command])
        finally:
            os._exit(127)
    try:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            os.write(terminal, _END_OF_FILE)
            _copy(terminal)
        except KeyboardInterrupt:
            _end(pid, terminal)
            raise
        return _exit_code(os.waitpid(pid, 0)[1])
    finally:
        os.close(terminal)


def _copy(terminal: int, deadline: float = float("inf")) -> None:
    """Copy what the command writes to stdout until it closes its side or time is up."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while (left := deadline - time.monotonic()) > 0:
        readable, _, _ = select.select([terminal], [], [], min(left, 3600.0))
        if not readable:
            continue
        try:
            data = os.read(terminal, _READ)
        except OSError:
            data = b""  # Linux says so when the last process has closed its side
        sys.stdout.write(decoder.decode(data, final=not data))
        if not data:
            return


def _end(pid: int, terminal: int) -> None:
    """Interrupt the command; if it does not care, kill it."""
    os.write(terminal, _INTERRUPT)
    _copy(terminal, time.monotonic() + 0.2)
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    os.waitpid(pid, 0)


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    # A shell reports a signal that ended its command in this way.
    return -(code - 128) if code > 128 else code
