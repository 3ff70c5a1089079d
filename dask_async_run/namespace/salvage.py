"""The items of a stream, also where some of them cannot be loaded.

What goes in and what comes back is a row of items in one stream with one memo, so that
aliases stay aliases. Something in an item may not load on the other side: a module is
missing there, a ``__setstate__`` opens a file that is gone, a buffer's frame was deleted.
Python's unpickler is then somewhere in the middle of the stream, and what the failing item
has in common with later ones is lost with it: not only lists and instances, also the function
that every numpy array is made by.

Therefore the item is loaded again, and all after it, by an unpickler that goes on. What
cannot be made is `_Lacking`; what holds that, or is made from it, is *broken*, whichever
came first, and none of the user's code is called with it. All else is whole: an object that
a broken item shares with another one is the same object in that, and has the same number
in the memo as on the side that wrote it, so that tokens mean the same. An item that is
broken is not taken, and told with the reason.

Whole items are never loaded twice: what is done when an object goes (`weakref.finalize`,
``__del__``) must not be done to copies.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any, ClassVar

from dask_async_run.errors import AsyncRunError
from dask_async_run.namespace.kinds import ATOMS
from dask_async_run.namespace.managers import is_internal, is_internal_class
from dask_async_run.namespace.raised import as_exceptions
from dask_async_run.namespace.seeds import Recalled
from dask_async_run.namespace.unpickling import NamespaceUnpickler

CHANGE = "a change in place"
"""What an item is called that gives an object of the inputs a new state."""


class NotLoadedError(Exception):
    """Some of a stream could not be loaded.

    Parameters
    ----------
    lost : dict of str to str
        What, and why not: names, `CHANGE` and the like.
    """

    def __init__(self, lost: dict[str, str]) -> None:
        super().__init__(lost)
        self.lost = lost

    def __str__(self) -> str:
        return "; ".join(f"{what} cannot be loaded ({why})" for what, why in self.lost.items())


def why_lost(error: Exception) -> str:
    """Answer why something cannot be loaded, in words."""
    if isinstance(error, AsyncRunError):
        return str(error).rstrip(".")
    return f"{type(error).__name__}: {error}".rstrip(": .")


class Items:
    """Loads the items of a stream, one after another, up to ``("end",)``.

    Parameters
    ----------
    data : bytes-like
    buffers : sequence of buffers
        In the place of one that is not there the exception that says why.
    namespace, resolve, keep_classes, keep_modules, finalisers
        As of `NamespaceUnpickler`.

    Attributes
    ----------
    lost : dict of str to Exception
        Values of modules that could not be loaded, as ``module.name``; the module has the others.
    """

    def __init__(
        self,
        data: Any,
        buffers: Sequence[Any],
        namespace: dict[str, Any],
        resolve: Callable[[Any], Any] | None,
        keep_classes: bool,
        keep_modules: bool,
        finalisers: bool,
    ) -> None:
        self._data = data
        self._buffers = buffers
        self._seeds = Recalled.read(data)
        self._filling = self._seeds.filling() if self._seeds.count else b""
        self._file = io.BytesIO(
            b"".join((self._filling, data[self._seeds.end :])) if self._filling else data
        )
        self._known: list[Any] = []
        self._strict = NamespaceUnpickler(
            self._file,
            namespace,
            chain(_then(self._known), _given(buffers)),
            resolve,
            keep_classes,
            keep_modules,
            finalisers,
        )
        self._lenient: _LenientUnpickler | None = None
        self.lending = self._strict.lending

    @property
    def lost(self) -> dict[str, Exception]:
        return {} if self._lenient is None else self._lenient.values

    def __iter__(self) -> Iterator[tuple[Any, Exception | None]]:
        """Yield each item, and what kept it from being whole."""
        self._recall()
        while True:
            item, why = self._next()
            if why is None and item[0] == "end":
                return
            if why is not None and not (type(item) is tuple and type(item[0]) is str):
                raise why
            yield item, why
            if self._lenient is not None and item[0] == "updates":
                for lost in self._lenient.parts_lost:
                    yield ("update",), lost

    def _recall(self) -> None:
        """Have the memo hold what stands in the stream as something that is here already."""
        lacking = {}
        for place, token in self._seeds.tokens.items():
            try:
                self._known.append(self._strict.persistent_load(token))
            except Exception as error:  # noqa: BLE001 - whatever loading an earlier job raises
                lacking[place] = error
                self._known.append(None)
        if lacking:
            known = dict(zip(self._seeds.tokens, self._known, strict=True))
            self._lenient = _LenientUnpickler(
                self._strict, self._data, self._buffers, self._seeds, 0, known, lacking
            )
        elif self._filling:
            self._strict.load()

    def _next(self) -> tuple[Any, Exception | None]:
        if self._lenient is None:
            start = self._file.tell()
            try:
                with as_exceptions():
                    return self._strict.load(), None
            except Exception:  # noqa: BLE001 - whatever unpickling the user's objects raises
                self._lenient = _LenientUnpickler(
                    self._strict,
                    self._data,
                    self._buffers,
                    self._seeds,
                    start - len(self._filling),
                    self._strict.memo.copy(),
                )
        return self._lenient.load_item()

    def objects(self) -> dict[int, Any]:
        """Answer memo index to object, of all that is whole; atoms, and what was here, aside."""
        if self._lenient is None:
            memo = self._strict.memo.copy()
            found = {i: obj for i, obj in memo.items() if type(obj) not in ATOMS}
        else:
            found = self._lenient.whole()
        if any(map(is_internal_class, set(map(type, found.values())))):
            # Pandas asks who else has some memory, and nobody has it by what is known here.
            found = {i: obj for i, obj in found.items() if not is_internal(obj)}
        if before := self._seeds.count:
            recalled = self._strict.recalled
            found = {i: obj for i, obj in found.items() if i >= before and id(obj) not in recalled}
        return found | self._strict.flats.objects

    def forget(self) -> None:
        """Let go of the memo: its own methods may be in it, and would keep it."""
        self._strict.memo.clear()


def _given(buffers: Sequence[Any]) -> Iterable[Any]:
    """Answer buffers one after another; one that is not there raises when its turn has come."""

    def taken(buffer: Any) -> Any:
        if isinstance(buffer, Exception):
            raise buffer
        return buffer

    return map(taken, buffers) if any(isinstance(b, Exception) for b in buffers) else buffers


def _then(objects: list[Any]) -> Iterator[Any]:
    """Answer what is in a list by the time when the first one is asked for."""
    yield from objects


class _Lacking:
    """Stands for what could not be made."""


def _count(data: Any) -> tuple[int, int]:
    """Answer how many objects some whole items put into the memo, how many buffers they take."""
    file = io.BytesIO(data)
    memoized = buffers = 0
    while file.tell() < len(data):
        for operation, _, _ in pickletools.genops(file):
            memoized += operation.name == "MEMOIZE"
            buffers += operation.name == "NEXT_BUFFER"
    return memoized, buffers


_Python: Any = pickle._Unpickler


class _LenientUnpickler(_Python):  # type: ignore[misc]
    """Goes on where `NamespaceUnpickler` stopped, from the start of the item that it failed at.

    Parameters
    ----------
    strict : NamespaceUnpickler
    data, buffers
        All of the stream.
    seeds : Recalled
    start : int
        Bytes of whole items, after what stands before the stream.
    known : mapping of int to object
        The memo so far; it may have some of the failing item.
    lacking : mapping of int to Exception
        Places of seeds that are not here.

    Attributes
    ----------
    values : dict of str to Exception
        `Items.lost`.
    parts_lost : list of Exception
        What broke those parts of the last item that it has been left without.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(_Python.dispatch)

    def __init__(
        self,
        strict: NamespaceUnpickler,
        data: Any,
        buffers: Sequence[Any],
        seeds: Recalled,
        start: int,
        known: Mapping[int, Any],
        lacking: Mapping[int, Exception] = MappingProxyType({}),
    ) -> None:
        stream = memoryview(data)[seeds.end :]
        memoized, taken = _count(stream[:start])
        super().__init__(io.BytesIO(stream[start:]), buffers=buffers[taken:])
        self._strict = strict
        self.memo = {index: known.get(index) for index in range(seeds.count + memoized)}
        self.values: dict[str, Exception] = {}
        self.parts_lost: list[Exception] = []
        self._broken: dict[int, Exception] = {}
        self._holders: dict[int, list[Any]] = {}
        self._alive: list[Any] = []  # of what is known by its id
        self._called: tuple[Any, ...] = ()
        self.find_class = strict.find_class
        self.persistent_load = strict.persistent_load
        self.memo |= {place: self._lack(why) for place, why in lacking.items()}

    def load_item(self) -> tuple[Any, Exception | None]:
        """Load one more item; answer it with what kept it from being whole."""
        item = self._strict.below(self.load)
        match item:
            case ("order" | "beside" | "modules" | "refill" as what, list() as parts):
                # Each of them stands for itself.
                return (what, [part for part in parts if self._why(part) is None]), None
            case ("updates", list() as parts):
                reasons = [self._why(part) for part in parts]
                self.parts_lost = [why for why in reasons if why is not None]
                whole = zip(parts, reasons, strict=True)
                return ("updates", [part for part, why in whole if why is None]), None
        return item, self._why(item)

    def whole(self) -> dict[int, Any]:
        return {
            index: obj
            for index, obj in self.memo.items()
            if type(obj) not in ATOMS and id(obj) not in self._broken
        }

    # -- what is broken ------------------------------------------------------

    def _why(self, *objects: Any) -> Exception | None:
        """Answer what broke the first of some objects that is broken."""
        for obj in objects:
            if (why := self._broken.get(id(obj))) is not None:
                return why
        return None

    def _break(self, obj: Any, why: Exception) -> None:
        pending = [obj]
        while pending:
            at = pending.pop()
            if type(at) not in ATOMS and id(at) not in self._broken:
                self._broken[id(at)] = why
                self._alive.append(at)
                pending.extend(self._holders.get(id(at), ()))

    def _hold(self, holder: Any, *parts: Any) -> None:
        """Note that an object holds others, which may break later."""
        for part in parts:
            if type(part) not in ATOMS:
                self._alive.append(part)
                self._holders.setdefault(id(part), []).append(holder)
                if (why := self._why(part)) is not None:
                    self._break(holder, why)

    def _lack(self, why: Exception) -> _Lacking:
        lacking = _Lacking()
        self._break(lacking, why)
        return lacking

    def _attempt(self, holder: Any, parts: Sequence[Any], do: Callable[[], Any]) -> None:
        """Have an object take some parts, if it and they are whole."""
        if self._why(holder, *parts) is None:
            try:
                with as_exceptions():
                    do()
            except Exception as error:  # noqa: BLE001 - whatever the user's objects raise
                self._break(holder, error)
        self._hold(holder, *parts)

    def _make(self, parts: Sequence[Any], make: Callable[[], Any]) -> Any:
        """Answer what is made of some parts, if they are whole."""
        why = self._why(*parts)
        if why is None:
            try:
                with as_exceptions():
                    made = make()
            except Exception as error:  # noqa: BLE001 - whatever the user's objects raise
                why = error
        if why is not None:
            made = self._lack(why)
        self._hold(made, *parts)
        return made

    # -- the operations that can fail, or put objects together -----------------

    def _load_found(self, load: Callable[[Any], None]) -> None:
        try:
            with as_exceptions():
                load(self)
        except Exception as error:  # noqa: BLE001 - whatever importing a module raises
            self.append(self._lack(error))

    def load_global(self) -> None:
        self._load_found(_Python.load_global)

    def load_stack_global(self) -> None:
        self._load_found(_Python.load_stack_global)

    def load_next_buffer(self) -> None:
        _Python.load_next_buffer(self)
        if isinstance(self.stack[-1], Exception):
            self.stack[-1] = self._lack(self.stack[-1])

    def load_readonly_buffer(self) -> None:
        if not isinstance(self.stack[-1], _Lacking):
            _Python.load_readonly_buffer(self)

    def load_binpersid(self) -> None:
        token = self.stack.pop()
        self.append(self._make([token], lambda: self.persistent_load(token)))

    def load_tuple(self) -> None:
        items = tuple(self.pop_mark())
        self.append(items)
        self._hold(self.stack[-1], *self.stack[-1])

    def _load_tuple(self, size: int) -> None:
        self.stack[-size:] = [tuple(self.stack[-size:])]
        self._hold(self.stack[-1], *self.stack[-1])

    def load_tuple1(self) -> None:
        self._load_tuple(1)

    def load_tuple2(self) -> None:
        self._load_tuple(2)

    def load_tuple3(self) -> None:
        self._load_tuple(3)

    def load_frozenset(self) -> None:
        items = self.pop_mark()
        self.append(self._make(items, lambda: frozenset(items)))

    def load_append(self) -> None:
        self._extend([self.stack.pop()])

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, items: list[Any]) -> None:
        taker = self.stack[-1]
        if type(taker) is list:
            taker.extend(items)
            self._hold(taker, *items)
        elif hasattr(type(taker), "extend"):
            self._attempt(taker, items, lambda: taker.extend(items))
        else:
            self._attempt(taker, items, lambda: [taker.append(item) for item in items])

    def load_setitem(self) -> None:
        value = self.stack.pop()
        self._set_items([self.stack.pop(), value])

    def load_setitems(self) -> None:
        self._set_items(self.pop_mark())

    def _set_items(self, items: list[Any]) -> None:
        taker = self.stack[-1]
        pairs = list(zip(items[::2], items[1::2], strict=True))
        if type(taker) is dict and self._why(*items[::2]) is None:
            self._attempt(taker, (), lambda: taker.update(pairs))
            self._hold(taker, *items)
        else:
            self._attempt(taker, items, lambda: [taker.__setitem__(*pair) for pair in pairs])

    def load_additems(self) -> None:
        items = self.pop_mark()
        taker = self.stack[-1]
        self._attempt(taker, items, lambda: [taker.add(item) for item in items])

    def load_newobj(self) -> None:
        args = self.stack.pop()
        cls = self.stack.pop()
        self.append(self._make([cls, args], lambda: cls.__new__(cls, *args)))

    def load_newobj_ex(self) -> None:
        named = self.stack.pop()
        args = self.stack.pop()
        cls = self.stack.pop()
        self.append(self._make([cls, args, named], lambda: cls.__new__(cls, *args, **named)))

    def load_reduce(self) -> None:
        args = self.stack.pop()
        function = self.stack.pop()
        if self._strict.sets_values(function) and self._why(args[0]) is None:
            args = args[0], self._whole_values(*args)
        self.append(self._make([function, args], lambda: function(*args)))
        self._called = args, self.stack[-1]

    def _whole_values(self, module: Any, values: dict[str, Any]) -> dict[str, Any]:
        """Answer which values a module gets: without one of them, it has the others."""
        whole = {}
        for name, value in values.items():
            if (why := self._why(value)) is None:
                whole[name] = value
            else:
                self.values[f"{module.__name__}.{name}"] = why
        return whole

    def load_memoize(self) -> None:
        self._called = ()
        _Python.load_memoize(self)

    def load_pop(self) -> None:
        if self._called and self.stack:
            # What is called for its effect gives the state in the second argument to the first.
            args, made = self._called
            if self.stack[-1] is made and type(args) is tuple and args:
                self._hold(args[0], made, args)
        self._called = ()
        _Python.load_pop(self)

    def load_build(self) -> None:
        state = self.stack.pop()
        taker = self.stack[-1]

        def build() -> None:
            self.stack.append(state)
            _Python.load_build(self)  # which takes it off first

        self._attempt(taker, [state], build)

    for _operation, _load in (
        (pickle.GLOBAL, load_global),
        (pickle.STACK_GLOBAL, load_stack_global),
        (pickle.NEXT_BUFFER, load_next_buffer),
        (pickle.READONLY_BUFFER, load_readonly_buffer),
        (pickle.BINPERSID, load_binpersid),
        (pickle.TUPLE, load_tuple),
        (pickle.TUPLE1, load_tuple1),
        (pickle.TUPLE2, load_tuple2),
        (pickle.TUPLE3, load_tuple3),
        (pickle.FROZENSET, load_frozenset),
        (pickle.APPEND, load_append),
        (pickle.APPENDS, load_appends),
        (pickle.SETITEM, load_setitem),
        (pickle.SETITEMS, load_setitems),
        (pickle.ADDITEMS, load_additems),
        (pickle.NEWOBJ, load_newobj),
        (pickle.NEWOBJ_EX, load_newobj_ex),
        (pickle.REDUCE, load_reduce),
        (pickle.MEMOIZE, load_memoize),
        (pickle.POP, load_pop),
        (pickle.BUILD, load_build),
    ):
        dispatch[_operation[0]] = _load


def what_is_lost(item: Any) -> str:
    """Answer what a result's item is called when it could not be loaded."""
    match item:
        case ("bind" | "delete" | "note", name, *_):
            return str(name)
        case ("update", *_):
            return CHANGE
        case ("out", *_):
            return "its last expression's value"
        case ("error", *_):
            return "its exception"
    return "what surrounds it"
