"""What a notebook hooks into its IPython shell: callbacks, transformers, aliases of commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dask_async_run.surroundings.saver import Saver, Shell

Hooks = dict[str, list[Any]]
"""Where they are hooked in, and those that are the notebook's, in order."""


def _is_notebooks(hook: Any) -> bool:
    made = getattr(hook, "__module__", None)  # a function's, a method's, or that of an object
    return made == "__main__" or type(hook).__module__ == "__main__"


def _transformers(shell: Shell) -> dict[str, list[Any]]:
    manager = shell.input_transformer_manager
    return {
        "cleanup": manager.cleanup_transforms,
        "lines": manager.line_transforms,
        "syntax tree": shell.ast_transformers,
    }


def _later_transformers(shell: Shell) -> dict[str, list[Any]]:
    # What they make of a cell is what is submitted.
    return {"later": shell.input_transformers_post}


def _callbacks(shell: Shell) -> dict[str, list[Any]]:
    return dict(shell.events.callbacks)


class _Silent:
    """A callback that is called elsewhere: here it can only be found, and taken out."""

    def __init__(self, hook: Any) -> None:
        self.hook = hook

    def __eq__(self, other: object) -> bool:
        return bool(self.hook == (other.hook if isinstance(other, _Silent) else other))

    def __hash__(self) -> int:
        return hash(self.hook)

    def __call__(self, *args: Any) -> None:
        pass


def _saver(
    name: str,
    lists: Callable[[Shell], dict[str, list[Any]]],
    goes_along: bool = True,
    as_there: Callable[[Any], Any] = lambda hook: hook,
) -> Saver:
    """Make a saver for lists in a shell to which a notebook adds its own.

    If they do not `go along`, what a cell adds still comes back. In the cell they are what
    `as_there` makes of them.
    """

    def read(shell: Shell) -> Hooks | None:
        if shell is None:
            return None
        found = {}
        for where, each in lists(shell).items():
            hooks = [hook.hook if isinstance(hook, _Silent) else hook for hook in each]
            found[where] = list(filter(_is_notebooks, hooks))
        return found

    def write(hooks: Hooks, shell: Shell) -> None:
        merge(({where: [*map(as_there, each)] for where, each in hooks.items()}, {}), shell)

    def merge(change: tuple[Hooks, Hooks], shell: Shell) -> None:
        if shell is None:
            return
        added, gone = change
        for where, there in lists(shell).items():
            there += [hook for hook in added.get(where, ()) if hook not in there]
            there[:] = [hook for hook in there if hook not in gone.get(where, ())]

    return Saver(
        name,
        False,
        read if goes_along else lambda shell: None,
        write,
        state=read,
        difference=lambda before, now: (_without(now, before), _without(before, now)),
        merge=merge,
        piecemeal=True,
    )


def _without(hooks: Hooks, others: Hooks) -> Hooks:
    return {
        where: [hook for hook in each if hook not in others.get(where, ())]
        for where, each in hooks.items()
    }


# -- aliases of commands, and the folders of ``%pushd`` -----------------------------------------


def _read_aliases(shell: Shell) -> dict[str, str] | None:
    from IPython.core.alias import default_aliases

    if shell is None:
        return None
    usual = default_aliases()
    return {name: text for name, text in shell.alias_manager.aliases if (name, text) not in usual}


def _aliases_difference(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str | None]:
    changed: dict[str, str | None] = {k: v for k, v in now.items() if before.get(k) != v}
    return changed | {k: None for k in before if k not in now}


def _write_aliases(changes: Mapping[str, str | None], shell: Shell) -> None:
    if shell is None:
        return
    there = dict(shell.alias_manager.aliases)
    lines = shell.magics_manager.magics["line"]
    for name, text in changes.items():
        if text is not None:
            if name in there or name not in lines:  # else it is a magic in a shell of this kind
                shell.alias_manager.define_alias(name, text)
        elif name in there:
            shell.alias_manager.undefine_alias(name)


def _read_stack(shell: Shell) -> list[str] | None:
    return None if shell is None else list(shell.dir_stack)


def _write_stack(folders: list[str], shell: Shell) -> None:
    if shell is not None:
        shell.dir_stack[:] = folders


class _Stays:
    """Stands for what a cell has made and that can't come back, so that it is told."""

    def __init__(self, why: str) -> None:
        self._why = why

    def __reduce__(self) -> Any:
        raise TypeError(self._why)


def _read_handled(shell: Shell) -> tuple[Any, ...]:
    return (*shell.custom_exceptions, shell.CustomTB) if shell.custom_exceptions else ()


HOOKS: tuple[Saver, ...] = (
    Saver(
        "handler of set_custom_exc",
        False,
        lambda shell: None,
        lambda handled, shell: None,
        state=_read_handled,
        difference=lambda before, now: _Stays("it belongs to the shell of the cell"),
    ),
    Saver(
        "aliases",
        False,
        _read_aliases,
        _write_aliases,
        difference=_aliases_difference,
        piecemeal=True,
    ),
    Saver("stack of folders", False, _read_stack, _write_stack),
    _saver("input transformers", _transformers),
    _saver("later input transformers", _later_transformers, goes_along=False),
    # Those of this shell are called when the cell is submitted, and when it is gathered.
    _saver("callbacks", _callbacks, as_there=_Silent),
)
