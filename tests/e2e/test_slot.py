"""On one worker with one thread, one's own or somebody else's: Dask inside a cell, and files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from elsewhere import environment_without
from slot import Slot
from waiting import wait_for

pytestmark = pytest.mark.timeout(300)

ALL_OF_DASK = """\
%%async_run --gather
import dask, operator
import dask.array as da
from distributed import (Client, Lock, Queue, Variable, as_completed, get_client, rejoin, secede,
                         wait, worker_client)
told = [dask.delayed(operator.add)(1, dask.delayed(operator.add)(2, 3)).compute()]
told.append(int(da.ones((6, 6), chunks=3).sum().compute()))
with worker_client() as inner:
    told.append(inner.submit(sum, [1, 2]).result())
secede(); rejoin()
with Client() as plain:
    told.append(sorted(f.result() for f in as_completed(plain.map(abs, [-1, -2]))))
    told.append(plain.scheduler.address == get_client().scheduler.address)
def half(n): return n / divisor
divisor = 2
told.append(get_client().gather(get_client().map(half, [2, 4])))
Variable("v").set(5); told.append(Variable("v").get())
Queue("q").put(6); told.append(Queue("q").get())
with Lock("l"): told.append("locked")
done, pending = wait(get_client().map(abs, [-3])); told.append(len(done))
del inner, plain, done
"""


def test_all_that_dask_has_for_a_cell(slot: Slot) -> None:
    """Collections, clients, futures, and what coordinates them; nothing waits for its own slot."""
    kernel = slot.kernel
    kernel.do(ALL_OF_DASK, timeout=120)
    assert kernel.value("told") == [6, 36, 3, [1, 2], True, [1.0, 2.0], 5, 6, "locked", 1]


def test_the_client_of_a_cell_ends_with_it(slot: Slot) -> None:
    """It is on the cluster while the cell runs, and gone when it is gathered."""
    kernel = slot.kernel
    kernel.do(
        "%%async_run --gather\nfrom distributed import get_client\nown = get_client().id\n"
        "def known(dask_scheduler): return own in dask_scheduler.clients\n"
        "was = get_client().run_on_scheduler(known)"
    )
    kernel.do("%%async_run --gather\nis_now = get_client().run_on_scheduler(known)")
    assert (kernel.value("was"), kernel.value("is_now")) == (True, False)


def test_what_is_on_the_cluster_arrives_and_stays(slot: Slot) -> None:
    """Futures, finished or not, and persisted collections: in the kernel and in later cells."""
    kernel = slot.kernel
    kernel.do("import dask.array as da\nlazy = da.ones((6, 6), chunks=3) + 1\nsame = lazy")
    kernel.do(
        "%%async_run --name made\nimport time\nfrom distributed import get_client\n"
        "def slow(n): time.sleep(n); return n\n"
        "client = get_client()\nfuture = client.submit(sum, [1, 2])\n"
        "late = client.submit(slow, 0.5)\nfutures = client.map(abs, [-1, -2])\n"
        "data = lazy.persist()"
    )
    kernel.do(
        "%%async_run --name after\nagain = future\ntotal = data.sum().compute() + future.result()"
    )
    kernel.do("%async_gather")
    kernel.do("%async_forget made after")
    told = kernel.value(
        "[int(total), again is future, future.result(), late.result(), client.gather(futures), "
        "float(data.sum().compute()), same is lazy, client.submit(sum, [4]).result()]"
    )
    assert told == [75, True, 3, 0.5, [1, 2], 72.0, True, 4]
    kernel.do(
        "%%async_run --gather\nback = [client.gather(futures), float(data.mean().compute())]\n"
        "kept = futures"
    )
    assert kernel.value("back") == [[1, 2], 2.0]
    assert kernel.value("kept is futures") is True


def test_what_a_job_made_on_the_cluster_outlives_its_kernel(slot: Slot) -> None:
    """Another kernel gathers it; once it is forgotten, nothing of it is left there."""
    with slot.other("first.ipynb") as first:
        first.do(slot.connect)
        first.do(
            "%%async_run --name far\nfrom distributed import get_client\n"
            "far = get_client().submit(sum, [20, 1], key='far')"
        )
        first.do("%async_wait far")
        first.kill()
    kernel = slot.kernel
    job = "far"
    kernel.do(f"%async_gather {job}")
    assert kernel.value("far.result()") == 21
    kernel.do(
        "from distributed import default_client\ndel far\n"
        "def far_is_there(dask_scheduler): return 'far' in dask_scheduler.tasks\n"
    )
    there = "default_client().run_on_scheduler(far_is_there)"
    assert kernel.value(there) is True
    kernel.do(f"%async_forget {job}")
    wait_for(lambda: kernel.value(there) is False, 20)


def test_what_is_of_another_cluster_is_named(slot: Slot) -> None:
    """Before anything is sent; so is what was cancelled, and what a cell's closed client had."""
    kernel = slot.kernel
    kernel.do(
        "import dask.array as da\n"
        "from distributed import Client, LocalCluster, default_client\n"
        "other = LocalCluster(n_workers=1, processes=False, protocol='tcp://', host='127.0.0.1',\n"
        "                     dashboard_address=None)\n"
        "its = Client(other, set_as_default=False)\n"
        "elsewhere = its.submit(sum, [1]); deep = {'x': its.persist(da.ones(3))}"
    )
    for name, kind in (("elsewhere", "Future"), ("its", "Client"), ("deep", "Array")):
        told = kernel.run(f"%async_run print({name})").text
        assert f"'{name}' cannot be sent: a d" in told
        assert kind in told
        assert "it is of the Dask cluster at tcp://127.0.0.1" in told
        assert "connect to its cluster with %async_run_server ADDRESS" in told
    kernel.do("its.close(); other.close()")
    assert "its client is closed" in kernel.run("%async_run print(elsewhere)").text
    told = kernel.do(
        "%%async_run --gather\nfrom distributed import Client\n"
        "with Client() as brief: gone = brief.submit(sum, [1])\nfine = 1"
    ).text
    assert "gone" in told
    assert "its client is closed" in told
    assert kernel.value("fine") == 1
    kernel.do("client = default_client()\ncancelled = client.submit(sum, [3]); cancelled.cancel()")
    assert "it was cancelled" in kernel.run("%async_run print(cancelled)").text


