"""What a cell process shows is what ipykernel shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cells import Cells
from realkernel import RealKernel

FILE = re.compile(r"\S*/ipykernel_\d+/\d+\.py|\b\d{5,10}\.py\b|\b2\.py\b")
TIMES = re.compile(r"[\d.]+(?:e[-+]\d+)? ?(?:ns|[µμ]s|ms|s|min)\b")
ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
PID = re.compile(r"pid=\d+")
FOLDER = re.compile(r"/\d+-(?:there|here)\b")


@dataclass(frozen=True)
class Case:
    name: str
    code: str
    then: tuple[str, ...] = ()

    @property
    def cell(self) -> str:
        """The code; if more follows, all of it as cells within one cell."""
        if not self.then:
            return self.code
        return "\n".join(
            f"_r = get_ipython().run_cell({code!r}, store_history=True)"
            for code in (self.code, *self.then)
        )


CASES = {
    "text": [
        Case(
            "%run",
            "%%writefile {tmp}/script.py\nprint('from file', __name__)\ndef f():\n    1/0\ny = 5",
            ("%run {tmp}/script.py\nprint(y)\nf()",),
        ),
        Case("print", "print('one')\nprint('two', 3)"),
        Case("last expression", "x = 41\nx + 1"),
        Case("semicolon", "5;"),
        Case("semicolon and comment", "5;  # not shown"),
        Case("None", "None"),
        Case("string", "'a\\nb'"),
        Case("long list", "list(range(2000))"),
        Case("several expressions", "1\n2\n3"),
        Case("unicode", "print('ä 日本 🎉')\n'ä 日本 🎉'"),
        Case("lone surrogate", "print(ascii('\\udc80'))"),
        Case("stderr", "import sys\nprint('bad', file=sys.stderr)"),
        Case(
            "both streams",
            "import sys\nfor i in range(5):\n    print('out', i)\n"
            "    print('err', i, file=sys.stderr)",
        ),
        Case(
            "partial lines of both",
            "import sys\nsys.stderr.write('a'); sys.stdout.write('b'); sys.stderr.write('c\\n')\n"
            "sys.stdout.write('d\\n');",
        ),
        Case(
            "streams and displays",
            "for i in range(5):\n    print('before', i)\n    display(i)\n    print('after', i)",
        ),
    ],
    "rich": [
        Case("dataframe", "import pandas as pd\npd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})"),
        Case("long dataframe", "import pandas as pd\npd.DataFrame({'a': range(100)})"),
        Case("series", "import pandas as pd\npd.Series([1.5, 2.5], name='s')"),
        Case("styled", "import pandas as pd\npd.DataFrame({'a': [1]}).style.set_uuid('u')"),
        Case("display of dataframe", "import pandas as pd\ndisplay(pd.DataFrame({'a': [1]}))"),
        Case("array", "import numpy as np\nnp.arange(12).reshape(3, 4)"),
        Case(
            "estimator", "from sklearn.svm import SVC\nprint(SVC(C=2))\nSVC(C=2).get_params()['C']"
        ),
        Case(
            "html and others",
            "from IPython.display import *\n"
            "display(HTML('<b>b</b>'), Markdown('*m*'), Latex('$x$'), "
            "Math('x'), SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>'), Javascript('1'), "
            "JSON({'a': [1, None, 1.5]}), Pretty('p'), Code('x = 1'))",
        ),
        Case(
            "image",
            "from IPython.display import Image\nImage(data=b'\\x89PNG\\r\\n\\x1a\\n' + bytes(50))",
        ),
        Case(
            "raw bundle",
            "display({'text/plain': 'p', 'application/x-mine+json': {'a': (1, 2)}}, raw=True)",
        ),
        Case("metadata", "display(1, metadata={'isolated': True})"),
    ],
    "figures": [
        Case(
            "figure",
            "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.title('t')\nprint('after')",
        ),
        Case(
            "figure, shown",
            "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\nprint('x')",
        ),
        Case(
            "figure, returned",
            "import matplotlib.pyplot as plt\n"
            "fig, ax = plt.subplots(figsize=(2, 1))\nax.plot([1, 2])\nfig",
        ),
        Case(
            "two figures",
            "import matplotlib.pyplot as plt\nfor i in (1, 2):\n    plt.figure(); plt.plot([i, 2])",
        ),
        Case(
            "matplotlib inline",
            "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([3, 1]);",
        ),
        Case("closed figure", "import matplotlib.pyplot as plt\nplt.plot([1]); plt.close()"),
        Case(
            "svg figures",
            "import matplotlib\n"
            "from matplotlib_inline.backend_inline import set_matplotlib_formats\n"
            "import matplotlib.pyplot as plt\nset_matplotlib_formats('png')\nplt.plot([1, 5]);",
        ),
    ],
    "warnings": [
        Case("warning", "import warnings\nwarnings.warn('careful')\nprint('on')"),
        Case(
            "warning in a function",
            "import warnings\ndef f():\n    warnings.warn('deprecated', DeprecationWarning)\nf()",
        ),
        Case(
            "logging configured",
            "import logging\nlog = logging.getLogger('mine')\n"
            "log.addHandler(logging.StreamHandler())\n"
            "log.error('an error')",
        ),
        Case("logging", "import logging\nlogging.warning('a log line')\nlogging.info('not shown')"),
    ],
    "errors": [
        Case("exception", "def f(x):\n    return 1 / x\n\nf(0)"),
        Case("exception after output", "print('before')\nraise ValueError('bad value')"),
        Case("exception in a library", "import json\njson.loads('{')"),
        Case(
            "chained exceptions",
            "try:\n    {}['k']\nexcept KeyError as e:\n    raise RuntimeError('second') from e",
        ),
        Case(
            "exception while handling",
            "try:\n    {}['k']\nexcept KeyError:\n    undefined_name",
        ),
        Case("exception with notes", "e = ValueError('v')\ne.add_note('a note')\nraise e"),
        Case("exception group", "raise ExceptionGroup('g', [ValueError(1), TypeError(2)])"),
        Case(
            "own traceback",
            "class E(Exception):\n    def _render_traceback_(self):\n"
            "        return ['mine']\nraise E('x')",
        ),
        Case(
            "str() fails",
            "class B(Exception):\n    def __str__(self):\n        return 'kaput'\nraise B()",
        ),
        Case(
            "repr fails",
            "class R:\n    def __repr__(self):\n        raise ValueError('in repr')\nR()",
        ),
        Case("syntax error", "x = 1\nx +"),
        Case("indentation error", "if True:\nx = 1"),
        Case("return outside", "return 1"),
        Case("unterminated", "print('abc"),
        Case("name error", "not_defined"),
        Case("usage error", "%not_a_magic"),
        Case("unknown cell magic", "%%not_a_cell_magic\n1"),
        Case("raised interrupt", "raise KeyboardInterrupt"),
        Case("sys.exit", "import sys\nsys.exit(3)"),
        Case("raised SystemExit", "raise SystemExit('bye')"),
        Case("exit", "print(1)\n2"),
    ],
    "magics": [
        Case("%%time", "%%time\nprint('timed')\n7"),
        Case("%time", "%time 1 + 1"),
        Case("%timeit", "%timeit -n2 -r2 pass"),
        Case("%%timeit", "%%timeit -n2 -r2\npass"),
        Case(
            "%%capture",
            "%%capture out\nprint('x')\nimport sys\nprint('e', file=sys.stderr)\ndisplay(3)\n4",
        ),
        Case("captured, shown", "%%capture out\nprint('x')\ndisplay(3)"),
        Case("exception in %%time", "%%time\n1/0"),
        Case("exception in %%capture", "%%capture\n1/0"),
    ],
    "commands": [
        Case("shell", "!echo hello; echo err >&2"),
        Case("shell variable", "who = 'world'\n!echo hello $who {who.upper()}"),
        Case("shell into variable", "a = !echo one; echo two\na"),
        Case("shell fails", "!exit 3\n_exit_code"),
        Case("shell, captured", "%%capture c\n!echo captured"),
        Case("%%bash", "%%bash\necho out\necho err >&2"),
        Case("%%bash fails", "%%bash\nexit 2"),
        Case("%%sh into variable", "%%sh --out o\necho x"),
        # Alone, and without a value: ipykernel shows a child's text before or after all else, as
        # a thread of it has time, or after the cell; `test_output` says where ours comes.
        Case("system", "import os, time\nos.system('echo b')\ntime.sleep(1)"),
        Case("ls", "!ls /usr"),
    ],
    "loop": [
        Case(
            "await",
            "import asyncio\nawait asyncio.sleep(0)\nprint('awaited')\nawait asyncio.sleep(0, 5)",
        ),
        Case(
            "async for and with",
            "import contextlib\nasync def g():\n    for i in range(3):\n        yield i\n"
            "@contextlib.asynccontextmanager\nasync def m():\n    yield 'm'\n"
            "async for i in g():\n    print(i)\nasync with m() as v:\n    print(v)",
        ),
        Case("await fails", "import asyncio\nawait asyncio.sleep(0)\n1/0"),
        Case("running loop", "import asyncio\nasyncio.get_running_loop().is_running()"),
        Case("asyncio.run", "import asyncio\nasync def f():\n    pass\nc = f()\nasyncio.run(c)"),
    ],
    "displays": [
        Case(
            "display id",
            "h = display('one', display_id='d1')\nh.update('two')\nprint(h.display_id)",
        ),
        Case(
            "update in a loop",
            "h = display(0, display_id='d2')\nfor i in range(50):\n    h.update(i)",
        ),
        Case(
            "clear_output",
            "from IPython.display import clear_output\nprint('gone')\n"
            "clear_output()\nprint('kept')",
        ),
        Case(
            "clear_output(wait)",
            "from IPython.display import clear_output\nfor i in range(4):\n"
            "    clear_output(wait=True)\n    print(i)",
        ),
        Case(
            "clear, nothing after",
            "from IPython.display import clear_output\nprint('kept')\nclear_output(wait=True)",
        ),
        Case(
            "carriage return",
            "import sys\nfor i in range(3):\n    sys.stderr.write(f'\\r{i}')\n"
            "sys.stderr.write('\\n');",
        ),
    ],
    "shell": [
        Case("page", "print.__doc__[:10]"),
        Case("%precision", "%precision 2", ("3.14159", "%precision")),
        Case("%who", "%who_ls NoSuchType"),
        Case("%env", "%env NO_SUCH_VARIABLE_HERE=5"),
        Case("%%html", "%%html\n<i>x</i>"),
        Case("%%javascript", "%%javascript\nalert(1)"),
        Case("%%latex", "%%latex\n$x$"),
        Case(
            "captured output",
            "%%capture out\nprint('x')\ndisplay(3)\n!echo y",
            ("out.show()\nout.stdout",),
        ),
        Case("%tb", "1/0", ("%tb",)),
        Case("%xmode", "%xmode Verbose", ("a = 1\na/0", "%xmode Context")),
        Case("out variable", "%%sh --out o\necho x", ("o",)),
        Case("underscores", "5", ("_ + 1", "_, __")),
        Case("run_cell", "get_ipython().run_cell('print(5)\\n6');"),
        Case("nested error", "get_ipython().run_cell('a = 1\\n1/0');"),
        Case("shell's name", "type(get_ipython()).__name__, 'zmq' in str(type(get_ipython()))"),
        Case("config", "'IPKernelApp' in get_ipython().config"),
        Case("has kernel trait", "get_ipython().has_trait('kernel')"),
        Case("main", "__name__, __import__('sys').modules['__main__'].__dict__ is globals()"),
        Case(
            "no terminal",
            "import sys\nsys.stdout.isatty(), sys.stdout.encoding, sys.stderr.encoding",
        ),
        Case("flush", "import sys\nprint('x', flush=True)\nsys.stdout.flush()"),
        Case("write returns", "import sys\nsys.stdout.write('ab\\n')"),
        Case(
            "processes",
            "import multiprocessing as mp\n"
            "def f(i):\n    return i * i\n"
            "with mp.get_context('fork').Pool(2) as p:\n    r = p.map(f, range(4))\nr",
        ),
        Case(
            "thread",
            "import threading\n"
            "t = threading.Thread(target=print, args=('in thread',))\n"
            "t.start(); t.join()",
        ),
        Case("object", "object.__repr__"),
        Case(
            "redirect",
            "import contextlib, io\nb = io.StringIO()\n"
            "with contextlib.redirect_stdout(b):\n    print('x')\n    !echo y\n"
            "b.getvalue()",
        ),
        Case("help", "help(len)"),
        Case("set_trace off", "import sys\nsys.gettrace() is None"),
        Case(
            "doctest",
            "def f():\n    '''\n    >>> f()\n    3\n    '''\n    return 3\n"
            "import doctest\ndoctest.testmod()",
        ),
        Case("pprint", "%pprint", ("list(range(50))", "%pprint")),
        Case("interactivity", "get_ipython().ast_node_interactivity"),
        Case(
            "unittest",
            "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n"
            "        self.assertTrue(True)\n"
            "r = unittest.main(argv=[''], exit=False).result\nr.testsRun",
        ),
        Case(
            "latex",
            "import sympy\nsympy.init_printing()\nx = sympy.Symbol('x')\nsympy.Integral(x**2, x)",
        ),
    ],
}
PREPARE = """
import logging, sys
for module in list(sys.modules.values()):
    getattr(module, "__warningregistry__", {}).clear()
