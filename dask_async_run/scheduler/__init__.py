"""What runs in the Dask scheduler's process: the registry of jobs and its journal.

plugin      the Dask scheduler plugin: connects the registry with the scheduler
registry    decides, writes down, carries out
client_ops  what clients can ask of it
cell_ops    what the task that runs a cell can ask of it
machine     the decisions: `events` in, instructions out; no I/O
journal     the record on disk: writing; `reader` reads it, `schema` opens it
saver       a thread that makes durable what has been written
collector   which frames are nobody's any more
tasks       the jobs' Dask tasks: submitted, withdrawn, published
bells       long polls: who waits for what
"""
