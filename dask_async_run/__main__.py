"""``python -m dask_async_run``: the command ``dask-async-run``."""

import sys
from pathlib import Path

if __name__ == "__main__":
    if not __package__:
        # Run by its path, as a server is (see `server.launch`). Last, so that what lies
        # beside the package hides nothing.
        root = str(Path(__file__).resolve().parents[1])
        if root not in sys.path:
            sys.path.append(root)
    from dask_async_run.cli import main

    sys.exit(main())
