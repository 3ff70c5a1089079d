"""Files that a piece of code reads and writes: a guess from its source.

It decides which jobs wait for one another, as `_mutations` does for objects. Here a path is what
its expression tells, with holes for what only the notebook knows; `file_names` fills these.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from dask_async_run.namespace._calls import Slot


@dataclass(frozen=True, slots=True)
class Hole:
    """Stands in a path for a variable's value; an empty name for what nobody knows."""

    name: str = ""


PathText = tuple[str | Hole, ...]
"""A path's parts; ``*`` in a text is what may be anything. Empty: this is no path."""
Kind = Literal["reads", "writes", "mentions", "polls"]
"""``polls``: a loop goes on until somebody else has made it."""

UNKNOWN: PathText = (Hole(),)
OPENED = "<opened>"
"""Stands for a file that was opened before, or is nobody else's."""
_NO_PATH: PathText = ()
_OPENED: PathText = (OPENED,)

_WRITERS = frozenset(
    """
    to_csv to_parquet to_pickle to_json to_excel to_feather to_html to_latex to_markdown to_hdf
    to_stata to_xml to_orc to_netcdf to_zarr to_file to_disk tofile write_csv write_parquet
    write_json write_ndjson write_excel write_ipc write_avro write_image write_html sink_csv
    sink_parquet sink_ipc savefig imsave imwrite mimwrite mimsave save savez savez_compressed
    savetxt savemat save_npz save_model save_weights save_pretrained dump dump_svmlight_file
    ExcelWriter makedirs mkdir unlink rmdir rmtree removedirs extractall unpack_archive
    make_archive urlretrieve write_text write_bytes touch symlink_to write_gml
    write_graphml write_gexf write_edgelist write_adjlist write_weighted_edgelist
    """.split()
)
_OF_MODULES = {
    **dict.fromkeys("copy copy2 copyfile copytree move".split(), ("shutil",)),
    **dict.fromkeys("remove rename replace renames link symlink".split(), ("os",)),
    "connect": ("sqlite3", "duckdb"),
}
"""Functions that read and write whose names methods of texts and tables have, too."""
_OPENERS = frozenset("open File ZipFile TarFile HDFStore memmap open_memmap".split())
"""What reads or writes, by its mode."""
_READERS = frozenset(
    """
    load loadtxt genfromtxt fromfile imread loadmat load_npz load_model load_weights from_pretrained
    listdir scandir walk glob iglob rglob iterdir exists isfile isdir is_file is_dir getsize
    getmtime stat scan_csv scan_parquet scan_ndjson scan_ipc
    """.split()
)
_READ = re.compile(r"read_(?!sql|clipboard|gbq)\w+")
_OF_PATHS = frozenset(
    """
    write_text write_bytes touch mkdir unlink rmdir symlink_to open read_text read_bytes iterdir
    glob rglob exists is_file is_dir stat
    """.split()
)
"""Methods of paths: what they are called on is the file."""
_KEYWORDS = frozenset(
    """
    path path_or_buf path_or_buffer filepath_or_buffer fname filename filepath file fp f buf uri
    dst src out_file excel_writer store filepath_or_buffer database
    """.split()
)
_PATHS = frozenset("Path PurePath PosixPath WindowsPath join joinpath".split())
_SAME = frozenset(
    "str fspath resolve absolute expanduser abspath realpath expandvars as_posix".split()
)
_BUFFERS = frozenset("StringIO BytesIO TemporaryFile NamedTemporaryFile urlopen Request".split())
_FILE = re.compile(r"[^\n]{0,200}[^\s/.]\.[A-Za-z]\w{0,9}|[\w.~*-]*(/[\w.*-]+)+/?")
_LEAVES = frozenset({ast.Name, ast.Load, ast.Store, ast.Del, ast.arg, ast.alias})
_ROOMS = frozenset(
    {ast.Attribute, ast.Subscript, ast.keyword, ast.Expr, ast.List, ast.Tuple, ast.Dict, ast.Return}
)
"""Nodes that mean nothing here, and those whose parts may."""
_FIELD = re.compile(r"\{[^{}]*\}")
_PERCENT = re.compile(r"%[-+ #0-9.]*[a-zA-Z]|%\(\w+\)\w")
_WORD = re.compile(r"[^\s'\"|;&<>()=`]+")
_VARIABLE = re.compile(r"\{(\w+)\}|\{[^{}]*\}|\$\{?(\w+)\}?")
_MAGICS = frozenset(
    "writefile file run save load logstart cp mv rm mkdir rmdir cat ls pycat".split()
)
_SCRIPTS = frozenset("bash sh script zsh system sx !".split())
_LANGUAGES = frozenset("perl ruby python python2 python3 pypy".split())
"""Scripts whose words are no command's: ``$months[0]`` is no file that may have any name."""
_SPELLED = frozenset("glob rglob iglob run_line_magic run_cell_magic".split())
"""Calls whose texts are nothing but what is made of them here."""
_LISTING = frozenset("ls ll find tree du make tar zip git".split())
"""Commands that look at all that is in the working folder."""


