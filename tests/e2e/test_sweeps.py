"""Sweeps on a real server: one job, members apart, one table."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from beside import command
from observer import Observer
from realkernel import RealKernel
from waiting import wait_for

SERVE = "%load_ext dask_async_run\n%async_run_server --workers 2 --no-dashboard"


def wait_for_ended(server: Any, name: str, count: int) -> None:
    wait_for(
        lambda: sum(view.ended is not None for view in server.observer.members(name)) >= count,
        60,
        f"{count} members of {name} to end",
    )


def test_every_combination_in_order_in_one_table(kernel: RealKernel) -> None:
    """A failed member is a row as well; what members bind and change stays theirs."""
    kernel.do("base, kept, rate = 10, [], 'mine'")
    ran = kernel.do(
        '%%async_run --name grid --sweep "rate=[0.5, 0.25] depth=range(2, 5)"\n'
        "import math\n"
        "def double(x): return 2 * x\n"
        "kept.append(depth)\n"
        "acc = double(rate * depth + base)\n"
        "print('member', depth)\n"
        "if depth == 3: raise ValueError('bad depth')\n"
        "acc - base"
    )
    assert "6 members: rate (2) x depth (3)" in ran.text
    assert "brings their table as grid" in ran.text
    told = kernel.do("%async_gather grid --only acc").stderr
    assert "it brought no acc. A sweep brings one table; %%async_run --only chooses" in told
    gathered = kernel.do("%async_gather grid")
    assert "grid[1] (and 1 more) failed: ValueError: bad depth" in gathered.stdout
    assert gathered.stdout.count("member 3") == 1
    assert "member 2" not in gathered.stdout
    assert "2 of 6 members did not finish: 2 failed" in gathered.stderr
    assert any("text/html" in data for data in gathered.data)
    shown = kernel.value(
        "[list(grid.columns), grid.rate.tolist(), grid.depth.tolist(), grid.acc.tolist(),"
        " grid.Out.isna().tolist(), grid.state.tolist(), grid.error.tolist()]"
    )
    assert shown == [
        ["rate", "depth", "acc", "Out", "state", "error"],
        [0.5, 0.5, 0.5, 0.25, 0.25, 0.25],
        [2, 3, 4, 2, 3, 4],
        [22.0, 23.0, 24.0, 21.0, 21.5, 22.0],
        [False, True, False, False, True, False],
        ["finished", "failed", "finished", "finished", "failed", "finished"],
        ["", "ValueError: bad depth", "", "", "ValueError: bad depth", ""],
    ]
    assert kernel.value("[base, kept, rate, 'acc' in dir(), 'double' in dir()]") == [
        10, [], "mine", False, False,
    ]  # fmt: skip
    assert kernel.value(f"type(Out[{ran.count}]).__name__") == "DataFrame"


def test_a_member_is_reached_by_its_number(kernel: RealKernel, shared_server: Any) -> None:
    """Its output, values and error; in the kernel, by name, and from a shell; and no list is
    flooded."""
    kernel.do("import dask_async_run, os; best = {'depth': 7}")
    kernel.do(
        '%%async_run --name one --sweep "a, b in [(1, 2), (3, 0), (5, best)]"\n'
        "print('a is', a)\nq = a / b if b != best else b"
    )
    kernel.do("%async_wait one\njob = dask_async_run.connect().job('one')")
    assert kernel.value("[job[0]['q'], job[0]['a'], job[2]['q'], job[-1]['b']]") == [
        0.5, 1, {"depth": 7}, {"depth": 7},
    ]  # fmt: skip
    assert kernel.value("[str(job[1].state), job[1].view.ename, len(job.members)]") == [
        "failed",
        "ZeroDivisionError",
        3,
    ]
    assert "a is 3" in kernel.value("job[1].outputs[0]['text']")
    assert "IndexError: one has members 0 to 2, and no 3" in kernel.run("job[3]").text
    assert "a is 5" in kernel.do("%async_attach one[2]").stdout
    assert kernel.run("q").stderr == ""  # which nobody has to gather
    listed = kernel.do("%async_jobs").result or ""
    assert listed.count("one") == 1
    assert "1 of 3 members did not finish" in listed
    for line, expected in {
        "output one[1]": "a is 3",
        "show one[1]": "ZeroDivisionError",
        "show one": "3 members: a, b (3)",
        "jobs": "1 of 3 members",
    }.items():
        done = command(shared_server, *line.split())
        assert expected in done.stdout, done
        assert "one[0]" not in done.stdout


def test_members_that_hang_or_die_end_alone(kernel: RealKernel) -> None:
    """--timeout is each member's; a process that is killed is one row."""
    kernel.do(
        "%%async_run --name bad --timeout 2 --sweep \"how=['hang', 'die', 'live']\"\n"
        "import os, signal, time\n"
        "begun = how.upper()\n"
        "if how == 'hang': time.sleep(1000)\n"
        "if how == 'die': os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    said = kernel.do("%async_gather bad")
    assert "2 of 3 members did not finish" in said.stderr
    states = kernel.value("bad.state.tolist()")
    assert (states[0], states[2]) == ("timed-out", "finished")
    assert states[1] in ("failed", "lost")
    errors = kernel.value("bad.error.tolist()")
    assert "signal" in errors[1].lower() or "kill" in errors[1].lower()
    assert kernel.value("bad.begun[0] == 'HANG' and bad.begun[2] == 'LIVE'")


def test_part_of_it_now_and_all_of_it_after_a_restart(
    shared_kernel: RealKernel, shared_server: Any, tmp_path: Path
) -> None:
    """A part can be had at any time, again, and in another kernel; the rest replaces it."""
    gate = tmp_path / "gate"
    shared_kernel.do(
        '%%async_run --name part --sweep "n=range(4)"\n'
        "import os, time\n"
        f"while n > 1 and not os.path.exists({str(gate)!r}): time.sleep(0.02)\n"
        "square = n * n"
    )
    wait_for_ended(shared_server, "part", 2)
    wait_for(
        lambda: (
            [view.state for view in shared_server.observer.members("part")[2:]] == ["running"] * 2
        ),
        60,
        "the other two to run",
    )
    part = shared_kernel.do("%async_gather part --partial")
    assert "part: 2 of 4 members have ended: the table is part" in part.stdout
    assert shared_kernel.value("part.square.tolist()") == [0, 1]
    assert "2/4 members, 2 running" in (shared_kernel.do("%async_jobs").result or "")
    shared_kernel.restart()
    shared_kernel.do("%load_ext dask_async_run\npart = 'mine'")
    assert "left alone" in shared_kernel.do("%async_gather part --partial").stderr
    shared_kernel.do("del part\n%async_gather part --partial")
    gate.touch()
    shared_kernel.do("%async_gather part")
    assert shared_kernel.value("part.square.tolist()") == [0, 1, 4, 9]
    shared_kernel.do("part = 'mine again'")
    assert "left alone" in shared_kernel.do("%async_gather part").stderr


def test_only_what_failed_is_run_again(
    kernel: RealKernel, shared_server: Any, tmp_path: Path
) -> None:
    """The others are taken over with output and result, also when the old run is forgotten."""
    log, good = tmp_path / "log", tmp_path / "good"
    kernel.do(
        '%%async_run --name again --sweep "n=range(5)"\n'
        "import os\n"
        f"with open({str(log)!r}, 'a') as file: file.write(f'{{n}} ')\n"
        "print('n is', n)\n"
        f"assert n % 2 or os.path.exists({str(good)!r})\n"
        "twice = 2 * n"
    )
    kernel.do("%async_wait again")
    good.touch()
    kernel.do("job = get_ipython().run_line_magic('async_rerun', 'again --failed')")
    kernel.do("%async_wait again\n%async_forget again@1\n%async_gather again")
    assert kernel.value("again.twice.tolist()") == [0, 2, 4, 6, 8]
    assert sorted(log.read_text().split()) == ["0", "0", "1", "2", "2", "3", "4", "4"]
    assert kernel.value("job[1].outputs[0]['text']") == "n is 1\n"
    nothing = kernel.do("%async_rerun again --failed")
    assert "nothing to run again" in nothing.stdout
    done = command(shared_server, "rerun", "again", "--failed")
    assert done.stdout == "no jobs.\n", done.stderr


def test_a_later_cell_waits_for_the_table(kernel: RealKernel) -> None:
    """The table is a name that is still to come; a sweep can itself build on a job."""
    kernel.do("%%async_run --name first\noffset = 100")
    kernel.do('%%async_run --name chain --sweep "n=[1, 2]"\nm = n + offset')
    kernel.do("%%async_run --name then\ntotal = int(chain.m.sum())")
    kernel.do("%async_gather then")
    assert kernel.value("[total, chain.m.tolist(), offset]") == [203, [101, 102], 100]


def test_cancelled_it_keeps_what_there_is(kernel: RealKernel, shared_server: Any) -> None:
    """All members end; gathering brings those that had finished, and says what happened."""
    kernel.do(
        '%%async_run --name stop --max-parallel 1 --sweep "n=range(30)"\n'
        "import time\nm = n\nif n == 1: time.sleep(1000)"
    )
    wait_for_ended(shared_server, "stop", 1)
    kernel.do("%async_cancel stop\n%async_wait stop")
    view = shared_server.observer.job("stop")
    assert (view.state, view.reason) == ("cancelled", "cancelled; 1 of 30 members had finished")
    assert {str(member.state) for member in shared_server.observer.members("stop")} == {
        "finished", "cancelled",
    }  # fmt: skip
    assert "JobStateError" in kernel.run("%async_gather stop").text
    assert kernel.value("[len(stop), int(stop.m[0]), stop.state[5]]") == [30, 0, "cancelled"]
    assert "%async_rerun stop --failed" in kernel.run("%async_rerun stop[2]").text
    kernel.do("%async_forget stop")
    assert shared_server.observer.members_of(view.id) == []


def test_two_hundred_members(kernel: RealKernel, shared_server: Any) -> None:
    """Each once, in order, one line in every list, and inputs that are stored once."""
    kernel.do("data = list(range(1000))")
    kernel.do('%%async_run --sweep "k=range(200)" --name many --only y\ny = data[k]')
    kernel.do("%async_gather many", timeout=120)
    assert kernel.value("many.y.tolist() == list(range(200))")
    assert kernel.value("list(many.columns)") == ["k", "y", "state", "error"]
    assert {view.state for view in shared_server.observer.members("many")} == {"finished"}


APART = """\
import os, random
Counter.seen.append(n)
kept["a"].append(n)
numbers[0] += n
found = (
    [len(Counter.seen), count(n), next(steps), len(kept["a"]), kept is alias, int(numbers[0]) - n],
    [random.random(), float(np.random.rand()), float(rng.random())],
    sorted(k for k in globals() if k in ("left", "found", "pid", "table_of")),
    [len(In), fresh()],
)
left = pid = os.getpid()
"""


def test_members_in_one_process_find_nothing_of_one_another(kernel: RealKernel) -> None:
    """Each has the sweep's inputs as they were, random states included."""
    kernel.do("import logging\nlogging.getLogger('lib').addHandler(logging.StreamHandler())")
    kernel.do(
        "import random\nimport numpy as np\nnp.random.seed(3)\nrandom.seed(4)\n"
        "rng = np.random.default_rng(5)\nkept = alias = {'a': [1, 2]}\nnumbers = np.arange(5)\n"
        "steps = iter(range(100))\n"
        "class Counter:\n    seen = []\n"
        "def count(x, seen=[]):\n    seen.append(x)\n    return len(seen)\n"
        "def fresh():\n    fresh.calls = getattr(fresh, 'calls', 0) + 1\n    return fresh.calls"
    )
    kernel.do(f'%%async_run --sweep "n=range(24)" --name apart\n{APART}')
    kernel.do("Counter.seen.append('mine'); kept['a'].append(7)")
    kernel.do("%async_gather apart --partial", timeout=120)
    assert kernel.value("[Counter.seen, kept['a']]") == [["mine"], [1, 2, 7]]
    kernel.do("%async_gather apart", timeout=120)
    assert kernel.value("sorted(apart.state.unique())") == ["finished"]
    assert kernel.value("[str(f) for f in apart.found].count(str(apart.found[0]))") == 24
    assert kernel.value("[list(f) for f in apart.found[:1]][0]")[0] == [1, 1, 0, 3, True, 0]
    assert kernel.value("apart.pid.nunique()") < 12
    assert kernel.value("[Counter.seen, count(0), kept['a']]") == [["mine"], 1, [1, 2, 7]]
    assert kernel.value("next(steps)") == 0


def test_members_that_change_their_process_have_one_each(kernel: RealKernel) -> None:
    """What one sets for its process no other finds, whether it comes before or after."""
    kernel.do(
        '%%async_run --sweep "n=range(8)" --name settings\n'
        "import os, warnings, logging\n"
        "found = os.environ.get('LEFT'), len(warnings.filters), len(logging.root.handlers)\n"
        "if n % 2: os.environ['LEFT'] = str(n); warnings.simplefilter('error')\n"
        "if n % 4 == 2: logging.basicConfig()\n"
        "if n == 5: raise ValueError"
    )
    kernel.do("%async_gather settings", timeout=120)
    assert kernel.value("settings.found.map(str).nunique()") == 1


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ('--sweep "n=later"', "still to come from later-job"),
        ('--sweep "n=range(2000)"', "2,000 members, more than 1,000: --max-members 2000"),
        ("--sweep n=[open]*0", "empty"),
        ('--sweep "n=[lock]"', "cannot be pickled"),
    ],
)
def test_what_cannot_be_swept_is_not_submitted(
    kernel: RealKernel, shared_server: Any, option: str, said: str
) -> None:
    """Nothing is made of it, and the message says what to do."""
    kernel.do("import threading; lock = threading.Lock()")
    kernel.do("%%async_run --name later-job\nlater = 3")
    assert said in kernel.run(f"%%async_run --name no {option}\nn").text
    assert shared_server.observer.job("no") is None


