"""The server: one detached process per user and name, hosting a Dask cluster.

``launch`` starts or finds it, ``control`` talks to it and stops it, ``connection``
is its file; ``process`` and what that imports run inside it.
"""
