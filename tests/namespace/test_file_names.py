"""Which files a cell reads and writes, by its source, and which cells wait for one another."""

from __future__ import annotations

import ast
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from dask_async_run.namespace.analyse import analyse
from dask_async_run.namespace.file_names import FileFinder, FileNames

VALUES = {
    "OUT": Path("out"),
    "name": "one",
    "names": ["a.csv", "b.csv"],
    "df": object(),
    "config": SimpleNamespace(target="c.json"),
    "buffer": io.StringIO(),
    "n": 7,
}
SAVE = """\
def save(df, name, kind="png"):
    path = OUT / f"{name}.{kind}"
    df.to_csv(path)
    return path
"""
WRITTEN = [
    ("open('x.csv', 'w')", "x.csv"),
    ("open('x.csv')", ""),
    ("open('x.csv', mode='rb')", ""),
    ("with open('x.csv', mode='a') as f: f.write('y.csv')", "x.csv"),
    ("OUT.joinpath('x.txt').write_text('y.txt')", "out/x.txt"),
    ("(OUT / 'x.txt').open('w')", "out/x.txt"),
    ("p = OUT / 'x.txt'\nwith p.open('wb') as f: pass", "out/x.txt"),
    ("import gzip; gzip.open('x.gz', 'wt')", "x.gz"),
    ("import os; os.makedirs(os.path.join(OUT, 'sub'))", "out/sub"),
    ("import os; os.remove('x.csv')", "x.csv"),
    ("rows.remove('x.csv')", ""),
    ("df.to_csv('x.csv')", "x.csv"),
    ("df.to_csv(path_or_buf=f'{name}.csv', sep=';')", "one.csv"),
    ("df.to_csv()", ""),
    ("df.to_csv(buffer)", ""),
    ("import io; b = io.BytesIO(); df.to_parquet(b)", ""),
    ("for n in names: df.to_csv(n)", "a.csv b.csv"),
    ("for i in range(3): df.to_csv(f'part-{i}.csv')", "part-*.csv"),
    ("for n in ['a', 'b']: df.to_csv(n + '.csv')", "a.csv b.csv"),
    ("name = name + '.csv'; df.to_csv(name)", "one.csv"),
    ("df.to_csv('%s-%d.csv' % (a, b))", "*-*.csv"),
    ("df.to_csv('{}.csv'.format(a))", "*.csv"),
    ("df.to_csv(config.target)", "c.json"),
    ("df.to_csv(unknown)", "*"),
    ("import numpy as np; np.save('x.npy', unknown)", "x.npy"),
    ("import joblib; joblib.dump(unknown, 'm.pkl')", "m.pkl"),
    ("import json\nwith open('x.json', 'w') as f: json.dump(unknown(), f)", "x.json"),
    ("import json\nf = open('x.json', 'w'); json.dump(unknown(), f)", "x.json"),
    ("import shutil; shutil.copy('a.txt', 'b.txt')", "a.txt b.txt"),
    ("new = name.replace('a.b', 'c.d')", ""),
    ("plt.savefig(OUT / f'{name}.png', dpi=100)", "out/one.png"),
    (SAVE, ""),
    (SAVE + "save(df, name)", "out/one.png"),
    (SAVE + "save(df, 'x', kind='pdf')", "out/x.pdf"),
    (SAVE + "save(df, unknown)", "out/*.png"),
    (SAVE + "list(map(save, rows))", "out/*.png"),
    (SAVE + "def both(): save(1, 'b'); save(2, 'c')\nboth()", "out/b.png out/c.png"),
    ("def grow(n): return grow(n + 'a')\ngrow('x')", ""),
    ("!echo hello > x.txt", "echo hello x.txt"),
    ("!sort {name}.csv -o $name.txt", "sort one.csv one.txt"),
    ("!wget -q https://host/data/x.zip", "wget x.zip"),
    ("%%bash\ntouch a/b.txt", "touch a/b.txt"),
    ('%%perl\n@months = ("July", "May");\nprint $months[0];', ""),
    ("%%python\nopen('x.csv', 'w').write('a')", "x.csv"),
    ("%%writefile m.py\nx = open('y.txt', 'w')", "m.py"),
    ("%%time\ndf.to_csv('x.csv')", "x.csv"),
    ("import subprocess; subprocess.run(['touch', 'x.txt'])", "touch x.txt"),
    ("import sqlite3; sqlite3.connect('x.db')", "x.db"),
    ("model.save('https://host/x.h5')", ""),
]
READ = [
    ("pd.read_csv('x.csv')", "x.csv"),
    ("pd.read_csv(OUT / 'x.csv')", "out/x.csv"),
    ("pd.read_csv(unknown)", "*"),
    ("pd.read_csv(io.StringIO(text))", ""),
    ("pd.read_csv('https://host/x.csv')", ""),
    ("pd.read_sql(query, con)", ""),
    ("anything('x.wav')", "x.wav"),
    ("anything('some text')", ""),
    ("print(f'{a} of {b} files in {c}')", ""),
    ("for p in OUT.glob('*.csv'): pd.read_csv(p)", "out/*.csv out/*"),
    ("for p in sorted(Path('in').iterdir()): p.read_text()", "in in/*"),
    ("import os; os.listdir()", "."),
    ("!ls", ". ls"),
    ("import m", "m m.py"),
    ("%run tool.py", "tool.py"),
    ("open('/etc/hosts')", "/etc/hosts"),
    ("open('sub/../x.csv')", "x.csv"),
    ("while not os.path.exists('go'): pass\nopen('go')", ""),
    ("while open('x.txt').read() != 'a': y = open('z.txt')", "z.txt"),
    ("x = 3 / 4.5; y = '%d.x' % n", ""),
]