def test_the_server_is_killed_in_the_middle(
    open_kernel: Callable[[], RealKernel], observer: Observer, tmp_path: Path
) -> None:
    """Finished members are kept, running ones lost, the others run on the next server; each
    at most once, and the lost ones again when that is asked for."""
    kernel = open_kernel()
    kernel.do(SERVE)
    kernel.do("gate = 'shut'")
    kernel.do(
        '%%async_run --name mid --max-parallel 2 --sweep "n=range(5)"\n'
        "import os, time\n"
        "with open('log', 'a') as file: file.write(f'{n} ')\n"
        "while n in (1, 2) and not os.path.exists('gate'): time.sleep(0.02)\n"
        "m = n"
    )
    log = tmp_path / "log"
    wait_for(lambda: log.exists() and len(log.read_text().split()) == 3, 60, "three to run")
    wait_for(lambda: observer.members("mid")[0].state == "finished", 60, "the first one's end")
    pid = observer.server_pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(pid), 30, "the server's end")
    kernel.do(SERVE)
    observer.wait("mid")
    kernel.do("%async_gather mid")
    assert kernel.value("mid.state.tolist()") == [
        "finished", "lost", "lost", "finished", "finished",
    ]  # fmt: skip
    (tmp_path / "gate").touch()
    kernel.do("%async_rerun mid --failed\n%async_gather mid --overwrite")
    assert kernel.value("mid.m.tolist()") == [0, 1, 2, 3, 4]
    assert sorted(log.read_text().split()) == list("0112234")
