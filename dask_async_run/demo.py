"""The demo: a grid search that outlives its kernel, checked against a plain run.

``dask-async-run demo`` runs it. Everything is real (kernels started as Jupyter
starts them, a server, SIGKILL) and happens in a temporary folder: neither the
user's server nor their notebooks' jobs are touched.

The story is told by a process of its own, ``python -m dask_async_run.demo FOLDER``.
The command's process only waits for it, and takes away what it leaves, however it
ends. A signal is noted there and raises nothing: a KeyboardInterrupt at just any
line of the story, say within jupyter_client's event loop, leaves kernels that can
no longer be shut down from there.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

NEEDED = ("ipykernel", "jupyter_client", "matplotlib", "sklearn")

SETUP = """\
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

X, y = load_digits(return_X_y=True)
grid = {"C": [0.3, 1, 3, 10], "gamma": [0.0003, 0.0005, 0.001, 0.002]}
"""

CELL = """\
search = GridSearchCV(SVC(), grid, cv=5, verbose=1).fit(X, y)
print(f"best score: {search.best_score_:.4f}")
scores = search.cv_results_["mean_test_score"].reshape(4, 4)
image = plt.matshow(scores)
search.best_params_
"""

RUNNING = """\
import time
while job.state == "pending":
    time.sleep(0.02)
str(job.state)
"""

LOG = "kernels.log"

#: Environment variables, and what each names in the demo's folder.
FOLDERS = {
    "DASK_ASYNC_RUN_STATE": "state",
    "DASK_ASYNC_RUN_RUNTIME": "runtime",
    "IPYTHONDIR": "ipython",
    "JUPYTER_RUNTIME_DIR": "jupyter",
    "JUPYTER_CONFIG_DIR": "jupyter-config",
    "TMPDIR": "tmp",
}


class DemoError(Exception):
    """A step of the demo did not do what it should."""


@dataclass
class Ran:
    """What an execution put out, in nbformat's terms, and how long it took."""

    outputs: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def stdout(self) -> str:
        return "".join(o["text"] for o in self.outputs if o.get("name") == "stdout")

    @property
    def result(self) -> str:
        """``text/plain`` of the last expression, or empty."""
        results = [o for o in self.outputs if o["output_type"] == "execute_result"]
        return str(results[-1]["data"].get("text/plain", "")) if results else ""

    @property
    def pictures(self) -> list[str]:
        """The figures: PNG files, in base64."""
        return [o["data"]["image/png"] for o in self.outputs if "image/png" in o.get("data", {})]


