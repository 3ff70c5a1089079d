"""What is progress and what is not."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
from tqdm import tqdm

from dask_async_run.progress import Progress, find_progress
from dask_async_run.screen import screen

tqdm.monitor_interval = 0  # else it leaves a thread behind


@dataclass(frozen=True)
class Case:
    name: str
    text: str
    found: Progress | None = None


TQDM = " 45%|████▌     | 36/80 [00:05<00:06,  7.10it/s]"
CASES = [
    Case("nothing", ""),
    Case("text", "loading data\n"),
    Case("an accuracy", "accuracy: 97%"),
    Case("a date", "2026/11/23 started"),
    Case("a path", "read a/b/c 3/4"),
    Case("tqdm", TQDM, Progress(-1, 45, "", "36/80", "7.10it/s", "00:06")),
    Case("tqdm, named", "fit:" + TQDM, Progress(-1, 45, "fit", "36/80", "7.10it/s", "00:06")),
    Case("tqdm, at once", "  0%|          | 0/80 [00:00<?, ?it/s]", Progress(-1, 0, "", "0/80")),
    Case(
        "tqdm, bytes, with words",
        " 3%|▎   | 3.1k/100k [00:01<00:30, 3.1kit/s, loss=0.3]",
        Progress(-1, 3, "", "3.1k/100k", "3.1kit/s", "00:30"),
    ),
    Case("tqdm without a total", "36it [00:05, 7.10it/s]"),
    Case(
        "a word after it",
        TQDM + "\nsaved\n",
        Progress(-2, 45, "", "36/80", "7.10it/s", "00:06"),
    ),
    Case(
        "one that a word was printed behind, and the next",
        " 12%|█    | 5/40 [00:01<00:07, 4.9it/s]loss 0.1\n" + TQDM,
        Progress(-1, 45, "", "36/80", "7.10it/s", "00:06"),
    ),
    Case(
        "one that a word was printed behind, and none yet",
        TQDM + "loss 0.1\n",
        Progress(-1, 45, "", "36/80", "7.10it/s", "00:06"),
    ),
    Case(
        "one after the other",
        "epoch 1: 100%|██████| 80/80 [00:09<00:00,  8.2it/s]\nepoch 2:" + TQDM,
        Progress(-1, 45, "epoch 2", "36/80", "7.10it/s", "00:06"),
    ),
    Case(
        "all of them full",
        "1: 100%|█| 8/8 [00:09<00:00,  8.2it/s]\n2: 100%|█| 9/9 [00:09<00:00,  8.2it/s]\n",
        Progress(-1, 100, "2", "9/9", "8.2it/s", "00:00"),
    ),
    Case("long ago", TQDM + "\n1\n2\n3\n4\n"),
    Case("rich", "Work ━━━━━╸━━━━━ 45% 0:00:06", Progress(-1, 45, "Work", left="0:00:06")),
    Case("Keras", "12/80 ━━━━━ 3s 25ms/step", Progress(-1, 15, "", "12/80", "25ms/step")),
    Case(
        "pip",
        "   ━━━━━━━━━━ 10.5/21.0 MB 2.3 MB/s eta 0:00:05",
        Progress(-1, 50, "", "10.5/21.0", "2.3 MB/s", "0:00:05"),
    ),
    Case("arrows", "[=====>      ] 42%", Progress(-1, 42)),
    Case("written over", "step 3/10\rstep 4/10", Progress(-1, 40, "step", "4/10")),
    Case("more than all", "step 3/2\rstep 4/2"),
    Case("101 %", "99%\r101%"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_find_progress(case: Case) -> None:
    """Percentage, count, rate and time left in the bar's own words."""
    assert find_progress(screen(case.text)) == case.found


def test_the_outer_one_of_two_bars() -> None:
    """Epochs, not batches: the outer one says when all is done."""
    file = io.StringIO()
    outer = tqdm(total=4, desc="epochs", file=file, mininterval=0)
    outer.update(1)
    inner = tqdm(total=50, desc="batches", file=file, mininterval=0, position=1)
    inner.update(30)
    found = find_progress(screen(file.getvalue()))
    assert found is not None
    assert (found.what, found.count) == ("epochs", "1/4")
    inner.close()
    outer.close()
