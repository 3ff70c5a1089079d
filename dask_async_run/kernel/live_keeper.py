"""The keeper of a live card: a script in the page that has it show what is so.

It puts the summary into the notebook, and takes away the buttons of a kernel that has gone.

JupyterLab lets a kernel change an output by its display id, but forgets the ids when the
page is loaded again. A widget's script reaches the page's notebook in any case. It shows
nothing; where the front end has no notebook for it (VS Code, Colab), it does nothing.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

WIDGET = "application/vnd.jupyter.widget-view+json"

# `context` is JupyterLab's and Notebook 7's, of a widget manager that belongs to a notebook.
_SCRIPT = (
    f"const KIND = '{WIDGET}';\n"
    """\
async function keep(model, anew) {
  const context = model.widget_manager?.context;
  await context?.ready;
  const last = model.get('last');
  for (const cell of context?.model?.cells ?? []) {
    const outputs = cell.type === 'code' ? cell.outputs : {length: 0};
    for (let i = 0; i < outputs.length; i++) {
      const output = outputs.get(i).toJSON();
      if (output.data?.[KIND]?.model_id !== model.get('card')) continue;
      if (last) outputs.set(i, {...output, data: last, metadata: {}});
      else if (anew) {
        // What is shown there is of a kernel that has gone: it is made again.
        outputs.set(i, {...output, data: {}});
        outputs.set(i, output);
      }
    }
  }
}
async function lose(model) {
  const card = await model.widget_manager.get_model(model.get('card'));
  // All widgets of a kernel that goes are told so, one after the other.
  await new Promise(done => setTimeout(done, 100));
  if (card.comm_live || model.get('last')) return;
  const [top] = card.get('children');
  const [head] = top.get('children');
  if (head.get('value').endsWith(model.get('lost'))) return;
  card.set('_dom_classes', [model.get('mark')]);
  head.set('value', head.get('value') + model.get('lost'));
  top.set('children', [head]);
}
export default {
  initialize({model}) {
    model.on('comm_live_update', () => lose(model));
    const again = () => keep(model, false);
    // A cell that was deleted, and is put back, has what its card was then.
    const cells = model.widget_manager?.context?.model?.cells?.changed;
    cells?.connect(again);
    model.on('change:last', again);
    keep(model, model.get('revived'));
    return () => cells?.disconnect(again);
  },
};
"""
)


_MARK = "dask-async-run-lost"
# The page marks each part of a card whose kernel has gone with a broken link, and says no more.
_LOST = (
    f"<style>.{_MARK}::before, .{_MARK} .jupyter-widgets-disconnected::before "
    "{display: none !important}</style>"
    '<div style="font-size:90%;line-height:1.45"><i>as it was when the kernel ended, which ends no '
    "job:</i> <code>%load_ext dask_async_run</code> <i>and</i> <code>%async_run_server</code> "
    "<i>show it again</i></div>"
)


def make_keeper(card: str, revived: bool) -> Any:
    """Answer the keeper of a card, after it was made; None: anywidget is not there.

    Setting its `last` to a MIME bundle puts that where the card is.

    Parameters
    ----------
    card : str
        The widget's id.
    revived : bool
        An earlier kernel has shown it: it takes the place of what is left of that.
    """
    there = find_spec("anywidget") is not None
    return _kind()(card=card, revived=revived) if there else None


@cache
def _kind() -> Any:
    import anywidget
    from traitlets import Bool, Dict, Unicode

    class Keeper(anywidget.AnyWidget):
        _esm = _SCRIPT
        card = Unicode().tag(sync=True)
        revived = Bool().tag(sync=True)
        mark = Unicode(_MARK).tag(sync=True)
        lost = Unicode(_LOST).tag(sync=True)
        last = Dict(default_value=None, allow_none=True).tag(sync=True)

    return Keeper
