"""The bell of a live card: HTML by which a page has its browser notify. Pure.

A plain HTML widget runs no script, but the handlers of its elements: that of an image which
cannot be loaded runs as soon as it is there. Browsers ask for permission only at a click.
"""

from __future__ import annotations

import json
from html import escape

_ASK = """\
const b=this.previousElementSibling;this.remove();
const say=()=>{const p=!window.Notification||!window.isSecureContext?'none':Notification.permission;
b.disabled=p!=='default';
b.textContent={granted:'Will notify',denied:'Notifications blocked',none:'Cannot notify',\
default:'Notify me'}[p];
b.title={granted:'by a notification of the browser, while this page is open',
denied:'allow notifications for this site in the settings of the browser',
none:'browsers notify only from https:// and localhost',
default:'by a notification of the browser, when the job ends'}[p];};
b.onclick=()=>Notification.requestPermission().then(say);say();"""

_RING = """\
this.remove();if(window.Notification&&Notification.permission==='granted'){{
const n=new Notification({title},{{body:{body},tag:{tag}}});
n.onclick=()=>{{window.focus();n.close();}};}}"""

_BUTTON = "width:auto;height:24px;margin:1px 0 1px 6px;font-size:12px"


def asking() -> str:
    """Answer a button that asks for permission, or says how it stands."""
    return (
        f'<button type="button" class="lm-Widget jupyter-widgets jupyter-button widget-button" '
        f'style="{_BUTTON}"></button>{_at_once(_ASK)}'
    )


def ringing(title: str, body: str, tag: str) -> str:
    """Answer what notifies as soon as it is shown.

    Parameters
    ----------
    title, body : str
    tag : str
        Of two notifications with the same one, the second is not noticed: several pages may
        show the card.
    """
    words = {name: json.dumps(text) for name, text in (("title", title), ("body", body))}
    return _at_once(_RING.format(**words, tag=json.dumps(tag)))


def _at_once(script: str) -> str:
    return f'<img src="data:," alt="" hidden onerror="{escape(script)}">'
