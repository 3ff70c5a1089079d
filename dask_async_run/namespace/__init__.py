"""Capture and merge of namespaces: pure Python, no Dask, no IPython.

``analyse``    what a cell's source does to names
``capture``    kernel: what the cell needs, as one pickle stream
``inputs``     cell process: the stream as a namespace; afterwards, the result
``merge``      kernel: the result into the namespace, conflicts seen
"""

from dask_async_run.namespace.inputs import Parent, Stream, collect, restore

__all__ = ["Parent", "Stream", "collect", "restore"]
