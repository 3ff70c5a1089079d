"""Jobs that build on jobs that were not gathered."""

from __future__ import annotations

from notebook import Notebook


def test_a_name_that_an_earlier_job_binds_is_read_there(notebook: Notebook) -> None:
    """Its value never passes through the kernel."""
    notebook.here("x = 1")
    first = notebook.submit("x = 2; f = lambda: x")
    second = notebook.submit("y = x + 1; z = f()", parents=[first])
    second.run()
    assert notebook["x"] == 1
    first.gather()
    second.gather()
    assert notebook.here("(x, y, z)") == (2, 3, 2)


def test_three_in_a_row_change_one_object(notebook: Notebook) -> None:
    """Changes in place add up in order, on the kernel's own object."""
    notebook.here("rows = [0]; mine = rows")
    first = notebook.submit("rows.append(1)")
    second = notebook.submit("rows.append(len(rows))", parents=[first])
    third = notebook.submit("rows.append(len(rows)); seen = [rows]", parents=[first, second])
    third.run()
    for job in (first, second, third):
        assert not job.gather().conflicts
    assert notebook["mine"] == [0, 1, 2, 3]
    assert notebook["seen"][0] is notebook["mine"]


def test_what_an_earlier_job_made_stays_one_object(notebook: Notebook) -> None:
    """A later result refers to the object of the earlier one, not to a copy."""
    first = notebook.submit("class P: pass\np = P(); p.x = [1]")
    second = notebook.submit("p.x.append(2); q = P(); holder = [p, p.x]", parents=[first])
    second.run()
    first.gather()
    second.gather()
    assert notebook.here("holder[0] is p and holder[1] is p.x and p.x == [1, 2]")
    assert notebook.here("type(q) is P")


def test_a_deleted_name_is_deleted_there(notebook: Notebook) -> None:
    """A job after one that deletes a name does not see it."""
    notebook.here("x = 1")
    first = notebook.submit("del x")
    second = notebook.submit("gone = 'x' not in globals()", parents=[first])
    second.gather()
    assert notebook["gone"] is True


def test_a_failed_name_is_not_brought_by_a_later_job(notebook: Notebook) -> None:
    """What a parent bound is not bound again by what builds on it."""
    first = notebook.submit("a = [1]")
    second = notebook.submit("b = len(a)", parents=[first])
    assert second.run().bound == ["b"]


def test_a_chain_reaches_a_fresh_kernel(notebook: Notebook) -> None:
    """Where nothing of the inputs is left, the chain's objects are still shared."""
    notebook.here("base = [1]")
    first = notebook.submit("base.append(2); a = [base]")
    second = notebook.submit("base.append(3); b = [base, a]", parents=[first])
    notebook.restart([first, second])
    first.gather()
    second.gather()
    assert notebook.here("base == [1, 2, 3] and a[0] is base")
    assert notebook.here("b[0] is base and b[1] is a")