@dataclass(frozen=True, slots=True)
class Called:
    """Something that is called, by its name; without `call`, perhaps, and nobody knows how."""

    name: str
    call: ast.Call | None = None

    def arguments(self) -> dict[Slot, PathText]:
        """Answer the paths that it may be given."""
        if self.call is None:
            return {}
        given: dict[Slot, PathText] = {n: path_of(each) for n, each in enumerate(self.call.args)}
        return given | {each.arg: path_of(each.value) for each in self.call.keywords if each.arg}


@dataclass(frozen=True, slots=True)
class FileUse:
    """One use of a file.

    Parameters
    ----------
    kind : Kind
    paths : tuple of PathText
        What may be the file's.
    function : str
        What was called by its bare name; a notebook's function of that name is another one.
    """

    kind: Kind
    paths: tuple[PathText, ...]
    function: str = ""


@dataclass(slots=True)
class FileUses:
    """What some code does with files.

    Parameters
    ----------
    uses : list of FileUse
    assigned : dict of str to list of PathText
        What the variables that it assigns may be.
    calls : list of Called
        Of which some may be a notebook's functions.
    defaults : dict of str to PathText
        Of a function: what its parameters are if nothing is given.
    """

    uses: list[FileUse] = field(default_factory=list)
    assigned: dict[str, list[PathText]] = field(default_factory=dict)
    calls: list[Called] = field(default_factory=list)
    defaults: dict[str, PathText] = field(default_factory=dict)

    def note(self, trees: Iterable[ast.AST]) -> None:
        """Add what some code does; what it defines does nothing yet."""
        for tree in trees:
            if not isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self._visit(tree)

    def _visit(self, node: ast.AST) -> None:
        kind = type(node)
        if kind in _LEAVES:
            return
        if kind in _ROOMS:
            self._inside(node)
            return
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._assign(target, [path_of(value)])
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._assign(target, [path_of(value)])
            case ast.NamedExpr(target=target, value=value):
                self._assign(target, [path_of(value)])
            case ast.AugAssign(target=target):
                self._assign(target, [UNKNOWN])
            case ast.For() | ast.AsyncFor() | ast.comprehension():
                self._assign(node.target, list(_elements(node.iter)))
            case ast.withitem(optional_vars=ast.expr() as target):
                self._assign(target, [_OPENED])
            case ast.While(test=test):
                self._poll(test)
                for statement in (*node.body, *node.orelse):
                    self._visit(statement)
                return
            case ast.Call(func=function):
                self._call(node)
                if _name(function) in _SPELLED:
                    self._visit(function)
                    return
            case ast.Constant() | ast.JoinedStr() | ast.BinOp():
                if is_file(path := path_of(node)):
                    self.uses.append(FileUse("mentions", (path,)))
                    return
        self._inside(node)

    def _poll(self, test: ast.expr) -> None:
        polling = FileUses()
        polling._visit(test)
        self.uses += [FileUse("polls", use.paths) for use in polling.uses]
        self.calls += polling.calls

    def _inside(self, node: ast.AST) -> None:
        for name in node._fields:  # others may have put attributes of their own there: a parent
            child = getattr(node, name, None)
            if type(child) is list:
                for each in child:
                    if isinstance(each, ast.AST):
                        self._visit(each)
            elif isinstance(child, ast.AST):
                self._visit(child)

    def _assign(self, target: ast.expr, paths: list[PathText]) -> None:
        match target:
            case ast.Name(id=name):
                self.assigned.setdefault(name, []).extend(paths)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for part in parts:
                    self._assign(part, [UNKNOWN])

    def _call(self, call: ast.Call) -> None:
        receiver: ast.expr | None = None
        match call.func:
            case ast.Name(id=name):
                pass
            case ast.Attribute(value=receiver, attr=name):
                pass
            case _:
                return
        bare = name if receiver is None else ""
        for kind in _kinds(name, receiver, call):
            files = _files(name, receiver, call)
            if name in _OF_MODULES:
                self.uses += [FileUse(kind, (path,)) for path in files]
            elif files:
                self.uses.append(FileUse(kind, tuple(files), bare))
        self.uses += _of_command(name, call)
        self.calls.append(Called(name, call))
        # `pool.map(save, rows)`
        self.calls += [Called(value.id) for value in call.args if isinstance(value, ast.Name)]


