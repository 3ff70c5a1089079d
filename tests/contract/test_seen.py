"""Lines 22 to 27 where a plain run has no counterpart: streaming, ends, questions, floods."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .driving import WAIT, do, let_go, shown, submit, until_printed, value
from .kernels import RemoteKernel

pytestmark = pytest.mark.timeout(300)


@pytest.mark.contract(22)
def test_output_is_there_while_the_cell_runs(kernel: RemoteKernel) -> None:
    """What a job printed can be read before it ends."""
    submit(kernel, "talker", "print('early')\n" + WAIT.format("go") + "print('late')")
    until_printed(kernel, "early")
    assert value(kernel, "'late' in str(job.outputs)") is False
    let_go(kernel, "go")
    said = do(kernel, "%async_gather talker")
    assert said.index("early") < said.index("late")


@pytest.mark.contract(22)
def test_the_channels_keep_their_order(kernel: RemoteKernel) -> None:
    """stdout, stderr and displays come in the order in which Python wrote them."""
    cell = (
        "import sys\n"
        "for i in range(5):\n"
        "    print('out', i); print('err', i, file=sys.stderr); display(i)"
    )
    submit(kernel, "order", cell)
    execution = kernel.execute("%async_gather order")
    kinds = [
        m["content"].get("name", m["msg_type"])
        for m in execution.messages
        if m["msg_type"] in ("stream", "display_data")
    ]
    assert kinds == ["stdout", "stderr", "display_data"] * 5


@pytest.mark.contract(24)
def test_an_exception_can_be_caught_around_a_gather(kernel: RemoteKernel) -> None:
    """`except` with the exception's own class works in a script."""
    do(kernel, "class Own(LookupError): pass")
    submit(kernel, "raiser", "raise Own('x')")
    do(
        kernel,
        "try:\n    get_ipython().run_line_magic('async_gather', 'raiser')\n"
        "except Own as error:\n    caught = error",
    )
    assert value(kernel, "type(caught) is Own, caught.args") == (True, ("x",))


@pytest.mark.contract(24)
def test_ways_to_end_are_told_apart(kernel: RemoteKernel) -> None:
    """`SystemExit`, `KeyboardInterrupt` and a process that dies say what they are."""
    for name, code, word in (
        ("leaver", "import sys; sys.exit(3)", "SystemExit"),
        ("interrupted", "raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("dead", "import os; os._exit(7)", "7"),
        ("killed", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "9|SIGKILL"),
    ):
        submit(kernel, name, code)
        told = shown(kernel.execute(f"%async_gather {name}"))
        assert re.search(word, told), (name, told)


@pytest.mark.contract(25)
@pytest.mark.parametrize(
    "question",
    [
        "input('?')",
        "__import__('getpass').getpass()",
        "breakpoint()",
        "__import__('pdb').set_trace()",
    ],
)
def test_questions_are_errors(kernel: RemoteKernel, question: str) -> None:
    """Nobody is there to answer: a clear error, not a hang."""
    submit(kernel, "asker", f"x = 1\n{question}\ny = 2")
    gathered = kernel.execute("%async_gather asker")
    assert not gathered.ok
    assert value(kernel, "x") == 1


FLOODS = {
    "bytes": "print('x' * 10_000_000)",
    "lines": "for i in range(1_000_000): print(i)",
    "rubbish": "import os\nfor _ in range(40): os.write(1, os.urandom(250_000))",
}


@pytest.mark.contract(27)
@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_is_bounded(kernel: RemoteKernel, server_folder: Path, flood: str) -> None:
    """Head and tail are kept, what was dropped is counted, and the cell's result is there."""
    journal = next((server_folder / "state").rglob("journal.sqlite"))
    before = journal.stat().st_size
    submit(kernel, f"flood-{flood}", f"{FLOODS[flood]}\nprint('the very end')\nn = 1")
    gathered = kernel.execute(f"%async_gather flood-{flood}")
    assert gathered.ok, gathered.error
    text = shown(gathered)
    assert len(text) < 9_000_000
    assert "the very end" in text[-2000:]
    if flood != "lines" or len(text) < 6_888_890:
        assert re.search(r"\d[\d,.]* ?([kMG]i?)?B|bytes", text)
    assert value(kernel, "n") == 1
    assert journal.stat().st_size - before < 25_000_000


@pytest.mark.contract(23)
def test_help_goes_to_the_pager_and_load_to_the_next_cell(kernel: RemoteKernel) -> None:
    """A gather sends the front end what the cell would have sent it; nothing of it is output."""
    do(kernel, "open('text.py', 'w').write('a = 1')")
    for name, code in (("asked", "len?"), ("loaded", "%load text.py")):
        submit(kernel, name, code)
    asked, loaded = (kernel.execute(f"%async_gather {name}") for name in ("asked", "loaded"))
    assert [p["source"] for p in asked.reply["payload"]] == ["page"]
    assert "number of items" in asked.reply["payload"][0]["data"]["text/plain"]
    (payload,) = loaded.reply["payload"]
    assert (payload["source"], payload["replace"]) == ("set_next_input", False)
    assert payload["text"].endswith("a = 1")
    assert shown(asked) == shown(loaded) == ""
