"""What any text gets as the line of a magic, or as a cell: understood, or refused in our words.

Needs no server: it is about what comes before anything is sent. `fuzz` looks for texts.
"""

from __future__ import annotations

from IPython.core.error import UsageError
from IPython.core.inputtransformer2 import TransformerManager

from dask_async_run.errors import AsyncRunError
from dask_async_run.job import JobView
from dask_async_run.kernel import options
from dask_async_run.kernel.completion import candidates
from dask_async_run.kernel.names import resolve
from dask_async_run.kernel.options import Parser
from dask_async_run.namespace.analyse import analyse

PARSERS = [kind for kind in vars(options).values() if isinstance(kind, Parser)]

JOBS = [
    JobView("0" * 32, "/a/story.ipynb", "train", 1, latest=False),
    JobView("1" * 32, "/a/story.ipynb", "train", 2),
    JobView("2" * 32, "/b/other.ipynb", "caf\u00e9 'x' [1]"),
]


def understand(text: str) -> None:
    """Take a text for all that a user's text can be: understood, or refused in our words."""
    for parser in PARSERS:
        candidates(parser, f"{parser.prog} {text}", text, lambda: JOBS, {"train": 1})
        try:
            arguments = parser.parse_line(text)
        except UsageError:
            continue
        if jobs := getattr(arguments, "jobs", None):
            try:
                resolve(JOBS, jobs, "/a/story.ipynb")
            except AsyncRunError:
                continue
    words, statement = options.split_statement(text)
    assert words in text or not words.strip()
    assert statement in text
    transform = TransformerManager().transform_cell
    try:
        analyse(transform(text), transform)
    except SyntaxError:
        return
