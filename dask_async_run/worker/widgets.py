"""Widgets (ipywidgets, ``tqdm.notebook``, rich's live displays) as what can be recorded.

A widget's model lives in this process and ends with it, so no front end could show it.
It is shown as its text, which is brought up to date while the cell runs and at its end; one that
is closed is not shown any more.
What is displayed in the context of an ``Output`` widget is shown in the cell; clearing
that widget replaces what was displayed in it, and nothing else.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from IPython.lib.pretty import pretty

MIME = "application/vnd.jupyter.widget-view+json"
INTERVAL = 0.5
"""Seconds between two looks at the widgets' texts at least."""

_ENDED = ("success", "danger")
"""Styles of a bar that has come to its end."""

Output = dict[str, Any]


class Widgets:
    """The widgets of a cell process.

    Parameters
    ----------
    send : callable
        Sends an output.
    """

    def __init__(self, send: Callable[[Output], None]) -> None:
        self._send = send
        self._shown: dict[str, str] = {}
        self._touched: set[str] = set()
        self._looked = 0.0
        self._regions: dict[str, _Region] = {}
        self._busy = False

    def install(self) -> None:
        """Be the front end of comms made in this process, if there is the package for it."""
        try:
            import comm
            from comm.base_comm import BaseComm
        except ImportError:
            return
        widgets = self

        class CellComm(BaseComm):
            """Leads nowhere; what is sent tells what happens to widgets."""

            # ipywidgets asks it who runs the cell when an `Output` is entered.
            kernel = _Kernel()

            def publish_msg(self, msg_type: str, data: Any = None, *args: Any, **keys: Any) -> None:
                if msg_type == "comm_close":
                    widgets._on_closed(self.comm_id)
                elif isinstance(data, dict) and data.get("method") == "update":
                    widgets._on_state(self.comm_id, data.get("state") or {})

        comm.create_comm = CellComm

    def shown(self, output: Output) -> Output | None:
        """Return an output as it is to be recorded; None: there is nothing to see.

        Parameters
        ----------
        output : dict
            A display; its data may hold a widget's view.
        """
        view = output["data"].pop(MIME, None)
        if isinstance(view, dict) and "model_id" in view and "text/plain" in output["data"]:
            model = str(view["model_id"])
            widget = live_models().get(model)
            text = self._shown[model] = _text(widget, output["data"]["text/plain"])
            if not text:
                return None
            output["data"]["text/plain"] = text
            if "transient" in output:
                output["transient"].setdefault("display_id", _display_id(model))
        region = self._region
        if region is not None and output["output_type"] == "display_data":
            region.place(output)
        return output

    def cleared(self) -> bool:
        """Note that output is cleared; whether that is an ``Output`` widget's affair."""
        region = self._region
        if region is None:
            return False
        region.cleared = True
        return True

    def refresh(self) -> None:
        """Update the texts of displayed widgets that have changed.

        Those alone that something was done to, or to a part of them: the text of a bar says how
        long ago it began, also when it has ended.
        """
        self._looked = time.monotonic()
        touched, self._touched = self._touched, set()
        models = live_models()
        self._busy = True
        try:
            for model, before in list(self._shown.items()):
                if model not in models or model in self._regions:
                    continue
                if touched.isdisjoint(_parts(models[model])):
                    continue
                text = _text(models[model], before)
                if text != before:
                    self._shown[model] = text
                    self._show(model, text, is_new=not before)
        finally:
            self._busy = False

    def _show(self, model: str, text: str, is_new: bool) -> None:
        self._send(
            {
                "output_type": "display_data" if is_new else "update_display_data",
                "data": {"text/plain": text},
                "metadata": {},
                "transient": {"display_id": _display_id(model)},
            }
        )

    @property
    def _region(self) -> _Region | None:
        """The innermost ``Output`` widget in whose context the cell is."""
        active = [region for region in self._regions.values() if region.active]
        return active[-1] if active else None

    def _on_state(self, model: str, state: dict[str, Any]) -> None:
        if "msg_id" in state:
            region = self._regions.pop(model, None) or _Region(model)
            region.active = bool(state["msg_id"])
            self._regions[model] = region
        self._touched.add(model)
        due = time.monotonic() > self._looked + INTERVAL or state.get("bar_style") in _ENDED
        if self._shown and not self._busy and due:
            self.refresh()

    def _on_closed(self, model: str) -> None:
        """Leave nothing of a widget that is closed: a front end takes its views away.

        tqdm's bars that are not to stay (``leave=False``) go so.
        """
        if self._shown.pop(model, ""):
            self._show(model, "", is_new=False)


class _Region:
    """What was displayed in the context of one ``Output`` widget."""

    def __init__(self, model: str) -> None:
        self.active = False
        self.cleared = False
        self._name = f"output-{model}"
        self._used = False

    def place(self, output: Output) -> None:
        """Make a display take the place of the one before, if that was cleared."""
        if "display_id" in output["transient"]:
            return
        if self.cleared and self._used:
            output["output_type"] = "update_display_data"
        self.cleared = False
        self._used = True
        output["transient"]["display_id"] = self._name


class _Kernel:
    """As much of a kernel as an ``Output`` widget asks for."""

    def get_parent(self) -> dict[str, Any]:
        return {"header": {"msg_id": "cell"}}


def live_models() -> Mapping[str, Any]:
    """Answer the widgets that there are, by their models' ids."""
    found: Mapping[str, Any] = getattr(
        sys.modules.get("ipywidgets.widgets.widget"), "_instances", {}
    )
    return found


def _text(widget: Any, before: str) -> str:
    """Answer a widget's text: as IPython prints it, where it has a way of its own (tqdm's bar).

    An ``Output`` widget with nothing in it is a place, and has none.
    """
    if type(widget).__name__ == "Output" and not getattr(widget, "outputs", True):
        return ""
    try:
        if hasattr(widget, "_repr_pretty_"):
            return str(pretty(widget))
        return str(widget._repr_mimebundle_()["text/plain"])
    except Exception:  # noqa: BLE001 - a part of it may be gone already: tqdm's bar after an error
        return before


def _parts(widget: Any) -> set[str]:
    """Ids of a widget's model, and of all that it consists of."""
    found: dict[str, Any] = {}
    waiting = [widget]
    while waiting:
        part = waiting.pop()
        model = getattr(part, "model_id", None)
        if isinstance(model, str) and model not in found:
            found[model] = part
            waiting += getattr(part, "children", ())
    return set(found)


def _display_id(model: str) -> str:
    return f"widget-{model}"
