"""Reports of `faulthandler`, made readable: pure."""

from __future__ import annotations

from dask_async_run.worker.crash import readable_crash

REPORT = """Fatal Python error: Segmentation fault

Thread 0x00007f1 (most recent call first):
  File "/lib/threading.py", line 320 in wait

Current thread 0x00007f2 (most recent call first):
  File "/lib/ctypes/__init__.py", line 519 in string_at
  File "/tmp/ipykernel_1/2.py", line 3 in crash
  File "/tmp/ipykernel_1/2.py", line 5 in <module>
  File "/lib/IPython/core/interactiveshell.py", line 3812 in run_code
  File "/lib/dask_async_run/worker/cell.py", line 100 in main

Extension modules: msgpack._cmsgpack (total: 1)
"""


def test_the_cells_own_frames() -> None:
    assert readable_crash(REPORT, "/tmp/ipykernel_1/2.py", 7) == (
        "Fatal Python error: Segmentation fault\n"
        "Where the cell was, last call first:\n"
        "  File /lib/ctypes/__init__.py:519, in string_at\n"
        "  Cell In[7], line 3, in crash\n"
        "  Cell In[7], line 5, in <module>\n"
    )


def test_no_report_or_half_of_one() -> None:
    assert readable_crash("", "f.py", 1) == ""
    assert readable_crash("\x00\x01 rubbish", "f.py", 1) == ""
    assert (
        readable_crash("Fatal Python error: Aborted", "f.py", 1) == "Fatal Python error: Aborted\n"
    )
    assert readable_crash("Fatal Python error: Aborted\n\n<no Python frame>\n", "f.py", None) == (
        "Fatal Python error: Aborted\n"
    )
