"""The commands of ``dask-async-run``; `cli` has their grammar. Run in the shell's process."""