logging.root.handlers.clear()
get_ipython().history_manager.enabled = False  # it complains of numbers used twice
"""
WARM = ["numpy", "pandas", "matplotlib.pyplot", "sympy"]


def readable(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Outputs without what differs between two runs.

    ipykernel sends stdout and stderr each by itself, so between two displays their order
    means nothing there: all text of one stream comes first, then that of the other.
    """
    parts: list[dict[str, Any]] = []
    streams: dict[str, str] = {}

    def end_text() -> None:
        for name, text in sorted(streams.items()):
            parts.append({"output_type": "stream", "name": name, "text": text})
        streams.clear()

    for output in outputs:
        if output["output_type"] == "stream":
            name = output["name"]
            streams[name] = streams.get(name, "") + output["text"]
        else:
            end_text()
            parts.append({k: v for k, v in output.items() if k != "transient"})
    end_text()
    return [_readable(part) for part in parts]


def _readable(value: Any) -> Any:
    if isinstance(value, str):
        for pattern, name in (
            (FILE, "FILE"),
            (TIMES, "TIME"),
            (ADDRESS, "0x"),
            (PID, "pid"),
            (FOLDER, "/tmp"),
        ):
            value = pattern.sub(name, value)
        return value
    if isinstance(value, dict):
        return {k: _readable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_readable(v) for v in value]
    return value


@pytest.mark.timeout(300)  # the first figure builds a cache of fonts, in both
@pytest.mark.parametrize("group", CASES)
def test_a_cell_shows_what_it_shows_in_ipykernel(
    group: str, cells: Cells, kernel: RealKernel, tmp_path: Path
) -> None:
    """Same outputs, in the same order."""
    different = []
    for number, case in enumerate(CASES[group]):
        folders = tmp_path / f"{number}-there", tmp_path / f"{number}-here"
        for folder in folders:
            folder.mkdir()
        before = kernel.run(PREPARE).count
        assert before is not None
        there = kernel.run(case.cell.replace("{tmp}", str(folders[0])))
        code = case.cell.replace("{tmp}", str(folders[1]))
        here = cells.run(code, execution_count=before + 1, warm=WARM)
        expected, shown = readable(there.outputs), readable(here.shown.outputs)
        if shown != expected:
            different.append(f"{case.name}:\n  there: {expected}\n  here:  {shown}")
    assert not different, "\n".join(different)
