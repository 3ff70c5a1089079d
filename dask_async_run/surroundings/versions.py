"""What a process runs with: its Python, and the packages that it has loaded."""

from __future__ import annotations

import platform
import sys
from typing import Any


def environment() -> dict[str, Any]:
    """Answer this process's ``python``, ``platform`` and ``packages``: names and versions.

    Packages are those that are loaded and say which version they are. Nothing of theirs is
    run for that.
    """
    packages = {}
    for name, module in sorted(sys.modules.items()):
        version = getattr(module, "__dict__", {}).get("__version__")
        own = "." not in name and not name.startswith("_") and name not in sys.stdlib_module_names
        if own and isinstance(version, str):
            packages[name] = version
    return {
        "python": platform.python_version(),
        "platform": f"{sys.platform}-{platform.machine()}",
        "packages": packages,
    }