PLAIN = """\
import sys
from distributed import Client
assert "dask_async_run" not in sys.modules
with Client(scheduler_file=sys.argv[1]) as client:
    name = next(name for name in client.list_datasets() if name.endswith("shared.ipynb/figures"))
    end = client.get_dataset(name).result()
    print(end["state"], end["error"], end["bound"])
    print(client.gather(client.get_dataset("squares")))
"""


@pytest.mark.parametrize("slot", ["foreign"], indirect=True)
def test_plain_dask_code_reads_how_a_job_ended_and_what_it_published(
    slot: Slot, tmp_path: Path
) -> None:
    """A script in a Python that has nothing of this project, with Dask's own calls."""
    kernel = slot.kernel
    kernel.do(
        "%%async_run --name figures\nfrom distributed import get_client\n"
        "client = get_client()\n"
        "client.publish_dataset(squares=client.map(pow, [1, 2, 3], [2, 2, 2]))\n"
        "table = 5\n1 / 0"
    )
    kernel.do("job = _")
    told = kernel.value("[job.future.result()[key] for key in ('job', 'state', 'bound')]")
    assert told == [kernel.value("job.id"), "failed", ["get_client", "client", "table"]]
    python = environment_without(tmp_path / "bare", "dask-async-run")
    script = [python, "-P", "-c", PLAIN, slot.connect.split()[-1]]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "failed ZeroDivisionError: division by zero ['get_client', 'client', 'table']",
        "[1, 4, 9]",
    ], done.stderr
    kernel.do("%async_run --name figures 1")
    kernel.do("%async_wait figures")
    assert "a later job has its name" in kernel.run("job.future").text


def test_files_go_along_and_come_back(slot: Slot) -> None:
    """Under the names that they have in the working folder; outside of it nothing is touched."""
    kernel, here = slot.kernel, slot.kernel.cwd
    (here / "data" / "deep").mkdir(parents=True)
    for name in ("one.csv", "data/two.csv", "data/deep/three.csv", "data/no.txt"):
        (here / name).write_text(name)
    kernel.do(
        "%%async_run --name files --upload one.csv --upload 'data/**/*.csv' "
        "--download 'out/*.txt'\n"
        "import pathlib\n"
        "names = ('one.csv', 'data/two.csv', 'data/deep/three.csv')\n"
        "read = [pathlib.Path(name).read_text() for name in names]\n"
        "pathlib.Path('out').mkdir()\n"
        "for name in ('a.txt', 'b.txt', 'empty.txt', 'c.png'):\n"
        "    pathlib.Path('out', name).write_text('' if 'empty' in name else name)"
    )
    kernel.do("%async_gather files")
    assert kernel.value("read") == ["one.csv", "data/two.csv", "data/deep/three.csv"]
    assert [(here / "out" / name).read_text() for name in ("a.txt", "empty.txt")] == ["a.txt", ""]
    assert kernel.value("str(pathlib.Path.cwd())") == str(here)
    for option, pattern in (("upload", "../*"), ("download", "/etc/*"), ("download", "a/../../b")):
        told = kernel.run(f"%async_run --{option} '{pattern}' 1").text
        assert f"--{option}: '{pattern}' lies outside the working folder {here}" in told
    assert "there is no file 'none.csv'" in kernel.run("%async_run --upload none.csv 1").text


@pytest.mark.parametrize("slot", ["foreign"], indirect=True)
def test_a_file_that_was_changed_here_is_kept(slot: Slot) -> None:
    """It is named, and `--overwrite` takes the job's; others come back, whatever they were."""
    kernel, here = slot.kernel, slot.kernel.cwd
    for name in ("old.log", "mine.log", "same.log"):
        (here / name).write_text("before")
    kernel.do(
        "%%async_run --name logs --upload same.log --download '*.log'\nimport pathlib\n"
        "there = sorted(path.name for path in pathlib.Path().iterdir())\n"
        "for name in ('old.log', 'mine.log', 'new.log'): pathlib.Path(name).write_text('job')\n"
        "pathlib.Path('link.log').symlink_to('/etc/hostname')"
    )
    (here / "mine.log").write_text("changed")
    told = kernel.do("%async_gather logs").stderr
    assert "link.log does not come back: it leads out of the working folder." in told
    assert "Changed here since logs was submitted, and kept: mine.log." in told

    def texts() -> list[str]:
        return [(here / f"{name}.log").read_text() for name in ("old", "mine", "new", "same")]

    assert texts() == ["job", "changed", "job", "before"]
    assert kernel.value("there") == ["same.log"]
    kernel.do("%async_gather logs --overwrite")
    assert texts() == ["job", "job", "job", "before"]
    assert not (here / "link.log").exists()
