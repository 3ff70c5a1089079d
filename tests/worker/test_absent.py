"""What an exception says of a name that did not come along."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dask_async_run.worker import absent

ABSENT = {"db": "it cannot be pickled (TypeError: no)"}


def raised(code: str, names: dict[str, object]) -> BaseException:
    with pytest.raises(Exception, match=r"db|zero|later") as caught:
        exec(code, names)
    return caught.value


@pytest.mark.parametrize(
    "code",
    [
        "db.query()",
        "globals()['db']",
        "raise ValueError('no column `db`')",
        "try: db\nexcept NameError as error: raise RuntimeError('later') from error",
        "try: db\nexcept NameError: 1 / 0",
    ],
)
def test_it_says_why_the_name_is_not_there(code: str) -> None:
    """Whether it says the name itself, or was raised from or after one that does; once."""
    error = raised(code, {})
    absent.tell(error, ABSENT)
    absent.tell(error, ABSENT)
    (note,) = error.__notes__
    assert note == (
        "'db' of the notebook is not in this cell: it cannot be pickled (TypeError: no). "
        "Make it in the cell."
    )


class SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("make", [lambda: NameError("name 'x' is not defined"), SilentError])
def test_others_are_left_alone(make: Callable[[], BaseException]) -> None:
    """One that is about another name, or has no text, gets no note."""
    error = make()
    absent.tell(error, ABSENT)
    assert not hasattr(error, "__notes__")


def test_it_says_why_a_result_is_not_there() -> None:
    """``Out`` comes along with what of it can travel."""
    error = KeyError(3)
    absent.tell(error, {"Out[3]": "it cannot be pickled (TypeError: no)"})
    (note,) = error.__notes__
    assert note.startswith("'Out[3]' of the notebook is not in this cell: it cannot be pickled")
