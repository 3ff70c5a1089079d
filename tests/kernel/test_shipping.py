"""Shipping: what a parcel has in it, and what comes of it in a Python that has nothing."""

from __future__ import annotations

import io
import pickle
import subprocess
import zipfile
from pathlib import Path

from dask_async_run.courier import Sent
from dask_async_run.kernel.shipping import DISTRIBUTIONS, pack
from elsewhere import environment_without


def test_a_parcel_has_no_more_than_is_needed() -> None:
    """All of this package, its version, what was asked for; nothing that Dask has anyhow."""
    parcel, unsendable = pack(frozenset(DISTRIBUTIONS), foreign=False)
    names = zipfile.ZipFile(io.BytesIO(parcel)).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {"dask_async_run", "IPython", "traitlets", "xxhash", "platformdirs"} <= tops
    assert tops.isdisjoint({"dask", "distributed", "psutil", "numpy", "bokeh"})
    assert any(name.startswith("dask_async_run-") for name in tops)
    assert not any(".." in name or "__pycache__" in name for name in names)
    assert unsendable == {}


def test_compiled_code_is_not_sent_to_another_kind_of_machine() -> None:
    """The module is named, with the reason; what is pure Python goes."""
    parcel, unsendable = pack(frozenset({"xxhash", "platformdirs"}), foreign=True)
    assert unsendable == {"xxhash": "xxhash has code that is compiled for this machine"}
    assert any(
        n.startswith("platformdirs/") for n in zipfile.ZipFile(io.BytesIO(parcel)).namelist()
    )


def test_the_courier_runs_where_this_package_is_not(tmp_path: Path) -> None:
    """Its pickle needs nothing of ours; what is missing and not in the parcel is named."""
    parcel, _ = pack(frozenset(), foreign=False)
    program = (
        "import pickle, sys\n"
        "bring, facts, parcel = pickle.loads(sys.stdin.buffer.read())\n"
        "assert facts([], ['dask_async_run'])['missing'] == ['dask_async_run']\n"
        "bring(parcel, ['dask_async_run'])\n"
        "import dask_async_run.scheduler.plugin\n"
        "print(dask_async_run.__file__)\n"
        "bring(parcel, ['nowhere'])\n"
    )
    python = environment_without(tmp_path / "bare", "dask-async-run")
    sent = pickle.dumps((Sent("bring"), Sent("facts"), parcel))
    done = subprocess.run([python, "-P", "-c", program], input=sent, capture_output=True)
    assert b"/dask-async-run-" in done.stdout, done.stderr
    assert b"RuntimeError: nowhere cannot be imported here" in done.stderr
    assert not Path(done.stdout.decode().strip()).exists()