class Kernel:
    """A real ipykernel, started as Jupyter does for a notebook of this name.

    Parameters
    ----------
    folder : Path
        The kernel's working folder.
    notebook : str
        Put into ``JPY_SESSION_NAME``.
    """

    def __init__(self, folder: Path, notebook: str = "demo.ipynb") -> None:
        from jupyter_client.kernelspec import KernelSpecManager
        from jupyter_client.manager import KernelManager

        # Without kernel folders only the native kernel is left: this Python, and not
        # whatever the user may have registered under the name "python3".
        specs = KernelSpecManager(kernel_dirs=[])
        self._manager: Any = KernelManager(kernel_name="python3", kernel_spec_manager=specs)
        env = {**os.environ, "JPY_SESSION_NAME": str(folder / notebook)}
        with (folder / LOG).open("ab") as log:  # what ipykernel itself has to say
            self._manager.start_kernel(env=env, cwd=str(folder), stderr=log)
        self._client: Any = self._manager.blocking_client()
        try:
            self._client.start_channels()
            self._client.wait_for_ready(timeout=60)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return int(self._manager.provisioner.pid)

    def run(self, code: str, timeout: float = 120) -> Ran:
        """Execute `code`; `DemoError` with its traceback if it raises."""
        ran = Ran()

        def keep(message: dict[str, Any]) -> None:
            kind = message["msg_type"]
            if kind == "clear_output":  # the line that says what a gather waits for
                ran.outputs.clear()
            elif kind in ("stream", "display_data", "execute_result", "error"):
                ran.outputs.append({"output_type": kind, **message["content"]})

        begun = time.monotonic()
        try:
            self._client.execute_interactive(
                code, allow_stdin=False, timeout=timeout, output_hook=keep
            )
        except TimeoutError:
            raise DemoError(f"not done within {timeout:.0f} s:\n{code}") from None
        ran.seconds = time.monotonic() - begun
        for output in ran.outputs:
            if output["output_type"] == "error":
                raise DemoError("\n".join([f"this raised:\n{code}", *output["traceback"]]))
        return ran

    def kill(self) -> None:
        """SIGKILL to the kernel and its process group, as Jupyter's own "kill" does."""
        os.killpg(os.getpgid(self.pid), signal.SIGKILL)
        deadline = time.monotonic() + 10
        while self._manager.is_alive():
            if time.monotonic() > deadline:
                raise DemoError(f"kernel {self.pid} survived SIGKILL")
            time.sleep(0.01)
        self.close()

    def close(self) -> None:
        """End the kernel if it lives; harmless when repeated."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()


class Steps:
    """Prints what was done, with the time that it took, as it is done."""

    def __init__(self) -> None:
        self.count = 0

    def say(self, text: str, seconds: float, *details: str) -> None:
        self.count += 1
        print(f"{self.count:2}. {text:<58} {_time(seconds):>9}")
        for detail in details:
            for line in detail.rstrip().splitlines():
                print(f"      {line}")
        sys.stdout.flush()

    def check(self, truth: object, claim: str) -> None:
        """Say that `claim` holds, or stop the demo."""
        if not truth:
            raise DemoError(f"not so: {claim}")
        print(f"      ok: {claim}", flush=True)


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


@contextmanager
def _own_folder() -> Iterator[Path]:
    """Make a temporary folder for all state, and in the end nothing is left of it.

    In the end also every process that has the folder's name in its environment is
    gone: the server has a session of its own and would live on.
    """
    folder = Path(tempfile.mkdtemp(prefix="dask-async-run-demo-"))
    try:
        for name in FOLDERS.values():
            (folder / name).mkdir(mode=0o700)
        yield folder
    finally:
        _end_processes(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _environment(folder: Path) -> dict[str, str]:
    """The environment of what is started for the demo."""
    return {**os.environ, **{name: str(folder / sub) for name, sub in FOLDERS.items()}}


def _processes(folder: Path) -> list[psutil.Process]:
    """Processes whose state lies in `folder`, this one left out."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            state = process.environ().get("DASK_ASYNC_RUN_STATE", "")
            living = process.status() != psutil.STATUS_ZOMBIE
            if state == str(folder / "state") and process.pid != os.getpid() and living:
                found.append(process)
    return found


def _end_processes(folder: Path) -> None:
    """Stop the server in an orderly way, then end by force what is left."""
    if not _processes(folder):
        return
    stop = [sys.executable, "-m", "dask_async_run", "stop", "--force"]
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(stop, capture_output=True, timeout=20, cwd=folder, env=_environment(folder))
    deadline = time.monotonic() + 10
    # Again: what is ended may just have started another.
    while (left := _processes(folder)) and time.monotonic() < deadline:
        for process in left:
            with suppress(psutil.Error):
                process.kill()


_SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


def _note_signals() -> list[signal.Signals]:
    """Let SIGINT, SIGTERM and SIGHUP do no more than to append themselves to the list."""
    noted: list[signal.Signals] = []

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(signal.Signals(number))

    for number in _SIGNALS:
        signal.signal(number, note)
    return noted


