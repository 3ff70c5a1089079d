"""``python -m dask_async_run``: the command ``dask-async-run``."""

import sys
from importlib.util import find_spec
from pathlib import Path

if __name__ == "__main__":
    if not __package__:
        # Run by its path, as a server is (see `server.launch`): with this very package,
        # wherever it lies. First only if another one would be found, for what lies beside
        # it would hide Python's own modules too.
        here = Path(__file__).resolve().parent
        found = find_spec("dask_async_run")
        if found is None or Path(found.origin or "").resolve().parent != here:
            sys.path.insert(0, str(here.parent))
    from dask_async_run.cli import main

    sys.exit(main())
