"""Values as files, in the form that a file's suffix says.

What a value is, its methods tell: neither pandas nor numpy is imported for one that
has nothing to do with them.
"""

from __future__ import annotations

import csv
import json
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dask_async_run.errors import ExportError

Write = Callable[[Any, Path], None]


def write(values: Mapping[str, Any], path: Path, single: bool) -> None:
    """Write values, aside first: the file is whole, or as it was.

    Parameters
    ----------
    values : mapping
        By name, at least one.
    path : Path
        Overwritten if it is there.
    single : bool
        Write the only value itself, not the mapping.

    Raises
    ------
    ExportError
        The suffix means nothing, or not this, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    writer = _WRITERS.get(suffix)
    what = ", ".join(values)
    if writer is None:
        raise ExportError(what, str(path), f"its suffix has to be one of {', '.join(_WRITERS)}.")
    if suffix in _SINGLE and not single:
        if len(values) > 1:
            raise ExportError(
                what,
                str(path),
                f"{suffix} is for one of them. Choose it with --var, or write a .pkl.",
            )
        single = True
    value = next(iter(values.values())) if single else dict(values)
    real = path.resolve()  # a link stays a link
    aside = real.with_name(f".{uuid.uuid4().hex}{real.suffix}")
    try:
        writer(value, aside)
        aside.replace(real)
    except OSError as error:
        raise ExportError(what, str(path), f"{error.strerror or error}.") from error
    except Exception as error:
        # What pickle, JSON, numpy, pandas and the value's own code raise.
        kind = "" if isinstance(error, _UnfitError) else f"{type(error).__name__}: "
        problem = " ".join(str(error).split()).rstrip(".")
        raise ExportError(what, str(path), f"{kind}{problem}.") from error
    finally:
        aside.unlink(missing_ok=True)


def as_json(value: Any) -> str:
    """A value as JSON: numbers, texts, lists, dicts; arrays and tables too, as lists.

    Raises
    ------
    TypeError, ValueError
        It cannot be.
    """
    return json.dumps(value, default=_plain, allow_nan=False)


class _UnfitError(Exception):
    """A value that a form has no place for."""


def _plain(value: Any) -> Any:
    if hasattr(value, "to_json") and hasattr(value, "index"):  # pandas
        orient = {"orient": "records"} if hasattr(value, "columns") else {}
        return json.loads(value.to_json(date_format="iso", **orient))
    for method in ("to_dicts", "tolist", "to_list", "isoformat"):  # polars, numpy, times
        if callable(getattr(value, method, None)):
            return getattr(value, method)()
    raise _UnfitError(f"JSON has no form for a {_kind(value)}. Write a .pkl")


def _pickle(value: Any, path: Path) -> None:
    import cloudpickle

    # With what the notebook defined in it, which nobody else can import.
    with path.open("wb") as stream:
        cloudpickle.dump(value, stream)


def _json(value: Any, path: Path) -> None:
    path.write_text(as_json(value) + "\n", encoding="utf-8")


def _npy(value: Any, path: Path) -> None:
    import numpy as np

    array = np.asarray(value)
    if array.dtype == object:
        raise _UnfitError(f"a {_kind(value)} is no array of numbers. Write a .pkl")
    np.save(path, array, allow_pickle=False)


def _csv(value: Any, path: Path) -> None:
    if hasattr(value, "write_csv"):  # polars
        value.write_csv(path)
    elif hasattr(value, "to_csv"):
        value.to_csv(path, index=not _plainly_numbered(value))
    elif hasattr(value, "dtype") and getattr(value, "ndim", 0) in (1, 2):
        _rows(value.tolist(), path)
    elif isinstance(value, list) and value:
        _rows(value, path)
    else:
        raise _UnfitError(f"a {_kind(value)} is no table. Write a .pkl or a .json")


def _rows(rows: list[Any], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        if all(isinstance(row, Mapping) for row in rows):
            names = list(dict.fromkeys(name for row in rows for name in row))
            table = csv.DictWriter(stream, names)
            table.writeheader()
            table.writerows(rows)
        else:
            several = all(isinstance(row, (list, tuple)) for row in rows)
            csv.writer(stream).writerows(rows if several else [[row] for row in rows])


def _parquet(value: Any, path: Path) -> None:
    if hasattr(value, "write_parquet"):  # polars
        value.write_parquet(path)
        return
    if not hasattr(value, "to_parquet") and hasattr(value, "to_frame"):  # a Series
        value = value.to_frame(name="value" if value.name is None else value.name)
    if not hasattr(value, "to_parquet"):
        raise _UnfitError(f"a {_kind(value)} is no table. Write a .pkl or a .json")
    try:
        value.to_parquet(path)
    except ImportError as error:
        raise _UnfitError("pandas needs 'pyarrow' for that. Install it, or write a .csv") from error


def _plainly_numbered(value: Any) -> bool:
    """Whether rows are numbered from 0 on, which says nothing."""
    index = value.index
    return (
        type(index).__name__ == "RangeIndex"
        and index.name is None
        and (index.start, index.step) == (0, 1)
    )


def _kind(value: Any) -> str:
    kind = type(value)
    return (
        kind.__qualname__
        if kind.__module__ in ("builtins", "__main__")
        else (f"{kind.__module__}.{kind.__qualname__}")
    )


_WRITERS: dict[str, Write] = {
    ".pkl": _pickle,
    ".pickle": _pickle,
    ".json": _json,
    ".npy": _npy,
    ".csv": _csv,
    ".parquet": _parquet,
}

_SINGLE = frozenset({".npy", ".csv", ".parquet"})
"""Forms that hold one value."""