def _name(function: ast.expr) -> str:
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _kinds(name: str, receiver: ast.expr | None, call: ast.Call) -> Iterator[Kind]:
    if name in _OPENERS:
        mode = _mode(name, receiver, call)
        if mode is None or set("wax+") & {*mode}:
            yield "writes"
        if mode is None or not set("wx") & {*mode}:
            yield "reads"
    elif name in _OF_MODULES:
        if isinstance(receiver, ast.Name) and receiver.id in _OF_MODULES[name]:
            yield from ("reads", "writes")
    elif name in _WRITERS:
        yield "writes"
    elif name in _READERS or _READ.fullmatch(name):
        yield "reads"


def _mode(name: str, receiver: ast.expr | None, call: ast.Call) -> str | None:
    """Answer the mode in which a file is opened; None if nobody knows."""
    given = next((each.value for each in call.keywords if each.arg == "mode"), None)
    of_path = name == "open" and receiver is not None and not _is_module(name, receiver, call)
    place = 0 if of_path else 1
    if given is None and len(call.args) > place:
        given = call.args[place]
    if given is None:
        return {"memmap": "r+", "open_memmap": "r+", "HDFStore": "a"}.get(name, "r")
    return _text(given)


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _files(name: str, receiver: ast.expr | None, call: ast.Call) -> list[PathText]:
    """Answer the paths of which one is the file that a call is about; of `_OF_MODULES` all are."""
    given = [path_of(value) for value in call.args if not isinstance(value, ast.Starred)]
    given += [path_of(each.value) for each in call.keywords if each.arg in _KEYWORDS]
    if name in _OF_PATHS and receiver is not None and not _is_module(name, receiver, call):
        path = path_of(receiver)
        return [(*path, "/", *given[0])] if "glob" in name and given and path else [path]
    if name in _OF_MODULES:
        return given
    if name in ("listdir", "scandir", "walk") and not given:
        return [(".",)]
    written = [path for path in given if is_written(path) and "%" not in str(path[0])]
    return written[:1] or given


def _is_module(name: str, receiver: ast.expr, call: ast.Call) -> bool:
    """Whether something is a function of a module, as ``gzip.open``, and no method of a path."""
    if not isinstance(receiver, ast.Name | ast.Attribute):
        return False
    if name == "open":
        return bool(call.args) and not _is_mode(_text(call.args[0]))
    if name in ("glob", "rglob", "mkdir", "unlink", "rmdir", "stat", "exists"):
        last = receiver.id if isinstance(receiver, ast.Name) else receiver.attr
        return last in ("os", "glob", "path")
    return False


def _is_mode(text: str | None) -> bool:
    return text is not None and {*text} <= {*"rwaxbt+"}


def is_written(path: PathText) -> bool:
    """Whether some of a path is spelled out."""
    return any(isinstance(part, str) and part.strip("*/.") for part in path)


def is_file(path: PathText) -> bool:
    """Whether a text looks as if it were a file's name."""
    text = "".join(part if isinstance(part, str) else "*" for part in path)
    return (
        any(isinstance(part, str) and re.search(r"\w\w", part) for part in path)
        and "://" not in text
        and _FILE.fullmatch(text) is not None
    )


def path_of(node: ast.expr) -> PathText:
    """Answer the path that an expression is, if it is one."""
    match node:
        case ast.Constant(value=str(text)):
            return (text,)
        case ast.Constant():
            return _NO_PATH
        case ast.Name(id=name):
            return (Hole(name),)
        case ast.JoinedStr(values=parts):
            return _joined(parts)
        case ast.FormattedValue(value=value, format_spec=None):
            return path_of(value) or UNKNOWN
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _joined([left, right])
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _with_slashes([left, right])
        case ast.BinOp(left=ast.Constant(value=str(text)), op=ast.Mod()):
            return (_PERCENT.sub("*", text),)
        case ast.Subscript(value=ast.Name(id=name)):
            return (Hole(name),)
        case ast.Attribute(attr=name):
            return (Hole("." + name),)
        case ast.Call():
            return _of_call(node)
        case ast.Lambda() | ast.Dict() | ast.Compare() | ast.ListComp() | ast.DictComp():
            return _NO_PATH
    return UNKNOWN