def found(cell: str, values: dict[str, Any] = VALUES) -> FileNames:
    code = TransformerManager().transform_cell(cell)
    analysis = analyse(code, TransformerManager().transform_cell)

    def attributes(name: str) -> list[Any]:
        every = (getattr(value, "__dict__", {}) for value in values.values())
        return [held[name] for held in every if name in held]

    finder = FileFinder(values, analysis.effects.functions, attributes, "/work")
    return finder.find(analysis.effects.files, analysis.imports)


def named(names: frozenset[str]) -> set[str]:
    return {"." if name == "/work" else name.removeprefix("/work/") for name in names}


@pytest.mark.contract(12)
@pytest.mark.parametrize(("cell", "written"), WRITTEN)
def test_files_that_a_cell_writes(cell: str, written: str) -> None:
    """Paths are told by texts, variables, and what functions are given."""
    assert named(found(cell).writes) == set(written.split())


@pytest.mark.contract(12)
@pytest.mark.parametrize(("cell", "read"), READ)
def test_files_that_a_cell_reads(cell: str, read: str) -> None:
    """A text that looks as a file's name counts, whatever is done with it."""
    modules = {"io", "io.py", "os", "os.py"}
    assert named(found(cell).reads) - modules == set(read.split())


ORDERED = [
    ("df.to_csv('x.csv')", "pd.read_csv('x.csv')", True),
    ("df.to_csv('x.csv')", "pd.read_csv('y.csv')", False),
    ("pd.read_csv('x.csv')", "pd.read_csv('x.csv')", False),
    ("pd.read_csv('x.csv')", "df.to_csv('x.csv')", True),
    ("df.to_csv('x.csv')", "df.to_csv('x.csv', mode='a')", True),
    ("df.to_csv('x.csv')", "!head x.csv", True),
    ("df.to_csv('out/x.csv')", "import os; os.listdir('out')", True),
    ("df.to_csv('out/x.csv')", "import os; os.listdir('ou')", False),
    ("OUT.mkdir()", "df.to_csv(OUT / 'x.csv')", True),
    ("df.to_csv(f'part-{i}.csv')", "pd.read_csv('part-3.csv')", True),
    ("df.to_csv(f'part-{i}.csv')", "pd.read_csv('total.csv')", False),
    ("df.to_csv(f'part-{i}.csv')", "pd.read_csv(f'{stem}.csv')", True),
    ("df.to_csv(f'part-{i}.csv')", "pd.read_csv(f'{stem}.json')", False),
    ("df.to_csv(unknown)", "pd.read_csv('x.csv')", True),
    ("df.to_csv(unknown)", "x = 1", False),
    ("%%writefile m.py\nx = 1", "import m", True),
]


@pytest.mark.contract(12)
@pytest.mark.parametrize(("first", "second", "waits"), ORDERED)
def test_which_cells_wait(first: str, second: str, waits: bool) -> None:
    """Where one of two cells writes what the other reads or writes, or a folder of it."""
    assert found(second).waits_for(found(first)) is waits


def test_what_others_have_put_on_a_tree_is_not_looked_at() -> None:
    """Who shows tracebacks gives each node its parent, and Python has one ``%`` for all trees."""
    nodes = [*ast.walk(ast.parse("a % 2").body[0])]
    for node in nodes:
        for child in ast.iter_child_nodes(node):
            child.parent = node  # type: ignore[attr-defined]
    try:
        assert analyse("open('x' if b % 2 else 'y', 'w')").effects.files.uses
        assert analyse("y = b % 2").effects.files.uses == []
    finally:
        for node in nodes[1:]:
            del node.parent  # type: ignore[attr-defined]
