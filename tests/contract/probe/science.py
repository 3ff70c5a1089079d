"""What the walk says of numpy's, pandas', matplotlib's and sympy's objects.

None of them is imported here: an object of a library that is not loaded does not exist.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .walk import Node, digest, short

if TYPE_CHECKING:
    from .walk import Walk


def science_node(value: Any, walk: Walk, path: str) -> Node | None:
    """Describe `value` if it is one of theirs."""
    for name, describe in (
        ("numpy", _numpy_node),
        ("pandas", _pandas_node),
        ("matplotlib", _matplotlib_node),
        ("sympy", _sympy_node),
    ):
        library = sys.modules.get(name)
        if library is not None and (node := describe(library, value, walk, path)):
            return node
    return None


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _numpy_node(np: Any, value: Any, walk: Walk, path: str) -> Node | None:
    if isinstance(value, np.ndarray):
        return _array_node(np, value, walk, path)
    if isinstance(value, np.generic):
        return Node(f"{_kind(value)} {value!r}", tracked=False)
    if isinstance(value, np.dtype):
        return Node(f"dtype {value!r}", tracked=False)
    if isinstance(value, np.ufunc):
        return Node(f"ufunc {value.__name__}")
    if isinstance(value, np.random.Generator):
        return Node("Generator", [(".bit_generator", value.bit_generator)])
    if isinstance(value, np.random.BitGenerator):
        return Node(_kind(value), [(".state", value.state)])
    if isinstance(value, np.random.RandomState):
        return Node("RandomState", [(".state", value.get_state(legacy=False))])
    return None


def _array_node(np: Any, value: Any, walk: Walk, path: str) -> Node:
    from .kinds import attributes, importable

    flags = value.flags
    label = (
        f"{_kind(value)} {value.dtype!r} {value.shape} "
        f"{'F' if flags.f_contiguous and not flags.c_contiguous else 'C'}"
        f"{'' if flags.writeable else ' read-only'}"
    )
    children: list[tuple[str, Any]] = []
    if isinstance(value, np.ma.MaskedArray):
        children += [(".data", value.data), (".mask", value.mask), (".fill", value.fill_value)]
        return Node(label, children)
    if value.size and not value.dtype.hasobject:
        try:
            low, high = np.lib.array_utils.byte_bounds(value)
        except AttributeError:  # numpy 1
            low, high = np.byte_bounds(value)
        walk.arrays.append((path, low, high, value))
    if value.dtype == object:
        children += [(f"[{i}]", item) for i, item in enumerate(value.ravel().tolist())]
    else:
        plain = np.asarray(value)
        label += f" {digest(plain.tobytes())} {short(str(plain.ravel()[:8].tolist()), 120)}"
    if type(value) is not np.ndarray:
        extra = attributes(value) if not importable(type(value)) else []
        children += extra or [
            (f".{k}", v) for k, v in sorted(getattr(value, "__dict__", {}).items())
        ]
    return Node(label, children)


def _values_node(pd: Any, value: Any) -> Iterable[tuple[str, Any]]:
    """Contents of a Series or Index: a short text, or the objects that it holds."""
    if value.dtype == object:
        return [("", list(value))]
    if isinstance(value.dtype, pd.CategoricalDtype):
        return [("codes", value.codes if isinstance(value, pd.Index) else value.cat.codes.tolist())]
    texts = repr(value.astype(object).tolist())
    return [("", short(texts, 200))]


def _pandas_node(pd: Any, value: Any, walk: Walk, path: str) -> Node | None:
    if isinstance(value, pd.DataFrame):
        children = [(".index", value.index), (".columns", value.columns)]
        for i in range(value.shape[1]):
            column = value.iloc[:, i]
            children += [(f".iloc[:, {i}]{e}", v) for e, v in _values_node(pd, column)]
        kinds = ", ".join(map(str, value.dtypes))
        label = f"{_kind(value)} {value.shape} {short(kinds)}"
    elif isinstance(value, pd.Series):
        children = [(".index", value.index), (".name", value.name)]
        children += [(f".values{e}", v) for e, v in _values_node(pd, value)]
        label = f"{_kind(value)} {value.dtype} {value.shape}"
    elif isinstance(value, pd.MultiIndex):
        children = [(".names", list(value.names)), (".values", value.tolist())]
        label = f"{_kind(value)} {value.shape}"
    elif isinstance(value, pd.Index):
        children = [(".name", value.name)]
        children += [(f".values{e}", v) for e, v in _values_node(pd, value)]
        label = f"{_kind(value)} {value.dtype} {value.shape} {getattr(value, 'freq', '')}"
        return Node(label, children, tracked=False)  # pandas shares and copies indexes as it likes
    elif isinstance(value, (pd.Timestamp, pd.Timedelta, pd.Period, pd.Interval)):
        return Node(repr(value), tracked=False)
    elif isinstance(value, pd.api.extensions.ExtensionDtype):
        return Node(f"dtype {value!r}", tracked=False)
    elif value is pd.NaT or value is pd.NA:
        return Node(repr(value))
    elif isinstance(value, pd.api.extensions.ExtensionArray):
        return Node(f"{_kind(value)} {value.dtype} {short(repr(list(value)))}")
    else:
        return None
    if getattr(value, "attrs", None):
        children.append((".attrs", value.attrs))
    children += [
        (f".{k}", v)
        for k, v in sorted(vars(value).items())
        if not k.startswith("_") and k != "attrs"
    ]
    if type(value).__module__ == "__main__":
        children.append((".__class__", type(value)))
    return Node(label, children)


def _number(value: Any) -> str:
    try:
        return f"{float(value):.6g}"
    except (TypeError, ValueError):
        return str(value)


def _bytes_of(data: Any) -> str:
    import numpy as np

    array = np.ma.filled(np.ma.asarray(data).astype(float), np.nan)
    return f"{array.shape} {digest(np.round(array, 9).tobytes())}"


def _matplotlib_node(mpl: Any, value: Any, walk: Walk, path: str) -> Node | None:
    artist = sys.modules.get("matplotlib.artist")
    if type(value).__name__ == "CallbackRegistry":
        return Node("CallbackRegistry")  # connects itself anew after every pickle
    if artist is None or not isinstance(value, artist.Artist):
        return None
    from matplotlib import axes, axis, collections, figure, image, lines, patches, text

    label = f"{_kind(value)} visible {value.get_visible()} alpha {value.get_alpha()}"
    children: list[tuple[str, Any]] = []
    if isinstance(value, axis.Axis):
        return Node(f"{label} {value.get_label_text()!r} {value.get_scale()}")
    if isinstance(value, axes.Axes):
        limits = [_number(x) for x in (*value.get_xlim(), *value.get_ylim())]
        label += f" title {value.get_title()!r} limits {limits}"
        label += f" x {value.get_xlabel()!r} y {value.get_ylabel()!r}"
        children.append((".figure", value.figure))
    elif isinstance(value, figure.FigureBase):
        label += f" {value.get_label()!r}"
        if isinstance(value, figure.Figure):
            label += f" {[_number(x) for x in value.get_size_inches()]} {_number(value.dpi)}"
        found: Any = value.axes
        children += [(f".axes[{i}]", a) for i, a in enumerate(found)]
    elif isinstance(value, lines.Line2D):
        label += f" {_bytes_of(value.get_xydata())} {value.get_color()} {value.get_linestyle()}"
        label += f" {value.get_marker()} {value.get_label()}"
    elif isinstance(value, text.Text):
        label += f" {value.get_text()!r} {value.get_color()} {_number(value.get_fontsize())}"
    elif isinstance(value, patches.Patch):
        label += f" {_bytes_of(value.get_path().vertices)} {value.get_facecolor()}"
    elif isinstance(value, collections.Collection):
        label += f" {_bytes_of(value.get_offsets())} {_bytes_of(value.get_facecolor())}"
    elif isinstance(value, image._ImageBase):
        label += f" {_bytes_of(value.get_array())} {value.get_cmap().name}"
    held = value.get_children()
    children += [(f".children[{i}]", child) for i, child in enumerate(held)]
    return Node(label, children)


def _sympy_node(sympy: Any, value: Any, walk: Walk, path: str) -> Node | None:
    if isinstance(value, sympy.Basic):
        text = re.sub(r"dummy_index=\d+", "", sympy.srepr(value))  # a random number
        return Node(f"sympy {short(text)}", tracked=False)
    if isinstance(value, sympy.MatrixBase):
        return Node(f"{_kind(value)} {short(sympy.srepr(value))}")
    return None
