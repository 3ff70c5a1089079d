"""The place of a live card: an output of one cell, which is brought up to date from a thread.

With ipywidgets it is a widget: a page that is loaded again asks the kernel for it and
has it back. Without, an HTML display that a page forgets how to update when it is loaded
again. Either way it has a display id, and ends as plain HTML that a saved notebook keeps.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Protocol

from dask_async_run.kernel.live_bell import asking, ringing
from dask_async_run.kernel.live_card import Card
from dask_async_run.kernel.live_keeper import WIDGET, make_keeper

Bundle = dict[str, Any]


class Place(Protocol):
    """Where one card is shown. `begin` is for the kernel's main thread, the rest for any one."""

    def begin(self, card: Card, html: str, text: str) -> None:
        """Display the card; `html` and `text` are for who cannot see it, or not any more."""

    def show(self, card: Card) -> None:
        """Bring it up to date."""

    def end(self, card: Card, text: str, over: bool) -> None:
        """Show the last card; nobody can press anything any more.

        Parameters
        ----------
        card : Card
        text : str
            What it says, without HTML.
        over : bool
            The job has ended just now, which whoever wants to be notified is.
        """


class Output:
    """An output of the cell that runs when it is made, known by its display id.

    Parameters
    ----------
    shell : InteractiveShell
        Of ipykernel.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._kernel = shell.kernel
        # Otherwise an update would belong to whatever cell runs when it is sent.
        self._parent = self._kernel.get_parent()
        self._transient = {"display_id": uuid.uuid4().hex}

    def display(self, bundle: Bundle) -> None:
        self._shell.display_pub.publish(data=bundle, metadata={}, transient=self._transient)

    def update(self, bundle: Bundle) -> None:
        # Not by the display publisher: it flushes the streams of the cell that runs now.
        self._kernel.session.send(
            self._kernel.iopub_socket,
            "update_display_data",
            {"data": bundle, "metadata": {}, "transient": self._transient},
            parent=self._parent,
            ident=b"display_data",
        )


class HtmlPlace:
    """A display of HTML."""

    def __init__(self, shell: Any) -> None:
        self._output = Output(shell)
        self._text = ""
        self._shown = ""

    def begin(self, card: Card, html: str, text: str) -> None:
        self._text = text
        self._output.display(self._bundle(card))

    def show(self, card: Card) -> None:
        if card.html != self._shown:
            self._output.update(self._bundle(card))

    def end(self, card: Card, text: str, over: bool) -> None:
        self._output.update({"text/plain": text, "text/html": card.html})

    def _bundle(self, card: Card) -> Bundle:
        self._shown = card.html
        # A page that is loaded again goes on showing what was saved.
        seen = f'<small style="opacity:.7">as of {time.strftime("%H:%M:%S")}</small>'
        return {"text/plain": self._text, "text/html": self._shown + seen}


class WidgetPlace:
    """A widget with buttons.

    Parameters
    ----------
    shell : InteractiveShell
    model : str
        The widget's id, empty for any one. No other widget of this kernel has it.
    cancel, gather : callable
        What the buttons do. Called in the kernel's main thread between cells or, where a
        front end asks for it, in a thread of a subshell: they must not wait.
    notify : bool
        Whether the browser is to tell the end.
    revived : bool
        An earlier kernel has shown it, and it is not shown by this one.
    """

    def __init__(
        self,
        shell: Any,
        model: str,
        cancel: Callable[[], None],
        gather: Callable[[], None],
        notify: bool,
        revived: bool = False,
    ) -> None:
        import ipywidgets

        self._shell = shell
        self._bell = ipywidgets.HTML(asking(), layout={"margin": "0"}) if notify else None
        self._output: Output | None = None
        self._head, self._facts, self._bar, self._text, self._picture = (
            ipywidgets.HTML(layout={"margin": "0"}) for _ in range(5)
        )
        self._head.layout.flex = "1 1 auto"
        self._buttons = [
            self._button(ipywidgets, "Gather when done", "before the next cell runs", gather),
            self._button(ipywidgets, "Cancel", "stop the cell", cancel),
        ]
        asked = [self._bell] if self._bell is not None else []
        self._top = ipywidgets.HBox([self._head, *asked, *self._buttons])
        self._top.layout = {"align_items": "flex-start", "overflow": "visible"}
        self._box = ipywidgets.VBox(
            [self._top, self._facts, self._bar, self._text, self._picture],
            layout={"padding": "2px 10px", "overflow": "visible"},
            **({"model_id": model} if model else {}),
        )
        self._keeper = make_keeper(self._box.model_id, revived)

    def _button(self, ipywidgets: Any, label: str, tooltip: str, press: Callable[[], None]) -> Any:
        button = ipywidgets.Button(
            description=label,
            tooltip=tooltip,
            layout={
                "width": "auto",
                "height": "24px",
                "flex": "0 0 auto",
                "margin": "1px 0 1px 6px",
            },
        )
        button.style.font_size = "12px"

        def pressed(_: object) -> None:
            button.disabled = True
            press()

        button.on_click(pressed)
        return button

    def begin(self, card: Card, html: str, text: str) -> None:
        self.show(card)
        self._output = Output(self._shell)
        self._output.display(
            {
                "text/plain": text,
                "text/html": html,
                WIDGET: {
                    "version_major": 2,
                    "version_minor": 0,
                    "model_id": self._box.model_id,
                },
            }
        )

    def show(self, card: Card) -> None:
        # A part that stays the same is not sent: what is selected in it stays selected.
        for widget, html in (
            (self._head, card.head),
            (self._facts, card.facts),
            (self._bar, card.bar),
            (self._text, card.text),
            (self._picture, card.picture),
        ):
            if widget.value != html:
                widget.value = html
            display = None if html else "none"
            if widget.layout.display != display:
                widget.layout.display = display
        border = f"3px solid {card.colour}"
        if self._box.layout.border_left != border:
            self._box.layout.border_left = border

    def end(self, card: Card, text: str, over: bool) -> None:
        # The widget stays as it ends: a page that was loaded again does not know the display
        # id, and shows it. Any other one shows what needs no kernel.
        if self._bell is not None and over:
            first, *_, last = text.splitlines()
            self._bell.value = ringing(first, last.strip(), self._box.model_id)
            self._bell.value = ""  # or a page that is loaded again notifies again
        self._top.children = [self._head]
        self.show(card)
        bundle = {"text/plain": text, "text/html": card.html}
        if self._output is not None:
            self._output.update(bundle)
        if self._keeper is not None:
            self._keeper.last = bundle


def make_place(
    shell: Any, job: str, cancel: Callable[[], None], gather: Callable[[], None], notify: bool
) -> Place:
    """Answer a place under the cell that runs now, for a job (by its id)."""
    if not widgets_there():
        return HtmlPlace(shell)
    return WidgetPlace(shell, "" if _is_taken(job) else job, cancel, gather, notify)


def find_place(
    shell: Any, job: str, cancel: Callable[[], None], gather: Callable[[], None], notify: bool
) -> Place | None:
    """Answer the place where an earlier kernel of this notebook showed a job.

    The page names the widget in its output. A widget of that name made here is what the
    page finds when it is loaded again; without it, it would show an error there. None: this
    kernel has one, or cannot.
    """
    if not widgets_there() or _is_taken(job):
        return None
    return WidgetPlace(shell, job, cancel, gather, notify, revived=True)


def widgets_there() -> bool:
    """Answer whether cards are widgets."""
    return find_spec("ipywidgets") is not None


def _is_taken(model: str) -> bool:
    # The widget of that name would be collected, and with it go the new one in the page.
    module = sys.modules.get("ipywidgets.widgets.widget")
    return model in getattr(module, "_instances", {})
