"""Look for texts that `fuzz_lines` has no words for, guided by coverage.

``pip install atheris``, then ``python tests/helpers/fuzz.py -max_total_time=300``.
"""

from __future__ import annotations

import sys
from importlib import import_module


def main() -> None:
    atheris = import_module("atheris")
    with atheris.instrument_imports(include=["dask_async_run"]):
        lines = import_module("fuzz_lines")

    def once(data: bytes) -> None:
        lines.understand(data.decode("utf-8", "replace"))

    atheris.Setup(sys.argv, once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
