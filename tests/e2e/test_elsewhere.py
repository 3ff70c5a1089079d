"""A cluster that somebody else started, whose scheduler's disk nobody else sees."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pytest
from distributed import Client

from elsewhere import Elsewhere, another_python
from realkernel import RealKernel
from waiting import wait_for

OpenKernel = Callable[..., RealKernel]


@pytest.mark.timeout(180)
def test_frames_go_where_no_folder_is_shared(
    elsewhere: Elsewhere, open_kernel: OpenKernel, tmp_path: Path
) -> None:
    """Large inputs, changes in place, a job on a job, results: over the network only."""
    kernel = open_kernel()
    kernel.do(
        f"%load_ext dask_async_run\n%async_run_server {elsewhere.file}\n"
        "import numpy as np\n"
        "a = np.arange(3_000_000.0); same = a; empty = np.zeros(0); words = ['w'] * 200_000"
    )
    kernel.do(
        "%%async_run --name one\nb = a * 2\na[1] = -1\nwords.append('x' * 300_000)\nn = empty.size"
    )
    kernel.do("%%async_run --name two\nc = b[:1_000_000].copy(); total = float(b.sum() + a[1])")
    kernel.do("%async_gather")
    told = kernel.do(
        "print(same is a, a[:3], b[-1], c[-1], total, len(words), len(words[-1]), n)"
    ).stdout
    assert (
        told == f"True [ 0. -1.  2.] 5999998.0 1999998.0 {2 * sum(range(3_000_000)) - 1.0} "
        "200001 300000 0\n"
    )
    assert list((tmp_path / "hidden").iterdir()) == []


@pytest.mark.timeout(180)
def test_a_finished_result_outlives_kernel_and_worker(
    elsewhere: Elsewhere, open_kernel: OpenKernel
) -> None:
    """It lies beside the journal: another kernel gathers it after both were killed."""
    connect = f"%load_ext dask_async_run\n%async_run_server {elsewhere.file}"
    kernel = open_kernel()
    kernel.do(connect)
    kernel.do(
        "%%async_run --name kept\nimport numpy as np\nkept = np.ones(2_000_000); print('made')"
    )
    kernel.do("%async_wait kept")
    kernel.kill()
    worker = elsewhere.workers[0]
    worker.kill()
    worker.wait()
    kernel.restart()
    kernel.do(connect)
    assert "made" in kernel.do("%async_gather kept").stdout
    assert kernel.do("print(kept.sum())").stdout == "2000000.0\n"
    elsewhere.start_worker()
    kernel.do("%%async_run --name again\nkept[0] = 5; total = float(kept.sum())")
    kernel.do("%async_gather again")
    assert kernel.do("print(total, kept[0])").stdout == "2000004.0 5.0\n"


@pytest.mark.timeout(240)
def test_large_frames_pass_the_scheduler_by(elsewhere: Elsewhere, open_kernel: OpenKernel) -> None:
    """An input is brought to a worker, where its job runs, and fetched from there by another."""
    elsewhere.start_worker()
    kernel = open_kernel()
    kernel.do(f"%load_ext dask_async_run\n%async_run_server {elsewhere.file}")
    with Client(elsewhere.address, set_as_default=False) as plain, ExitStack() as stack:
        plain.wait_for_workers(2, 60)
        watched = stack.enter_context(Watched(elsewhere.scheduler.pid))
        kernel.do("import numpy as np\na = np.arange(25_000_000.0)")
        kernel.do("%%async_run --name one\nb = a * 2; a[0] = -1")
        kernel.do("%async_gather one")
        (first,) = {*copies(plain)[0]}
        (other,) = {*plain.scheduler_info()["workers"]} - {first}
        kernel.do(f"%%async_run --name two --workers {other}\ntotal = float((b - a).sum())")
        kernel.do("%async_gather two")
        assert kernel.do("print(total == sum(range(25_000_000)) + 1, a[0], b[3])").stdout == (
            "True -1.0 6.0\n"
        )
        assert [other in holders for holders in copies(plain)].count(True) >= 2
    # Three times 200 MB were brought on to its disk, in pieces.
    assert watched.most - watched.first < 150_000_000
    # All of it is there, whoever dies.
    for worker in elsewhere.workers:
        worker.kill()
        worker.wait()
    kernel.restart()
    kernel.do(f"%load_ext dask_async_run\n%async_run_server {elsewhere.file}")
    kernel.do("import numpy as np\na = np.arange(25_000_000.0)\n%async_gather one")
    assert kernel.do("print(a[0], b[3])").stdout == "-1.0 6.0\n"


def copies(client: Client) -> list[list[str]]:
    """Which workers have copies, of each large frame that any has."""

    def look(dask_scheduler: Any) -> list[list[str]]:
        holders = dask_scheduler.extensions["dask-async-run"].registry.holders
        return [list(workers) for workers in holders._workers.values()]

    found: list[list[str]] = client.run_on_scheduler(look)
    return found


class Watched:
    """How much memory of its own a process has, in bytes, while the block runs.

    Attributes
    ----------
    first, most : int
    """

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._end = threading.Event()
        self.first = self.most = self._now()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.01):
            self.most = max(self.most, self._now())

    def _now(self) -> int:
        lines = self._status.read_text().splitlines()
        (kilobytes,) = (line.split()[1] for line in lines if line.startswith("RssAnon"))
        return int(kilobytes) * 1024


LOCAL = {
    "helper.py": "from tools import deep\nRATE = 2\ndef double(x): return RATE * x\n"
    "class Model:\n    def __init__(self, n): self.n = n\n"
    "    def fit(self): return double(self.n)\n",
    "tools/__init__.py": "",
    "tools/deep.py": "from pathlib import Path\nfrom . import deeper\n"
    "def words(): return (Path(__file__).parent / 'words.txt').read_text() + deeper.END\n",
    "tools/deeper.py": "END = '!'\n",
    "tools/words.txt": "hello",
    "tools/.git/secret": "not for you",
    "other.py": "def f():\n    import another\n    return another.N\n",
    "another.py": "N = 7\n",
    "spaces/part.py": "K = 1\n",
    "spaces/large.csv": "1,2\n" * 100,
}
"""Modules beside a notebook: loaded there, imported by the cell first, by these in turn."""


@pytest.mark.timeout(240)
def test_local_code_goes_where_it_is_not_seen(
    elsewhere: Elsewhere, open_kernel: OpenKernel
) -> None:
    """Modules, packages with their data, in their present state, and again when they changed."""
    for name, text in LOCAL.items():
        path = elsewhere.notebook / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    kernel = open_kernel()
    kernel.do(f"%load_ext dask_async_run\n%async_run_server {elsewhere.file}")
    kernel.do(f"%cd -q {elsewhere.notebook}\nfrom helper import Model, double\nm = Model(3)")
    plan = kernel.do("%%async_run --plan\nimport other\nm.fit()").text
    assert all(name in plan for name in ("helper", "tools", "other", "another"))
    assert "spaces" not in plan
    kernel.do(
        "%%async_run --name one\nfitted = m.fit(); other_model = Model(fitted)\n"
        "import other, helper, pathlib\nseven = other.f()\nimport spaces.part\n"
        "words = helper.deep.words(); m.n = 4\n"
        "there = sorted(p.name for p in pathlib.Path(spaces.part.__file__).parent.glob('*.*'))\n"
        "top = pathlib.Path(helper.__file__).parent\n"
        "hidden = [str(p) for p in top.rglob('*') if 'secret' in p.name]"
    )
    kernel.do("%async_gather one")
    told = kernel.do(
        "print(fitted, type(other_model) is Model, other_model.n, seven, words, m.n, there, hidden)"
    ).stdout
    assert told == "6 True 6 7 hello! 4 ['part.py'] []\n"
    # The kernel has the modules too, its own ones.
    assert kernel.do(f"print(other.f(), str(top) == {str(elsewhere.notebook)!r})").stdout == (
        "7 False\n"
    )
    helper = elsewhere.notebook / "helper.py"
    helper.write_text(helper.read_text().replace("RATE * x", "RATE * x + 1"))
    kernel.do("%%async_run --name two --gather\nimport helper\nagain = helper.double(3)")
    assert kernel.do("print(again, double(3))").stdout == "7 6\n"
    kernel.do("import importlib; importlib.reload(helper)\nfrom helper import double")
    assert kernel.do("print(double(3))").stdout == "7\n"
    ran = kernel.run("%%async_run --name bad --gather\nimport nowhere_at_all")
    assert "No module named 'nowhere_at_all'" in ran.text + ran.traceback


@pytest.mark.timeout(180)
def test_a_cluster_needs_nothing_of_ours(
    bare_elsewhere: Elsewhere, open_kernel: OpenKernel, tmp_path: Path
) -> None:
    """What it lacks is sent, to later workers too; what its own work imports stays the same."""
    kernel = open_kernel()
    told = kernel.do(f"%load_ext dask_async_run\n%async_run_server {bare_elsewhere.file}")
    assert "had none: dask-async-run, ipython, platformdirs, xxhash." in told.stdout
    kernel.do("import numpy as np\na = np.arange(400_000.0)\ndef double(x): return 2 * x")
    kernel.do(
        "%%async_run --name one\nimport sys, IPython, dask_async_run\nb = double(a)\n"
        "print(sys.prefix, dask_async_run.__file__, IPython.get_ipython() is not None)\n"
        "import platformdirs, zict; print(platformdirs.__file__, zict.__file__)\nb.sum()"
    )
    ran = kernel.do("%async_gather one")
    prefix, where, has_shell, sent, own = ran.stdout.split()
    assert prefix == str(tmp_path / "bare")
    assert sent.startswith(str(tmp_path / "worker-0"))
    assert own.startswith(prefix)
    assert where.startswith(str(tmp_path / "worker-0"))
    assert has_shell == "True"
    assert "np.float64(159999600000.0)" in ran.text
    worker = bare_elsewhere.workers[0]
    worker.kill()
    worker.wait()
    bare_elsewhere.start_worker()
    kernel.do("%%async_run --gather\nb[0] = 7\nprint('on the later one')")
    assert kernel.do("b[:2]").result == "array([7., 2.])"
    with Client(bare_elsewhere.address, set_as_default=False) as plain:
        assert plain.submit(sum, [1, 2]).result() == 3
        assert list(plain.run(lambda: "IPython" in sys.modules).values()) == [False]


@pytest.mark.timeout(180)
def test_a_worker_of_another_python_gets_no_cells(
    elsewhere: Elsewhere, open_kernel: OpenKernel
) -> None:
    """It joins while a notebook is connected: no job fails there, and the next one is told."""
    python = another_python()
    kernel = open_kernel()
    connect = f"%load_ext dask_async_run\n%async_run_server {elsewhere.file}"
    kernel.do(connect)
    elsewhere.start_worker(python)
    with Client(elsewhere.address, set_as_default=False) as plain:
        plain.wait_for_workers(2, 60)
    for n in range(6):
        kernel.do(f"%async_run --name job-{n} import sys; v{n} = sys.version_info[:2]")
    kernel.do("%async_gather")
    here = kernel.do("import sys; sys.version_info[:2]").result
    assert kernel.do(f"{{{', '.join(f'v{n}' for n in range(6))}}}").result == f"{{{here}}}"
    told = open_kernel("other.ipynb").do(connect).stdout
    address = told.partition("Workers with another Python get no cells: ")[2].split()[2]
    kernel.do(f"%async_run --name there --workers {address.rstrip('.')} 1")
    said = "waits for a worker with Python"
    wait_for(lambda: said in kernel.do("%async_jobs there").text, 30)
    kernel.do("%async_cancel there")


@pytest.mark.timeout(240)
def test_two_users_share_a_cluster(elsewhere: Elsewhere, open_kernel: OpenKernel) -> None:
    """Their notebooks have the same path and their jobs the same name; each has their own."""
    connect = f"%load_ext dask_async_run\n%async_run_server {elsewhere.file}"
    alice, bob = (open_kernel(JUPYTERHUB_USER=user) for user in ("alice", "bob"))
    for kernel, value in ((alice, 1), (bob, 2)):
        kernel.do(connect)
        kernel.do(f"%%async_run --name train\nprint('hello from {value}')\nmine = {value}")
    alice.do("%%async_run --name only\nn = 1")
    for kernel, value in ((alice, 1), (bob, 2)):
        assert f"hello from {value}" in kernel.do("%async_gather").text
        assert kernel.do("print(mine)").stdout == f"{value}\n"
        listed = kernel.do("%async_jobs --all").text
        assert "train" in listed
        assert "story.ipynb" not in listed
        assert ("only" in listed) == (kernel is alice)
    listed = bob.do("%async_jobs --everyone").text
    for job in ("alice: story.ipynb/train", "alice: story.ipynb/only", "bob: story.ipynb/train"):
        assert job in listed
    told = bob.run("%async_forget only").text
    assert "NoSuchJobError" in told
    path = str(alice.cwd / alice.notebook).lstrip("/")
    assert "hello from 1" in bob.do(f"%async_attach ~alice/{path}/train").text
    bob.do(f"%async_gather ~alice/{path}/only")
    assert bob.do("print(mine, n)").stdout == "2 1\n"
