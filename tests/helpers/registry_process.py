"""A scheduler with a registry in a process of its own, to be killed.

``python registry_process.py STATE_FOLDER`` prints its address and stays until its
standard input is closed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from registry_site import Site

if __name__ == "__main__":
    with Site(Path(sys.argv[1])) as site:
        print(site.cluster.scheduler_address, flush=True)
        sys.stdin.read()