def _ignore_signals() -> None:
    """Let none of them change how this process ends: Python gives its own handlers up before."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _tell(folder: Path, steps: Steps) -> None:
    """Run the story; `DemoError` as soon as something in it is not as it should be."""
    begun = time.monotonic()
    kernel = Kernel(folder)
    try:
        steps.say(f"started a kernel (process {kernel.pid})", time.monotonic() - begun)

        ran = kernel.run("%load_ext dask_async_run\n%async_run_server --workers 2")
        steps.say("%load_ext dask_async_run; %async_run_server", ran.seconds, ran.stdout)

        ran = kernel.run(SETUP)
        steps.say("loaded scikit-learn's digits, 1797 pictures of 8 x 8", ran.seconds)

        ran = kernel.run("%%async_run --name train\n" + CELL)
        prompt = ran.seconds
        steps.say("%%async_run --name train: the prompt is back", prompt, _indent(CELL))
        kernel.run("job = _")

        ran = kernel.run("int((y == 7).sum())")
        steps.say("the kernel answers another cell", ran.seconds, f"Out: {ran.result}")

        ran = kernel.run(RUNNING)
        steps.check(ran.result == "'running'", "the job is running")

        begun = time.monotonic()
        pid = kernel.pid
        kernel.kill()
        steps.say(f"kill -9 of the kernel (process {pid})", time.monotonic() - begun)
    finally:
        kernel.close()

    begun = time.monotonic()
    kernel = Kernel(folder)
    try:
        steps.say(f"started another kernel (process {kernel.pid})", time.monotonic() - begun)
        ran = kernel.run("'search' in globals()")
        steps.check(ran.result == "False", "it knows nothing of the first one's variables")

        ran = kernel.run("%load_ext dask_async_run\n%async_run_server")
        steps.say("%load_ext dask_async_run; %async_run_server", ran.seconds, ran.stdout)
        steps.check("train" in ran.stdout, "it tells of the job 'train'")

        gathered = kernel.run("%async_gather train")
        sizes = [f"a figure, {len(picture) * 3 // 4:,} bytes" for picture in gathered.pictures]
        steps.say("%async_gather train", gathered.seconds, gathered.stdout, gathered.result, *sizes)
        kernel.run("gathered = search")
        kernel.run(SETUP)

        plain = kernel.run(CELL)
        steps.say("the same cell again, plainly, in this kernel", plain.seconds)
        same = kernel.run(
            "gathered is not search and type(gathered) is type(search)"
            " and gathered.best_params_ == search.best_params_"
            " and bool((gathered.predict(X) == search.predict(X)).all())"
            ' and all(bool((gathered.cv_results_[f"split{n}_test_score"]'
            ' == search.cv_results_[f"split{n}_test_score"]).all()) for n in range(5))'
        )
        steps.check(
            same.result == "True", "the gathered `search` has the same scores, and predicts"
        )
        steps.check(plain.stdout and gathered.stdout == plain.stdout, "the same printed text")
        steps.check(plain.result and gathered.result == plain.result, "the same last expression")
        steps.check(plain.pictures and gathered.pictures == plain.pictures, "the same figure")

        ran = kernel.run("%async_stop_server")
        steps.say("%async_stop_server", ran.seconds, ran.stdout)
    finally:
        kernel.close()
    steps.check(not _processes(folder), "no process is left")


def _indent(text: str) -> str:
    return "".join(f"| {line}\n" for line in text.splitlines())


def main() -> int:
    """Run the demo; the exit code: 0 only if everything in it was right.

    Prints each step with the time that it took.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(
            f"the demo needs {', '.join(missing)}: pip install 'dask-async-run[demo]'",
            file=sys.stderr,
        )
        return 2
    begun = time.monotonic()
    noted = _note_signals()
    with _own_folder() as folder:
        print(f"A cell that outlives its kernel. All state is in {folder}.\n", flush=True)
        # A session of its own: Ctrl-C in the terminal is for this process alone.
        story = subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder)],
            env=_environment(folder),
            start_new_session=True,
        )
        code = None
        while code is None:
            with suppress(subprocess.TimeoutExpired):
                code = story.wait(timeout=0.1)
            if noted:
                story.kill()
    _ignore_signals()
    if noted:
        print("\nThe demo was interrupted; everything that it started is gone.", file=sys.stderr)
        return 130
    if code != 0:
        print(f"\nThe demo FAILED, after {_time(time.monotonic() - begun)}.", file=sys.stderr)
        return 1
    print(f"\nAll of it was right, in {_time(time.monotonic() - begun)}.")
    return 0


def _story(folder: Path) -> int:
    """Tell it in this process, whose environment names the folders; the exit code."""
    try:
        _tell(folder, Steps())
    except DemoError as error:
        _show_log(folder)
        print(f"\n{error}", file=sys.stderr)
        return 1
    except Exception:
        _show_log(folder)
        raise
    return 0


def _show_log(folder: Path) -> None:
    for log in (*folder.glob(LOG), *folder.glob("state/*/server.log")):
        tail = log.read_text(errors="replace").splitlines()[-15:]
        print("\n".join([f"\nThe last lines of {log}:", *tail]), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(_story(Path(sys.argv[1])))