def _of_call(call: ast.Call) -> PathText:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in _PATHS:
            parts = list(call.args)
            if name == "joinpath" and isinstance(call.func, ast.Attribute):
                parts = [call.func.value, *parts]
            elif name == "join" and not _of_os(call.func):  # `", ".join(names)`
                return UNKNOWN
            return _with_slashes(parts) if parts else (".",)
        case ast.Name(id=name) if name in _SAME and len(call.args) == 1:
            return path_of(call.args[0])
        case ast.Attribute(value=value, attr=name) if name in _SAME:
            return path_of(call.args[0] if call.args else value)
        case ast.Attribute(attr="cwd" | "getcwd"):
            return (".",)
        case ast.Attribute(value=ast.Constant(value=str(text)), attr="format"):
            return (_FIELD.sub("*", text),)
        case ast.Attribute(attr="with_suffix") if call.args:
            return (Hole(), *path_of(call.args[0]))
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in _BUFFERS | _OPENERS:
            return _OPENED
    return UNKNOWN


def _of_os(function: ast.expr) -> bool:
    match function:
        case ast.Name() | ast.Attribute(value=ast.Attribute(attr="path") | ast.Name(id="path")):
            return True
    return False


def _joined(parts: Iterable[ast.expr]) -> PathText:
    return tuple(each for part in parts for each in path_of(part) or UNKNOWN)


def _with_slashes(parts: Iterable[ast.expr]) -> PathText:
    found: list[str | Hole] = []
    for part in parts:
        if found:
            found.append("/")
        found += path_of(part) or UNKNOWN
    return tuple(found)


def _elements(node: ast.expr) -> Iterator[PathText]:
    """Yield what a loop over something goes through."""
    match node:
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            for part in parts:
                yield path_of(part)
        case ast.Name(id=name):
            yield (Hole(name),)
        case ast.Call(func=ast.Name(id="sorted" | "list" | "reversed" | "set"), args=[inner, *_]):
            yield from _elements(inner)
        case ast.Call(func=ast.Name(id="range")):
            yield UNKNOWN
        case ast.Call(func=ast.Attribute(value=value, attr="glob" | "rglob" | "iglob"), args=args):
            if isinstance(value, ast.Name) and value.id == "glob":
                yield from map(path_of, args[:1])
            else:
                yield (*path_of(value), "/*")
        case ast.Call(func=ast.Attribute(value=value, attr="iterdir")):
            yield (*path_of(value), "/*")
        case _:
            yield UNKNOWN


def _of_command(name: str, call: ast.Call) -> Iterator[FileUse]:
    """Yield what the words of a command, or of a magic's line, may be: files."""
    texts = [text for value in call.args if (text := _text(value)) is not None]
    match name:
        case "system" | "getoutput" | "system_piped" | "system_raw" | "popen":
            pass
        case "run" | "call" | "check_call" | "check_output" | "Popen":
            if call.args and isinstance(call.args[0], ast.List | ast.Tuple):
                given = map(_text, call.args[0].elts)
                texts = [" ".join(text for text in given if text is not None)]
        case "run_line_magic" | "run_cell_magic" if texts and texts[0] in _MAGICS:
            if texts[0] in _LISTING:
                yield FileUse("reads", ((".",),))
            texts = texts[1:2]
        case "run_cell_magic" if texts and texts[0] in _SCRIPTS:
            texts = texts[1:]
        case "run_cell_magic" if texts and texts[0] in _LANGUAGES:
            for word in _WORD.findall(" ".join(texts[1:])):
                if "$" not in word and is_file((word,)):
                    yield FileUse("reads", ((word,),))
                    yield FileUse("writes", ((word,),))
            return
        case _:
            return
    for text in texts:
        words = _WORD.findall(text)
        if words and words[0] in _LISTING:
            yield FileUse("reads", ((".",),))
        for word in words:
            if "://" in word:
                word = word.rstrip("/").rpartition("/")[2]
            path = _with_variables(word)
            if not word.startswith("-") and is_written(path):
                yield FileUse("reads", (path,))
                yield FileUse("writes", (path,))


def _with_variables(word: str) -> PathText:
    """Answer a word of a command whose variables are holes."""
    found: list[str | Hole] = []
    end = 0
    for match in _VARIABLE.finditer(word):
        found += word[end : match.start()], Hole(match[1] or match[2] or "")
        end = match.end()
    return tuple(part for part in (*found, word[end:]) if part)
