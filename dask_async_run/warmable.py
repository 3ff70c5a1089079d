"""The libraries that a template process may import ahead."""

from __future__ import annotations

WARMABLE = frozenset(
    "numpy scipy pandas sklearn matplotlib sympy mpmath PIL statsmodels seaborn networkx "
    "patsy plotly altair narwhals jsonschema xarray dask".split()
)
"""Top-level packages that are known to start no thread and to survive a fork."""
