"""Whatever is typed is understood, or refused in words of ours; `fuzz` looks for more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz_lines import understand

PIECES = st.sampled_from(
    [
        "--name",
        "--last",
        "--timeout",
        "--only",
        "--after",
        "train",
        "train@",
        "'",
        '"',
        "\\",
        " ",
        "=",
    ]
)


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
# IPython says so of any cell with such characters, ours or not.
@pytest.mark.filterwarnings("ignore:.make_tokens_by_line:UserWarning")
@given(st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=10).map("".join)))
def test_any_text(text: str) -> None:
    """No error but those that say what is wrong with it."""
    understand(text)


@pytest.mark.parametrize("text", ["x" * 10_000, "", "\U0001f680", "a/b", "'", "\0", "[" * 3000])
def test_odd_texts(text: str) -> None:
    understand(text)
