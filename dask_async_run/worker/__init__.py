"""What runs on a Dask worker: the task that supervises a cell, and the cell's own process."""
