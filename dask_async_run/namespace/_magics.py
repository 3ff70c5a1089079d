"""What a magic or a ``!`` line does to names, as far as its text tells.

A table over IPython's own magics and a few well-known ones. Pure: text in, a
record out; `analyse` applies it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from dask_async_run.namespace._strings import expansions

_SCRIPTS = set(
    """
    script bash sh zsh cmd perl ruby python python2 python3 pypy
    """.split()
)
_TEXTS = set(
    """
    html HTML latex javascript js svg SVG markdown writefile file
    """.split()
)
_SHELLS = {"sx", "system", "!", "!!"}
_INERT = set(
    """
    env set_env cd pwd pushd popd dirs dhist bookmark alias unalias alias_magic rehashx pip
    conda mamba micromamba uv ls ll lx lk lf ldir cat cp mv rm mkdir rmdir man less more clear
    pycat killbgscripts matplotlib load_ext reload_ext unload_ext autoreload aimport precision
    colors xmode gui pprint pdb automagic autocall autoawait doctest_mode autoindent
    cython_inline lsmagic magic quickref tb load loadpy history hist save pastebin logstart
    logstop logon logoff logstate notebook connect_info qtconsole subshell clear_output
    async_run_server async_start_server async_stop_server async_jobs async_status async_attach
    async_cancel async_wait async_forget async_dashboard
    """.split()
)
_EVERYTHING = set(
    """
    run edit ed who whos who_ls psearch reset reset_selective rerun recall rep
    """.split()
)
_LISTING = {"who", "whos", "who_ls", "psearch"}
_RUNNING = {"run", "rerun", "recall", "rep", "edit", "ed"}
_INFO = {"pinfo", "pinfo2", "pdef", "pdoc", "psource", "pfile", "page"}
# IPython leaves the lines of these as they are (`no_var_expand`).
_LITERAL = {"time", "timeit", "prun", "debug"}

_NAME = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class Code:
    """Python, in IPython's spelling, that a magic runs.

    Parameters
    ----------
    parts : tuple of (str, bool)
        Texts that run one after the other, and whether each is the body below
        the magic's line (else part of that line).
    scope : {"module", "function"}
        Where it runs: in the namespace, or in a function made of it, whose
        locals are gone afterwards (``%timeit``).
    sure : bool
        Whether the code has run to its end when the cell goes on after the magic.
    """

    parts: tuple[tuple[str, bool], ...]
    scope: Literal["module", "function"] = "module"
    sure: bool = False


@dataclass(frozen=True, slots=True)
class Effect:
    """What a magic does to names.

    Parameters
    ----------
    codes : tuple of Code
        Python that it runs.
    expressions : tuple of str
        Python expressions that it evaluates.
    texts : tuple of str
        Text whose words may be names.
    binds, deletes : frozenset of str
        Names that it may bind or delete by itself.
    certain : bool
        It certainly binds all of `binds` when it runs and raises nothing.
    dynamic : bool
        It may reach any name.
    opaque : bool
        It may bind any name.
    star : bool
        It binds all that a module exports.
    runs : bool
        It runs code that is not known here.
    lists : bool
        It says which names there are.
    """

    codes: tuple[Code, ...] = ()
    expressions: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    binds: frozenset[str] = frozenset()
    deletes: frozenset[str] = frozenset()
    certain: bool = False
    dynamic: bool = False
    opaque: bool = False
    star: bool = False
    runs: bool = False
    lists: bool = False


def magic_effect(name: str, line: str, body: str | None = None) -> Effect:
    """Effect of ``%name line``, or of ``%%name line`` with the cell `body`."""
    expanded = () if name in _LITERAL else tuple(expansions(line))
    if name.endswith("?"):
        return Effect()
    if name in _INERT or name in _TEXTS:
        return Effect(expressions=expanded)
    if name in _EVERYTHING:
        lists = name in _LISTING
        return Effect(expressions=expanded, dynamic=True, runs=name in _RUNNING, lists=lists)
    if name in _INFO:
        return Effect(expressions=expanded, texts=(line,)) if body else _info(line, expanded)
    if name in _SCRIPTS:
        options, _ = _options(line, "", ("out", "err", "proc"))
        names = _names(options[o] for o in ("out", "err", "proc") if o in options)
        return Effect(expressions=expanded, binds=names, certain="proc" not in options)
    if name in _SHELLS:
        options, _ = _options(line, "", ("out",))
        inner = tuple(expansions(body)) if body else ()
        return Effect(expressions=expanded + inner, binds=_names([options.get("out", "")]))
    if name in _PYTHON:
        return _python(name, line, body, expanded)
    return _other(name, line, body, expanded)


# Short options with a colon after those that take a value, as in getopt.
_PYTHON: dict[str, str | None] = {
    "time": "",
    "timeit": "n:r:tcp:qov:",
    "prun": "D:l:rs:T:q",
    "memit": "r:t:i:I:coh",
    "mprun": "rf:T:cm:",
    "lprun": "rsf:m:D:T:u:ztp:",
    "debug": "b:",
    "capture": "",
    "async_run": None,
    "snakeviz": "tf:",
    "pyinstrument": "",
}
_LONG = (
    *("name", "after", "only", "also", "timeout", "memory", "retries", "resources", "workers"),
    *("priority", "grace", "breakpoint", "interval", "show-all", "store"),
)


def _python(name: str, line: str, body: str | None, expanded: tuple[str, ...]) -> Effect:
    """Effect of a magic that runs Python."""
    options, rest = _options(line, _PYTHON[name], _LONG)
    if name == "capture":
        target = _names(rest.split()[:1])
        # With a `;` at the end of the cell the name is deleted instead.
        gone = target if (body or "").rstrip().endswith(";") else frozenset()
        code = Code((((body or ""), True),))
        return Effect((code,), expanded, binds=target, deletes=gone, certain=True)
    parts = ((rest, False),) if body is None else ((rest, False), (body, True))
    scope: Literal["module", "function"] = "function" if name == "timeit" else "module"
    sure = name in ("time", "prun") and "no-raise-error" not in options
    functions = (options["f"],) if name in ("mprun", "lprun") and "f" in options else ()
    return Effect(
        (Code(parts, scope, sure),),
        expanded + functions,
        binds=_names([options["v"]]) if name == "timeit" and "v" in options else frozenset(),
    )


def _other(name: str, line: str, body: str | None, expanded: tuple[str, ...]) -> Effect:
    """Effect of the magics that are like no other, and of unknown ones."""
    options, rest = _options(line, None, ())
    match name:
        case "config":
            _, _, value = line.partition("=")
            return Effect(expressions=(*expanded, *([value.strip()] if value else [])))
        case "store" if "r" in options:
            return Effect(expressions=expanded, binds=_names(rest.split()), opaque=True)
        case "store":
            names = _NAME.findall(rest.partition(">")[0])
            return Effect(expressions=(*expanded, *([] if options else names)))
        case "xdel":
            return Effect(expressions=expanded, deletes=_names(rest.split()))
        case "macro":
            return Effect(expressions=expanded, binds=_names(rest.split()[:1]))
        case "sc":
            return Effect(expressions=expanded, binds=_names([rest.partition("=")[0].strip()]))
        case "pylab":
            return Effect(expressions=expanded, star=True, opaque=True)
        case _:
            return Effect(expressions=expanded, texts=(line, body or ""), opaque=True)


def _info(line: str, expanded: tuple[str, ...]) -> Effect:
    """Effect of ``x.y?`` and the like: the first name in it is read."""
    name = _NAME.match(line.lstrip("% ").strip())
    magic = line.lstrip().startswith("%")
    return Effect(expressions=(*expanded, *([name[0]] if name and not magic else [])))


def _names(words: Iterable[str]) -> frozenset[str]:
    return frozenset(word for word in words if word.isidentifier())


def _options(line: str, short: str | None, long: Iterable[str]) -> tuple[dict[str, str], str]:
    """Split the options off the start of a magic's line.

    Parameters
    ----------
    short : str
        Known letters in getopt's spelling; with None, any letter is a flag.
    long : iterable of str
        Long options that take a value; others are flags.

    Returns
    -------
    dict of str to str
        Value of each option, empty for flags.
    str
        The rest: what comes from the first word on that is no option.
    """
    options: dict[str, str] = {}
    rest = line.strip()
    while match := re.match(r"--([a-z][\w-]*)(=?)|-([A-Za-z][^\s]*)", rest):
        left = rest[match.end() :]
        if name := match[1]:
            takes, attached = name in long or bool(match[2]), ""
        else:
            letters = match[3]
            name = letters[0]
            if short is not None and name not in short:
                break  # `-x + 1` is code
            takes, attached = f"{name}:" in (short or ""), letters[1:]
            if not takes and attached and attached.isalpha():
                rest = f"-{attached}{left}"  # a cluster of flags
                options[name] = ""
                continue
            if not takes and attached:
                break
        if takes and not attached:
            value = re.match(r"\s*('[^']*'|\"[^\"]*\"|\S+)", left)
            attached = value[1].strip("'\"") if value else ""
            left = left[value.end() :] if value else ""
        options[name] = attached
        rest = left.lstrip()
    return options, rest
