"""The judge of the namespace contract; the other tests' helpers are importable in it."""

import sys
from pathlib import Path

_HELPERS = str(Path(__file__).parents[1] / "helpers")
if _HELPERS not in sys.path:  # pytest's own setting is not there for `compare`
    sys.path.append(_HELPERS)
