"""Text and displays of a cell: complete, in order, from wherever they come, and soon."""

from __future__ import annotations

import json
import time

import pytest

from cells import Cells, Recorded
from dask_async_run.job import State
from dask_async_run.worker.recorder import HEAD, TAIL

C = "import ctypes, os, sys, subprocess, threading\nlibc = ctypes.CDLL(None)\n"


def order(outputs: list[dict]) -> list[str]:
    """What was shown, in order: lines of text, texts of displays."""
    shown: list[str] = []
    for output in outputs:
        if output["output_type"] == "stream":
            shown += output["text"].split()
        elif "data" in output:
            shown.append(output["data"]["text/plain"])
        else:
            shown.append(output["output_type"])
    return shown


def test_python_c_and_children_write_in_order(cells: Cells) -> None:
    """All of it on stdout, each as it is written."""
    code = C + (
        "for i in range(20):\n"
        "    print(f'py{i}')\n"
        "    libc.puts(f'c{i}'.encode())\n"
        "    os.write(1, f'fd{i}\\n'.encode())\n"
        "    os.system(f'echo sh{i}')\n"
        "    subprocess.run(['echo', f'sub{i}'])\n"
    )
    expected = [f"{name}{i}" for i in range(20) for name in ("py", "c", "fd", "sh", "sub")]
    assert order(cells.run(code).outputs) == expected


@pytest.mark.parametrize("lines", [50, 3000])
def test_streams_and_displays_are_in_order(cells: Cells, lines: int) -> None:
    """Also after so many lines that stdout sends blocks."""
    code = (
        "import sys\n"
        f"for i in range({lines}):\n"
        "    print(f'o{i}')\n"
        "    print(f'e{i}', file=sys.stderr)\n"
        "    if i % 10 == 0: display(i)\n"
        "    sys.stdout.write(f'p{i} ')\n"
        "1/0"
    )
    expected = []
    for i in range(lines):
        expected += [f"o{i}", f"e{i}", *([str(i)] if i % 10 == 0 else []), f"p{i}"]
    assert order(cells.run(code).outputs) == [*expected, "error"]


def test_a_burst_of_lines_and_a_pause_and_c_again(cells: Cells) -> None:
    """When a burst is over, lines are sent by themselves again."""
    code = C + (
        "import time\n"
        "for i in range(5000): print(i)\n"
        "time.sleep(0.3)\n"
        "for i in range(5): print(f'py{i}'); libc.puts(f'c{i}'.encode())"
    )
    shown = order(cells.run(code).outputs)
    assert shown[:5000] == [str(i) for i in range(5000)]
    assert shown[5000:] == [f"{name}{i}" for i in range(5) for name in ("py", "c")]


def test_a_child_s_stderr_comes_before_what_follows(cells: Cells) -> None:
    """It wrote before it ended, and the cell went on after that."""
    code = C + (
        "for i in range(20):\n"
        "    subprocess.run(f'echo e{i} >&2', shell=True)\n"
        "    print(f'o{i}')\n"
    )
    assert order(cells.run(code).outputs) == [f"{n}{i}" for i in range(20) for n in ("e", "o")]


def test_threads_write_whole_lines(cells: Cells) -> None:
    """Each thread's lines are in its order; none is lost."""
    code = C + (
        "def f(n):\n"
        "    for i in range(500): sys.stdout.write(f'{n}-{i}\\n')\n"
        "ts = [threading.Thread(target=f, args=(n,)) for n in range(4)]\n"
        "[t.start() for t in ts]; [t.join() for t in ts];"
    )
    shown = order(cells.run(code).outputs)
    for number in range(4):
        own = [line for line in shown if line.startswith(f"{number}-")]
        assert own == [f"{number}-{i}" for i in range(500)]
    assert len(shown) == 2000


def test_forked_children_write_lines_and_show_text(cells: Cells) -> None:
    """Nothing that the parent had not sent yet comes twice."""
    code = (
        "import os\n"
        "print('before', end=' ')\n"
        "if os.fork() == 0:\n"
        "    print('child'); display(5); os._exit(0)\n"
        "os.wait(); print('after');"
    )
    assert cells.run(code).text().split() == ["before", "child", "5", "after"]


