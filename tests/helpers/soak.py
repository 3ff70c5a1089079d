"""A soak: random jobs, faults and gathers on a real server, and whether all came out right.

What is done is drawn from a seed, and does not depend on how jobs stand; what comes of it does,
so that two runs of a seed do the same things at slightly different moments. What may come of it
is said by `soak_model`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path

import psutil

from dask_async_run import errors, recycling
from dask_async_run.frames import FrameStore
from dask_async_run.job import JobView, State
from dask_async_run.memory import HOME, NOTE, VARIABLE, Memory
from dask_async_run.messages import unpack
from dask_async_run.scheduler.journal import Journal
from dask_async_run.worker.template import SPARES
from leftovers import MARK, TEMPLATE, marked_processes
from observer import Observer
from realkernel import Ran, RealKernel
from soak_model import Fault, Planned, problems_of, text_of
from waiting import wait_for

LOAD = "%load_ext dask_async_run\n"
SERVE = "%async_run_server --workers 2 --no-dashboard"

BACKLOG = 25
"""Unfinished jobs above which the next action waits for one."""

HANDLE_ROUNDS = 15
"""How often handles are counted, with ten jobs in between, until a round has cost none."""

LARGE = 9_000_000
"""Numbers of an array that the kernel does not copy."""

LONG_AGO = 7200.0
"""Seconds by which frames are made older, so that nobody can be about to name them."""

KINDS = {
    "quick": 8,
    "lines": 4,
    "array": 5,
    "large": 2,
    "ticking": 8,
    "follows": 8,
    "raises": 2,
    "late": 1,
    "stubborn": 1,
    "children": 2,
}

OURS = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
MEANT = {"ValueError", "KeyboardInterrupt"}


class Soak:
    """The kernels of two notebooks, the server, and what was done with them.

    Parameters
    ----------
    folder : Path
        The notebooks' folder.
    open_kernel : callable
        Makes a kernel of a notebook.
    observer : Observer
    seed : int

    Attributes
    ----------
    trail : list of str
        What was done, in order.
    problems : list of str
        What is wrong.
    """

    def __init__(
        self, folder: Path, open_kernel: Callable[..., RealKernel], observer: Observer, seed: int
    ) -> None:
        self.folder = folder
        self.observer = observer
        self.random = random.Random(seed)
        self.kernels = {name: open_kernel(name) for name in ("one.ipynb", "two.ipynb")}
        self.jobs: list[Planned] = []
        self.faults: list[Fault] = []
        self.problems: list[str] = []
        self.trail: list[str] = []
        self._number = 0
        self._shared_memory: set[str] = set()
        (folder / "ran").mkdir()
        for kernel in self.kernels.values():
            self._serve(kernel)

    # --- doing ---

    def run(self, seconds: float) -> None:
        """Do one thing after the other, for so long."""
        actions: dict[Callable[[], None], float] = {
            self.submit: 45,
            self.gather: 16,
            self.gather_and_interrupt: 2,
            self.gather_while_another_forgets: 2,
            self.look: 4,
            self.cancel: 7,
            self.forget: 6,
            self.rerun: 3,
            self.kill_cell: 5,
            self.kill_worker: 1.5,
            self.kill_template: 1,
            self.kill_kernel: 1.2,
            self.kill_kernel_while_it_submits: 1,
            self.kill_kernel_while_it_gathers: 1,
            self.pause: 1.5,
            self.kill_server: 0.8,
            self.stop_server: 0.5,
        }
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and len(self.problems) < 20:
            (action,) = self.random.choices([*actions], [*actions.values()])
            self.trail.append(action.__name__)
            action()
            self._remember_shared_memory()
            views = self._views()
            if sum(not State(v.state).terminal for v in views.values()) > BACKLOG:
                oldest = next(v for v in views.values() if not State(v.state).terminal)
                self._await_end(oldest.id)

    def submit(self) -> None:
        kernel = self._kernel()
        job, code = self._plan(kernel)
        kernel.do(code)
        kernel.do("x = 'changed right after'\nif 'large' in globals(): large[:] = -1")
        self._submitted(job, kernel.value("_.id"))

    def gather(self) -> None:
        """Gather a job, whatever it is at, in the notebook's kernel or in the other one."""
        if (job := self._any()) is not None:
            kernel = self._kernel(job.notebook)
            self._check_gathered(job, kernel, kernel.run(f"%async_gather {job.id}", 120))

    def gather_and_interrupt(self) -> None:
        if (job := self._any()) is None:
            return
        kernel = self._kernel(job.notebook)
        gathering = kernel.submit(f"%async_gather {job.id}")
        time.sleep(self.random.uniform(0, 0.3))  # not a wait: the moment of the fault
        kernel.interrupt()
        self._check_error(job, kernel.finish(gathering, 120))
        self._settle_interrupt(kernel)

    def gather_while_another_forgets(self) -> None:
        if (job := self._any()) is None:
            return
        kernel, other = self.kernels[job.notebook], self._other(job.notebook)
        gathering = kernel.submit(f"%async_gather {job.id}")
        forgetting = other.submit(f"%async_forget {job.id}")
        self._check_forgotten(job, other.finish(forgetting, 60))
        told = kernel.finish(gathering, 120)
        if job.forgotten:
            self._check_error(job, told)
        else:
            self._check_gathered(job, kernel, told)

    def look(self) -> None:
        """List jobs, show output so far, wait a little: nothing of it changes anything."""
        kernel = self._kernel()
        lines = ["%async_jobs", "%async_jobs --all", "%async_wait --timeout 0.2"]
        if (job := self._any()) is not None:
            lines.append(f"%async_attach {job.id} --no-follow")
        line = self.random.choice(lines)
        self._check_error(job, kernel.run(line))

    def cancel(self) -> None:
        if (job := self._any()) is not None:
            job.cancelled = True
            kernel = self._kernel(job.notebook)
            self._check_error(job, kernel.run(f"%async_cancel {job.id}"))

    def forget(self) -> None:
        if (job := self._any()) is not None:
            kernel = self._kernel(job.notebook)
            self._check_forgotten(job, kernel.run(f"%async_forget {job.id}"))

    def rerun(self) -> None:
        job = self._any()
        if job is None or (job.parent is not None and job.parent.forgotten):
            return
        kernel = self._kernel(job.notebook)
        told = kernel.run(f"%async_rerun {job.id}")
        self._check_error(job, told)
        if told.error is not None or told.status != "ok":
            return
        again = Planned(
            job.number, job.notebook, job.name, job.kind, job.text, job.value, job.ends,
            job.retries, job.parent,
        )  # fmt: skip
        again.again = job.again
        job.again.append(again)
        self._submitted(again, kernel.value("_.id"))

    # --- faults ---

    def kill_cell(self) -> None:
        running = [v for v in self._views().values() if v.state == State.RUNNING and v.pid]
        if not running:
            return
        view = self.random.choice(running)
        assert view.pid is not None
        self._kill("cell", [view.pid], view.id)

    def kill_worker(self) -> None:
        def worker(template: psutil.Process) -> psutil.Process | None:
            # That of one which has just died is the server's now.
            parent = template.parent()
            return None if parent is None or parent.pid == server else parent

        server = self.observer.server_pid()
        self._kill_one("worker", worker)

    def kill_template(self) -> None:
        self._kill_one("template", lambda template: template)

    def kill_kernel(self) -> None:
        self._restart(self._kernel())

    def kill_kernel_while_it_submits(self) -> None:
        kernel = self._kernel()
        job, code = self._plan(kernel)
        known = self._views().keys()
        kernel.submit(code)
        time.sleep(self.random.uniform(0, 0.1))  # not a wait: the moment of the fault
        self._restart(kernel)
        new = [v for v in self._views().values() if v.id not in known and v.name == job.name]
        if new:
            self._submitted(job, new[-1].id)

    def kill_kernel_while_it_gathers(self) -> None:
        if (job := self._any()) is not None:
            kernel = self._kernel(job.notebook)
            kernel.submit(f"%async_gather {job.id}")
            time.sleep(self.random.uniform(0, 0.3))  # not a wait: the moment of the fault
            self._restart(kernel)

    def pause(self) -> None:
        """Some process of the server stands still for a while, as on a machine that swaps."""
        pid = self.observer.server_pid()
        if pid is None:
            return
        server = psutil.Process(pid)
        process = self.random.choice([server, *server.children(recursive=True)])
        with suppress(psutil.NoSuchProcess):
            process.suspend()
            try:
                time.sleep(self.random.uniform(0.1, 2))  # not a wait: the length of the fault
            finally:
                process.resume()

    def kill_server(self) -> None:
        """The server alone, or all of its processes at once, as a power cut does."""
        pid = self.observer.server_pid()
        if pid is None:
            return
        server = psutil.Process(pid)
        processes = [server]
        everything = self.random.random() < 0.5
        if everything:
            processes += server.children(recursive=True)
            self._remember_shared_memory()
        theirs = {name for process in processes for name in _shared(process)}
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        self._kill("server", [process.pid for process in processes])
        psutil.wait_procs(processes, 30)
        for name in theirs if everything else ():
            Path(name).unlink(missing_ok=True)  # a power cut takes memory along
        for kernel in self.kernels.values():
            kernel.do(SERVE, 120)

    def stop_server(self) -> None:
        begun = time.time()
        self._kernel().do("%async_stop_server --force", 120)
        self.faults.append(Fault("stop", begun, time.time()))
        for kernel in self.kernels.values():
            kernel.do(SERVE, 120)

    # --- judging ---

    def settle(self) -> None:
        """Wait until every job has ended, with a server that runs."""
        for kernel in self.kernels.values():
            kernel.do(SERVE, 120)
        deadline = time.monotonic() + 180
        for view in self._views().values():
            self._await_end(view.id, max(1.0, deadline - time.monotonic()))

    def judge(self) -> None:
        """Add to `problems` what is wrong with any job, its output or its result."""
        views = self._views()
        path = self.observer.state / "default" / "journal.sqlite"
        known = {job.id for job in self.jobs}
        strange = [view for view in views.values() if view.id not in known]
        self.problems += [f"nobody submitted {view.name} ({view.id})" for view in strange]
        with Journal.open_readonly(path) as journal:
            for job in self.jobs:
                view = views.get(job.id)
                if job.forgotten:
                    if view is not None:
                        self.problems.append(f"{job.label} is there although it was forgotten")
                    continue
                if view is None:
                    self.problems.append(f"{job.label} is gone")
                    continue
                parents = {p: views[p] for p in view.after if p in views}
                printed = text_of(unpack(o) for _, _, o in journal.outputs(job.id, limit=1 << 40))
                ran = self.folder / "ran" / str(job.number)
                runs = len(ran.read_text().splitlines()) if ran.exists() else 0
                ends = [e["state"] for e in journal.events(job.id) if State(e["state"]).terminal]
                found = problems_of(job, view, parents, printed, runs, ends, self.faults)
                self.problems += [f"{job.label} {problem}" for problem in found]
        for kernel in self.kernels.values():
            self._restart(kernel)
        for job in self.jobs:
            view = views.get(job.id)
            if view is not None and view.state == State.FINISHED:
                kernel = self.kernels[job.notebook]
                self._check_gathered(job, kernel, kernel.run(f"%async_gather {job.id}", 120))

    def judge_leftovers(self) -> None:
        """Add to `problems` what is left of jobs that have ended, and then of forgotten ones."""
        self._judge_processes()
        kernel = self.kernels["one.ipynb"]
        store = FrameStore(self.observer.state / "default" / "frames")
        self._restart_server_with_old_frames(kernel, store)
        self._judge_frames(store)
        # The last first: what others build on that were not gathered is kept for them.
        ids = [view.id for view in self._views().values()][::-1]
        for start in range(0, len(ids), 50):
            kernel.do("%async_forget " + " ".join(ids[start : start + 50]))
        self._restart_server_with_old_frames(kernel, store)
        self._judge_frames(store)
        path = self.observer.state / "default" / "journal.sqlite"
        with closing(sqlite3.connect(path)) as journal:
            for (table,) in journal.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
                (rows,) = journal.execute(f"SELECT count(*) FROM {table}").fetchone()
                if rows:
                    self.problems.append(f"the journal's table {table} has {rows} rows left")

    def judge_handles(self) -> None:
        """Add to `problems` file handles and threads that jobs cost any process for good.

        What costs something for every job is never seen to stand still, however often one looks.
        What is opened when it is first needed, and kept, is: a connection of Dask's pool, or the
        journal of IPython's history while a line is written. Such a thing may come in any of the
        rounds, of any process, so one round in which no process has grown is waited for.
        """
        counted: list[dict[str, int]] = []
        grown: dict[str, list[int]] = {}
        for _ in range(HANDLE_ROUNDS):
            for kernel in self.kernels.values():
                for number in range(5):
                    kernel.do(f"%async_run --name burst-{number} burst = 1")
                kernel.do("%async_gather burst-*")
                kernel.do("%async_forget burst-*")
            counted.append(self._handles())
            if len(counted) > 1:
                series = {name: [c.get(name, 0) for c in counted] for name in counted[-1]}
                grown = {k: v for k, v in series.items() if v[-1] > max(v[:-1])}
                if not grown:
                    return
        self.problems.append(f"handles and threads grow with the jobs: {grown}")

    def _handles(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for process in marked_processes(os.environ[MARK]):
            with suppress(psutil.Error):
                name = " ".join(process.cmdline())[-60:]
                if TEMPLATE in " ".join(process.cmdline()):
                    name = "template"
                key = f"{process.pid} {name}"
                if name == "template" and self._is_fork(process):
                    continue
                found[f"files of {key}"] = process.num_fds()
                found[f"threads of {key}"] = process.num_threads()
        return found

    @staticmethod
    def _is_fork(process: psutil.Process) -> bool:
        parent = process.parent()
        return parent is not None and parent.cmdline() == process.cmdline()

    def _judge_processes(self) -> None:
        """Nothing runs but kernels, the server, its workers, their templates and spares."""

        def left() -> list[str]:
            found = []
            kernels = {kernel.pid for kernel in self.kernels.values()}
            server = self.observer.server_pid()
            for process in marked_processes(os.environ[MARK]):
                with suppress(psutil.Error):
                    line = " ".join(process.cmdline())
                    parent = process.parent()
                    expected = (
                        process.pid in kernels
                        or process.pid == server
                        or "resource_tracker" in line
                        or (parent is not None and parent.pid == server and "spawn_main" in line)
                        or (TEMPLATE in line and not self._is_busy(process))
                    )
                    if not expected:
                        found.append(f"process {process.pid} {line[:150]}")
            here = {name for name in self._shared_memory if Path(name).exists()}
            processes = marked_processes(os.environ[MARK])
            used = {name for process in processes for name in _shared(process)}
            return found + [f"shared memory {name} is left over" for name in sorted(here - used)]

        self._judge_soon(left)

    def _judge_soon(self, left: Callable[[], list[str]]) -> None:
        """Add to `problems` what is left of what goes away on its own."""
        try:
            wait_for(lambda: not left(), 60)
        except TimeoutError:
            self.problems += left()

    @staticmethod
    def _is_busy(template: psutil.Process) -> bool:
        """Whether it is a fork of a template that has a child, or too many of them."""
        children = template.children()
        return len(children) > SPARES or (Soak._is_fork(template) and bool(children))

    def _judge_frames(self, store: FrameStore) -> None:
        path = self.observer.state / "default" / "journal.sqlite"
        with Journal.open_readonly(path) as journal:
            nobodys = [digest for digest in store if not journal.is_named(digest)]
            missing = [
                f"{view.name} lacks frame {digest}"
                for view in journal.views()
                for digest in journal.frames(view.id)
                if not store.has(digest)
            ]
        self.problems += [f"frame {digest} is nobody's" for digest in nobodys[:10]] + missing[:10]
        for digest in store:
            store.verify(digest, int(digest.partition("-")[2]))

        def others() -> list[str]:
            """Beside frames: what is in their trash is removed when all else is saved.

            What is kept for the next ones is given back by itself.
            """
            memory = Memory.of(store.folder)
            folders = [store.folder, *([memory.folder] if memory is not None else [])]
            files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
            files = [path for path in files if path.parent.name != recycling.FOLDER]
            known = {*store, NOTE, HOME}
            return [f"file {path} is left over" for path in files if path.name not in known]

        self._judge_soon(others)

    def _restart_server_with_old_frames(self, kernel: RealKernel, store: FrameStore) -> None:
        kernel.do("%async_stop_server --force", 120)
        long_ago = time.time() - LONG_AGO
        memory = Memory.of(store.folder)
        for folder in [store.folder, *([memory.folder] if memory is not None else [])]:
            for path in folder.iterdir():
                if path.is_file():
                    os.utime(path, (long_ago, long_ago))
        kernel.do(SERVE, 120)
        self.kernels["two.ipynb"].do(SERVE, 120)

    # --- helpers ---

    def _plan(self, kernel: RealKernel) -> tuple[Planned, str]:
        """Draw a job, and the code that submits it."""
        self._number += 1
        number = self._number
        kind = self.random.choices([*KINDS], [*KINDS.values()])[0]
        name = f"j{number}" if self.random.random() < 0.8 else f"again-{self.random.randrange(3)}"
        x = 1000 * number
        notebook = kernel.notebook
        begun = f"begun {number}\n"
        job = Planned(number, notebook, name, kind, begun, x)
        options, body, value = [f"--name {name}"], [f"print('begun {number}')"], "x"
        ticks = self.random.randrange(1, 30)
        earlier = [job for job in self.jobs if job.notebook == notebook][-8:]
        parent = self.random.choice(earlier) if earlier else None
        match kind:
            case "lines":
                body.append("lines = [print('line', n) for n in range(400)]")
                job.text += "".join(f"line {n}\n" for n in range(400))
            case "array":
                body.append("import numpy as np")
                value = "int(np.full(200_000, x).sum()) // 200_000; big = np.full(200_000, x)"
            case "large":  # left to a snapshot of the kernel
                kernel.do(f"import numpy as np\nlarge = np.full({LARGE}, {x}.0)")
                body.append("import numpy as np")
                value = f"int((large == {x}).sum()) // {LARGE} * {x}"
            case "ticking":
                tick = "(print('tick', n), time.sleep(0.05))"
                body.append(f"import time\nticks = [{tick} for n in range({ticks})]")
                job.text += "".join(f"tick {n}\n" for n in range(ticks))
                if self.random.random() < 0.3:
                    job.retries = 2
                    options.append("--retries 2")
            case "follows" if parent is not None:
                job.parent = parent
                body.append(f"seen = v{parent.number} if 'v{parent.number}' in globals() else None")
                value = "x"
            case "raises":
                body.append(f"raise ValueError('meant {number}')")
                job.ends = State.FAILED
            case "late":
                options.append("--timeout 0.5")
                body.append("import time; time.sleep(60)")
                job.ends = State.TIMED_OUT
            case "stubborn":
                body.append(
                    "import time\nend = time.time() + 2\n"
                    "while time.time() < end:\n"
                    "    try:\n        time.sleep(0.1)\n    except KeyboardInterrupt:\n        pass"
                )
            case "children":
                body.append(
                    "import subprocess\n"
                    "child = subprocess.Popen(['sleep', '1000'], start_new_session=True).pid"
                )
            case _:
                pass
        kernel.do(f"x = {x}")
        code = "\n".join([
            f"%%async_run {' '.join(options)}",
            f"open('ran/{number}', 'a').write('ran\\n')",
            *body,
            f"v{number} = {value}",
        ])  # fmt: skip
        return job, code

    def _submitted(self, job: Planned, id_: str) -> None:
        job.id = id_
        self.jobs.append(job)

    def _views(self) -> dict[str, JobView]:
        return {view.id: view for view in self.observer.jobs()}

    def _any(self) -> Planned | None:
        """One of the jobs, rather a late one; sometimes one that is forgotten."""
        if not self.jobs:
            return None
        back = int(self.random.expovariate(1 / 8)) + 1
        return self.jobs[-min(back, len(self.jobs))]

    def _kernel(self, notebook: str = "") -> RealKernel:
        """That of a notebook, or rarely the other one; without: any."""
        if notebook and self.random.random() < 0.85:
            return self.kernels[notebook]
        return self.random.choice([*self.kernels.values()])

    def _other(self, notebook: str) -> RealKernel:
        return next(k for name, k in self.kernels.items() if name != notebook)

    def _await_end(self, job: str, timeout: float = 120) -> None:
        def ended() -> bool:
            view = self._views().get(job)
            return view is None or State(view.state).terminal

        try:
            wait_for(ended, timeout)
        except TimeoutError:
            self.problems.append(f"{job} does not end: {self._views().get(job)}")

    def _serve(self, kernel: RealKernel) -> None:
        kernel.do(LOAD + SERVE, 120)

    def _restart(self, kernel: RealKernel) -> None:
        kernel.kill()
        kernel.restart()
        self._serve(kernel)

    def _settle_interrupt(self, kernel: RealKernel) -> None:
        """An interrupt that came too late for the gather hits the next cell."""
        for _ in range(10):
            if kernel.run("'idle'").status == "ok":
                return

    def _kill_one(
        self, kind: str, of_template: Callable[[psutil.Process], psutil.Process | None]
    ) -> None:
        templates = []
        for process in marked_processes(os.environ[MARK]):
            with suppress(psutil.Error):
                if TEMPLATE in " ".join(process.cmdline()) and not self._is_fork(process):
                    templates.append(process)
        if templates:
            chosen = of_template(self.random.choice(templates))
            if chosen is not None:
                self._kill(kind, [chosen.pid])

    def _kill(self, kind: str, pids: Iterable[int], job: str = "") -> None:
        begun = time.time()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.faults.append(Fault(kind, begun, time.time(), job))

    def _check_forgotten(self, job: Planned, told: Ran) -> None:
        self._check_error(job, told)
        if told.error is None:
            if told.status == "ok" and not told.stdout.startswith("Forgotten"):
                self.problems.append(f"forgetting {job.label} said {told.text!r}")
            job.forgotten = job.forgotten or told.status == "ok"

    def _check_gathered(self, job: Planned, kernel: RealKernel, told: Ran) -> None:
        self._check_error(job, told)
        view = self._views().get(job.id)
        if view is None or view.state != State.FINISHED:
            if told.error is None and told.status == "ok":
                self.problems.append(f"gathering {job.label} raised nothing: {view}")
            return
        if told.error is not None:
            self.problems.append(f"gathering {job.label}, finished, raised {told.traceback}")
            return
        if not (told.stdout == job.text or (view.after and job.text in told.stdout) or job.retries):
            self.problems.append(f"gathering {job.label} showed {told.stdout[-300:]!r}")
        value = kernel.value(f"globals().get('v{job.number}')")
        if value != job.value:
            self.problems.append(f"{job.label}: v{job.number} is {value!r}, not {job.value}")

    def _check_error(self, job: Planned | None, told: Ran) -> None:
        """Any error is one of ours or of the cell's, and shows no line of this package."""
        label = job.label if job is not None else "no job"
        error = told.error
        if error is not None:
            if error["ename"] not in OURS | MEANT:
                self.problems.append(f"{label}: unexpected {told.traceback[-1500:]}")
            elif error["ename"] != "KeyboardInterrupt" and "dask_async_run/" in told.traceback:
                self.problems.append(f"{label}: a traceback of ours: {told.traceback[-600:]}")

    def _remember_shared_memory(self) -> None:
        for process in marked_processes(os.environ[MARK]):
            self._shared_memory |= _shared(process)

    def log(self) -> list[str]:
        """Answer the end of what the servers said, each with its time."""
        log = self.observer.state / "default" / "server.log"
        return [f"it is {time.time():.3f}", *log.read_text(errors="replace").splitlines()[-80:]]

    def summary(self) -> str:
        states: dict[str, int] = {}
        for view in self._views().values():
            states[view.state] = states.get(view.state, 0) + 1
        forgotten = sum(job.forgotten for job in self.jobs)
        did = dict(Counter(self.trail).most_common())
        return json.dumps({"did": did, "ended": states, "forgotten": forgotten})


def _shared(process: psutil.Process) -> set[str]:
    """Names of the shared memory files that a process has mapped, other than frames.

    Those are judged as frames; and a cut that takes them takes what is not `saved`, as it may.
    """
    frames = os.environ[VARIABLE] or "none"
    try:
        lines = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
    except OSError:
        return set()
    return {
        line[line.index("/dev/shm/") :]
        for line in lines
        if "/dev/shm/" in line and frames not in line and not line.endswith("(deleted)")
    }
