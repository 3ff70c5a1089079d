"""Jobs as plain values: states, messages, payloads."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any

import pytest

from dask_async_run.job import JobResult, JobSpec, JobView, Payload, State
from dask_async_run.messages import pack, unpack

SPEC = JobSpec(
    id=uuid.uuid4().hex,
    notebook="a.ipynb",
    name="train",
    source="%%async_run\nx = 1",
    code="\nx = 1",
    filename="<cell>",
    execution_count=3,
    inputs=Payload(b"stream", [["d", 3]]).to_message(),
    input_names=[["x", "int", 28]],
    after=["b" * 32],
    resources={"GPU": 1.0},
    timeout=2.5,
)
RESULT = JobResult(
    payload=Payload(b"\x00\xff").to_message(), bound=["x"], failed={"y": "lock"}, nbytes=2
)
VIEW = JobView("i", "n", "m", result=RESULT.to_message(), input_names=[["x", "int", 28]])


@pytest.mark.parametrize("state", State)
def test_only_pending_and_running_are_not_ends(state: State) -> None:
    """DESIGN.md: a terminal state never changes; five of the seven are terminal."""
    assert state.terminal == (state.value not in ("pending", "running"))


@pytest.mark.parametrize("record", [SPEC, RESULT, VIEW, Payload(b"x", [["d", 1]], ["e", 2])])
def test_a_record_survives_as_a_packed_message(
    record: JobSpec | JobResult | JobView | Payload,
) -> None:
    """What crosses a process comes back equal, lists as lists."""
    assert type(record).from_message(unpack(pack(record.to_message()))) == record


@pytest.mark.parametrize("record", [SPEC, RESULT, VIEW])
def test_messages_of_other_versions_are_readable(record: JobSpec | JobResult | JobView) -> None:
    """Unknown keys are ignored; keys with a default may be missing."""
    message = {**record.to_message(), "from the future": 1}
    assert type(record).from_message(message) == record
    needed = {
        f.name
        for f in dataclasses.fields(record)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    old = {key: value for key, value in message.items() if key in needed}
    assert type(record).from_message(old).to_message().keys() == record.to_message().keys()


def test_a_record_is_not_changed_through_its_message() -> None:
    """`to_message` copies: who packs a message owns it."""
    SPEC.to_message()["after"].append("c")
    assert SPEC.after == ["b" * 32]


@pytest.mark.parametrize(
    ("payload", "nbytes", "digests"),
    [
        (Payload(), 0, []),
        (Payload(b"abc"), 3, []),
        (Payload(b"abc", [["d", 10], ["e", 5]]), 18, ["d", "e"]),
        (Payload(b"", [["d", 10]], ["s", 7]), 17, ["d", "s"]),
    ],
)
def test_a_payload_knows_its_size_and_frames(
    payload: Payload, nbytes: int, digests: list[str]
) -> None:
    """The stream counts once, wherever it is."""
    assert (payload.nbytes, payload.digests) == (nbytes, digests)


def test_a_view_is_called_by_name_or_by_version() -> None:
    """The name alone means the latest."""
    assert JobView("i", "n", "train", version=2).label == "train"
    assert JobView("i", "n", "train", version=1, latest=False).label == "train@1"


@pytest.mark.parametrize("value", [None, 2**63, -1.5, b"\xff", "\udcff é", [1, [2]], {"a": {1: 2}}])
def test_packing_keeps_what_pythons_text_can_hold(value: object) -> None:
    """Also lone surrogates, which file names and texts of exceptions have."""
    assert unpack(pack(value)) == value


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"ename": "KeyError", "evalue": "'x'"}, "KeyError: 'x'"),
        ({"ename": "KeyboardInterrupt"}, "KeyboardInterrupt"),
        ({"ename": "KeyboardInterrupt", "reason": "ran longer than 2 s"}, "ran longer than 2 s"),
        ({"ename": "KeyError", "evalue": "1", "reason": "cancelled"}, "KeyError: 1"),
        ({"reason": "its worker died"}, "its worker died"),
        ({"state": "cancelled", "reason": "cancelled; stopped by SIGINT"}, "stopped by SIGINT"),
        ({"state": "cancelled", "reason": "cancelled before it ran"}, "cancelled before it ran"),
        ({}, ""),
    ],
)
def test_a_view_tells_why(facts: dict[str, Any], why: str) -> None:
    """An interrupt that came from outside is no news; why it came is."""
    assert JobView("i", "n", "train", **facts).why == why