def test_an_error_in_a_fork_is_seen(cells: Cells) -> None:
    """As text: the parent's outputs are the parent's."""
    ended = cells.run("import os\nif os.fork() == 0:\n    1/0\nos.wait()\nprint('after')")
    assert "ZeroDivisionError" in ended.text("stderr")
    assert ended.text() == "after\n"


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_worker_processes_of_a_pool_write(cells: Cells, method: str) -> None:
    """A fork sends whole lines; a fresh interpreter does as it likes, and nothing is lost."""
    code = (
        "from concurrent.futures import ProcessPoolExecutor\n"
        "import multiprocessing\n"
        f"with ProcessPoolExecutor(2, multiprocessing.get_context({method!r})) as pool:\n"
        "    list(pool.map(print, range(5)))\n"
    )
    text = cells.run(code).text()
    assert sorted("".join(text.split())) == list("01234")
    if method == "fork":
        assert sorted(text.split()) == list("01234")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_line_is_seen_soon(cells: Cells, stream: str) -> None:
    """Whole lines at once, parts of lines soon; PERFORMANCE.md's goal is 100 ms."""
    delays = []
    for end in ("\\n", ""):
        sink = Timed()
        code = (
            "import sys, time\n"
            "for i in range(5):\n"
            f"    print(f'{{time.monotonic()}} ', end='{end}', file=sys.{stream})\n"
            "    time.sleep(0.3)\n"
        )
        cells.start(code, sink).end()
        stamps = [(at, t) for at, o in sink.timed for t in o["text"].split()]
        delays += [at - float(printed) for at, printed in stamps]
    assert len(delays) == 10
    assert sorted(delays)[len(delays) // 2] < 0.25


class Timed(Recorded):
    """Notes when each output came."""

    def __init__(self) -> None:
        super().__init__()
        self.timed: list[tuple[float, dict]] = []

    def record(self, batch, outputs, tail, info):  # type: ignore[no-untyped-def]
        self.timed += [(time.monotonic(), output) for output in outputs]
        return super().record(batch, outputs, tail, info)

    def last(self, batch, outputs, tail, info):  # type: ignore[no-untyped-def]
        self.record(batch, outputs, tail, info)


@pytest.mark.parametrize(
    "code",
    [
        "print('x' * 10_000_000)",
        "for i in range(1_000_000): print('0123456')",
        "import os\nfor i in range(80): os.write(1, b'\\xff\\x00' * 65536)",
        "import subprocess\nsubprocess.run('yes | head -c 10000000', shell=True);",
    ],
    ids=["one print", "a million lines", "binary", "child"],
)
def test_a_flood_is_bounded(cells: Cells, code: str) -> None:
    """Head and tail are kept, the number of dropped bytes is said, and the end is there."""
    sink = Recorded()
    ended = cells.start(code + "\nprint('the end')\n5", sink).end()
    assert ended.state is State.FINISHED
    text = ended.text()
    assert HEAD < len(text.encode()) <= HEAD + 4 * TAIL
    assert text.endswith("the end\n")
    assert "bytes of text were dropped here" in ended.text("stderr")
    assert ended.shown.result == "5"
    assert sink.tails[-1] == ""


def test_binary_rubbish_and_cut_characters(cells: Cells) -> None:
    """What is no UTF-8 is replaced; a character in two writes is one."""
    code = (
        "import os, time\n"
        "os.write(1, b'\\xff\\xfe'); os.write(1, 'ä'.encode()[:1]); time.sleep(0.2)\n"
        "os.write(1, 'ä'.encode()[1:]); os.write(1, b'\\xe2\\x82');"
    )
    assert cells.run(code).text() == "\ufffd\ufffdä\ufffd"


def test_a_closed_stdout_spoils_nothing_else(cells: Cells) -> None:
    """A cell can do that; displays and results still arrive."""
    ended = cells.run("import sys\nprint('a')\nsys.stdout.close()\ndisplay(1)\n2")
    assert (ended.state, order(ended.outputs)) == (State.FINISHED, ["a", "1", "2"])


def test_redirected_descriptors_are_the_cells_business(cells: Cells) -> None:
    """As in a kernel, where Python's text does not go through descriptor 1 either."""
    code = (
        "import os\n"
        "saved = os.dup(1); r, w = os.pipe(); os.dup2(w, 1); os.close(w)\n"
        "os.write(1, b'captured'); print('shown')\n"
        "os.dup2(saved, 1); os.read(r, 100)"
    )
    ended = cells.run(code)
    assert ended.text() == "shown\n"
    assert ended.shown.result == "b'captured'"


def test_a_large_display_arrives_whole(cells: Cells) -> None:
    """Megabytes through a socket with a small buffer."""
    ended = cells.run("from IPython.display import HTML\nHTML('ä' * 3_000_000)")
    assert ended.shown.data[0]["text/html"] == "ä" * 3_000_000


def test_what_a_display_holds_is_made_plain(cells: Cells) -> None:
    """As Jupyter's messages do it."""
    code = (
        "import datetime, fractions\n"
        "class Odd: __str__ = lambda self: 'odd'\n"
        "display({'text/plain': 'p', 'application/x+json': {1: float('nan'), 'b': b'\\x00', "
        "'t': (1, {2}), 'd': datetime.date(2026, 1, 2), 'big': 2**70, 'o': Odd(), "
        "'s': '\\udc80', 'f': fractions.Fraction(1, 2)}}, raw=True)"
    )
    [data] = cells.run(code).shown.data
    assert json.loads(json.dumps(data["application/x+json"])) == {
        "1": "nan",
        "b": "AA==",
        "t": [1, [2]],
        "d": "2026-01-02",
        "big": float(2**70),
        "o": "odd",
        "s": "\\udc80",
        "f": 0.5,
    }
