"""Feeds: data of a Bokeh document that are kept as some rows are, at the cost of what changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from bokeh.models import ColumnDataSource

from dask_async_run.scheduler.page.rows import Row


class Feed:
    """Rows by id in a `ColumnDataSource`.

    Parameters
    ----------
    columns : collection of str

    Attributes
    ----------
    source : ColumnDataSource
    settling : bool
        Whether what is selected changes because rows do, and not because somebody selects.
    """

    def __init__(self, columns: Collection[str]) -> None:
        self.columns = tuple(columns)
        self.source = ColumnDataSource({column: [] for column in self.columns})
        self._rows: dict[str, Row] = {}
        self._places: dict[str, int] = {}
        self.settling = False

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, job: str) -> bool:
        return job in self._rows

    def replace(self, rows: Mapping[str, Row]) -> None:
        """Show these rows and no others; what is selected stays so."""
        selected = self.selected()
        self._rows = dict(rows)
        self._places = {job: place for place, job in enumerate(self._rows)}
        self.settling = True
        try:
            self.source.data = {
                column: [row[column] for row in self._rows.values()] for column in self.columns
            }
            self.select(selected)
        finally:
            self.settling = False

    def update(self, rows: Mapping[str, Row], gone: Iterable[str] = ()) -> None:
        """Show rows that are new or have changed, and not those that are gone."""
        left = self._rows.keys() & set(gone)
        if left:
            kept = {job: row for job, row in self._rows.items() if job not in left}
            self.replace({**kept, **rows})
            return
        patches: dict[str, list[tuple[int, Any]]] = {}
        new: dict[str, Row] = {}
        for job, row in rows.items():
            old = self._rows.get(job)
            if old is None:
                new[job] = row
                continue
            for column in self.columns:
                if old[column] != row[column]:
                    patches.setdefault(column, []).append((self._places[job], row[column]))
            self._rows[job] = row
        if patches:
            self.source.patch(patches)
        if new:
            for job, row in new.items():
                self._places[job] = len(self._places)
                self._rows[job] = row
            self.source.stream(
                {column: [row[column] for row in new.values()] for column in self.columns}
            )

    def selected(self) -> list[str]:
        """Ids of the rows that are selected."""
        jobs = list(self._places)
        return [jobs[place] for place in self.source.selected.indices if place < len(jobs)]

    def select(self, jobs: Iterable[str]) -> None:
        """Select rows, those that are there."""
        places = [self._places[job] for job in jobs if job in self._places]
        if places != self.source.selected.indices:
            self.source.selected.indices = places
