"""Torch's tensors: ``tox -e torch`` runs these, with a torch that is not among the test's needs."""

# ruff: noqa: E501 - a case is a line of its table

from __future__ import annotations

from dataclasses import dataclass

import pytest

from notebook import Notebook

torch = pytest.importorskip("torch")
# These cells run in forks of this very process, where threads that computed before the fork are
# no more. (A cell process is a fork of a template, which computes nothing.)
torch.set_num_threads(1)


@dataclass(frozen=True)
class Trip:
    """Cells before, the cell that runs elsewhere, and what is then true here."""

    name: str
    setup: str
    cell: str
    after: str


TRAIN = """
import torch
from torch import nn
torch.manual_seed(0)
X, y = torch.rand(32, 3), torch.rand(32, 1)
net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
opt = torch.optim.Adam(net.parameters(), lr=0.01)
weight = net[0].weight
view = weight.data
seen = weight.detach().clone()
"""
STEPS = """
for _ in range(5):
    opt.zero_grad()
    loss = ((net(X) - y) ** 2).mean()
    loss.backward()
    opt.step()
final = weight.detach().clone()
"""
T = "import torch; "

TRIPS = [
    Trip("training", TRAIN, STEPS, "net[0].weight is weight and opt.param_groups[0]['params'][0] is weight and torch.equal(weight, final) and not torch.equal(weight, seen) and len(opt.state) == 4"),
    Trip("views follow", TRAIN, STEPS, "torch.equal(view, weight.data) and view.data_ptr() == weight.data_ptr()"),
    Trip("the gradient comes back", TRAIN, STEPS, "weight.grad is not None and weight.grad.shape == weight.shape"),
    Trip("going on here", TRAIN, STEPS, "[opt.zero_grad(), ((net(X) - y) ** 2).mean().backward(), opt.step()] and not torch.equal(weight, final)"),
    Trip("a gradient goes along", T + "w = torch.ones(2, requires_grad=True); (3 * w).sum().backward()", "g = w.grad.tolist()", "g == [3.0, 3.0] and w.grad.tolist() == g"),
    Trip("a gradient that is kept", T + "w = torch.ones(2, requires_grad=True); (3 * w).sum().backward(); g = w.grad", "w.grad.mul_(2)", "g is w.grad and g.tolist() == [6.0, 6.0]"),
    Trip("a gradient taken away", T + "w = torch.ones(2, requires_grad=True); (3 * w).sum().backward()", "w.grad = None", "w.grad is None"),
    Trip("unchanged is the same", T + "t = torch.arange(5); u = t", "l = [t, t[1:]]", "l[0] is t is u and l[1].tolist() == [1, 2, 3, 4]"),
    Trip("changed through a slice", T + "t = torch.zeros(2, 3); part = t[0]", "part[1] = 7", "t[0, 1] == 7 and part[1] == 7 and part.data_ptr() == t.data_ptr()"),
    Trip("made in the cell, one memory", T, "a = torch.zeros(3); b = a[1:]", "[b.fill_(5)] and a.tolist() == [0, 5, 5]"),
    Trip("another shape", T + "t = torch.zeros(2); u = t", "t.data = torch.ones(5)", "t is u and t.tolist() == [1.0] * 5"),
    Trip("frozen in the cell", TRAIN, "for p in net.parameters(): p.requires_grad_(False)", "not any(p.requires_grad for p in net.parameters()) and net[0].weight is weight"),
    Trip("kinds of numbers", T + "ts = [torch.tensor([1.5, 2], dtype=torch.bfloat16), torch.tensor([True]), torch.tensor([1j]), torch.tensor(3), torch.empty(0, 2), torch.arange(6).reshape(2, 3).T]", "us = [t.clone() for t in ts]; ts[3] += 1; ts[5][0, 0] = 9", "[str(u.dtype) for u in us] == [str(t.dtype) for t in ts] and ts[3] == 4 and us[3] == 3 and ts[5].tolist() == [[9, 3], [1, 4], [2, 5]] and us[0].tolist() == [1.5, 2.0] and us[4].shape == (0, 2)"),
    Trip("attributes", T + "t = torch.ones(1); t.label = ['a']; l = t.label", "t.label.append('b'); t.more = 1", "t.label is l and l == ['a', 'b'] and t.more == 1"),
    Trip("sparse ones go torch's way", T + "s = torch.eye(2).to_sparse()", "d = s.to_dense()", "d.tolist() == [[1, 0], [0, 1]]"),
    Trip("a large one", T + "big = torch.zeros(300_000); same = torch.ones(300_000)", "big[5] = 1; total = same.sum().item()", "big[5] == 1 and big.sum() == 1 and total == 300_000"),
    Trip("a computed one comes detached", T + "w = torch.ones(2, requires_grad=True)", "loss = (w * 2).sum()", "loss.item() == 4 and not loss.requires_grad"),
]  # fmt: skip


@pytest.mark.parametrize("trip", TRIPS, ids=lambda trip: trip.name)
def test_it_is_as_if_the_cell_had_run_here(notebook: Notebook, trip: Trip) -> None:
    """Identity, memory, gradients and numbers are those that running the cell here would leave."""
    notebook.here(trip.setup)
    job = notebook.submit(trip.cell)
    assert not job.gather().conflicts
    assert job.load().error is None
    assert notebook.here(trip.after)


def test_one_that_nobody_changed_is_not_sent_back(notebook: Notebook) -> None:
    """Reading a tensor changes nothing, so that nothing of it travels."""
    notebook.here("import torch; t = torch.rand(300_000)")
    assert notebook.submit("total = t.sum().item()").run().mutated == []


@pytest.mark.parametrize(
    "meanwhile", ["t[0] = 5", "t.grad = torch.ones(3)", "t.requires_grad_(False)"]
)
def test_a_change_on_both_sides_is_a_conflict(notebook: Notebook, meanwhile: str) -> None:
    """What was done here since is not overwritten, and told by name."""
    notebook.here("import torch; t = torch.zeros(3)")
    if "requires" in meanwhile:
        notebook.here("t.requires_grad_()")
    job = notebook.submit("with torch.no_grad(): t[1] = 7")
    notebook.here(f"with torch.no_grad(): {meanwhile}")
    before = notebook["t"].tolist()
    assert "t" in str(job.gather().conflicts)
    assert notebook["t"].tolist() == before
