"""Torch's tensors: how they travel, and how they are changed in place.

Torch's own pickle of a tensor leaves its gradient out, is other bytes every time (so that
nobody can tell whether it changed), and copies its numbers into the stream. Here a dense
tensor in the machine's memory goes as its storage, seen as an array of numpy, and as what
of it the tensor is: large ones leave the stream out of band, and tensors that share memory
share it afterwards. All others (on a GPU, sparse, quantised, of a class of their own) go
torch's way.

The graph by which ``loss.backward()`` finds its way back stays where it was made: a tensor
that was computed arrives as its numbers, detached, and torch says so when it is asked for
more.

Torch is only looked for in ``sys.modules``: who has not imported it has no tensors.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

from dask_async_run.namespace.kinds import Kind, NotInPlace, Undo, same_items


def tensor_types() -> tuple[type, ...]:
    """Answer the classes of tensors that go this way."""
    torch = sys.modules.get("torch")
    nn = sys.modules.get("torch.nn")
    if not hasattr(torch, "Tensor") or not hasattr(nn, "Parameter"):
        return ()  # not imported, or just being imported
    return (torch.Tensor, nn.Parameter)  # type: ignore[union-attr]


def is_dense(tensor: Any) -> bool:
    """Whether a tensor is made of numbers that lie in this machine's memory."""
    torch: Any = sys.modules["torch"]
    return bool(
        tensor.device.type == "cpu"
        and tensor.layout is torch.strided
        and not (tensor.is_quantized or tensor.is_conj() or tensor.is_neg())
        and not tensor._backward_hooks
    )


def _gradient(tensor: Any) -> Any:
    # That of a computed tensor is none, and torch warns who asks for it.
    return tensor.grad if tensor.is_leaf else None


# -- in a stream -----------------------------------------------------------------------


class Storages:
    """The storages of a stream's tensors, each as one array."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], Any] = {}

    def array(self, tensor: Any) -> Any:
        """Answer the bytes of a tensor's storage, as an array that shares its memory."""
        torch: Any = sys.modules["torch"]
        storage = tensor.untyped_storage()
        key = storage.data_ptr(), storage.nbytes()
        if key not in self._seen:
            self._seen[key] = torch.empty(0, dtype=torch.uint8).set_(storage).numpy()
        return self._seen[key]


def reduce_tensor(tensor: Any, storages: Storages) -> Any:
    """Reduce a tensor as `pickle` wants it; NotImplemented for one that goes torch's way."""
    if not is_dense(tensor):
        return NotImplemented
    made = (
        type(tensor) is not sys.modules["torch"].Tensor,
        storages.array(tensor),
        str(tensor.dtype).removeprefix("torch."),
        tensor.storage_offset(),
        tuple(tensor.shape),
        tensor.stride(),
        tensor.requires_grad and tensor.is_leaf,
    )
    gradient, attributes = _gradient(tensor), dict(vars(tensor))
    if gradient is None and not attributes:
        return make_tensor, made
    return make_tensor, made, (gradient, attributes), None, None, set_tensor_state


def make_tensor(
    is_parameter: bool,
    array: Any,
    dtype: str,
    offset: int,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool,
) -> Any:
    """Make a tensor in an array's memory."""
    import torch  # here: most notebooks have none

    storage = torch.from_numpy(array if array.flags.writeable else array.copy()).untyped_storage()
    tensor = torch.empty(0, dtype=getattr(torch, dtype)).set_(storage, offset, shape, stride)
    if is_parameter:
        return torch.nn.Parameter(tensor, requires_grad)
    return tensor.requires_grad_(requires_grad)


def set_tensor_state(tensor: Any, state: tuple[Any, dict[str, Any]]) -> None:
    """Give a tensor its gradient, and what somebody wrote onto it."""
    gradient, attributes = state
    if gradient is not None:
        tensor.grad = gradient
    vars(tensor).update(attributes)


# -- changed in place --------------------------------------------------------------------


def tensor_kind(fingerprint: Callable[[Any], Any]) -> Kind:
    """Answer the kind of dense tensors.

    Parameters
    ----------
    fingerprint : callable(array) -> object
        Says whether arrays of bytes are equal.
    """

    def snapshot(tensor: Any) -> Any:
        return (*_facts(tensor), _gradient(tensor), dict(vars(tensor)), fingerprint(_bytes(tensor)))

    def unchanged(tensor: Any, before: Any) -> bool:
        *facts, gradient, attributes, contents = before
        mine = vars(tensor)
        return (
            tuple(facts) == _facts(tensor)
            and _gradient(tensor) is gradient
            and list(attributes) == list(mine)
            and same_items(list(attributes.values()), mine.values())
            and bool(fingerprint(_bytes(tensor)) == contents)
        )

    return Kind("tensor", _children, snapshot, unchanged, _state, _apply)


def _facts(tensor: Any) -> tuple[Any, ...]:
    shape = tuple(tensor.shape)
    return shape, str(tensor.dtype), tensor.requires_grad and tensor.is_leaf


def _bytes(tensor: Any) -> Any:
    torch: Any = sys.modules["torch"]
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()


def _children(tensor: Any) -> list[Any]:
    gradient = _gradient(tensor)
    return [*([] if gradient is None else [gradient]), *vars(tensor).values()]


def _state(tensor: Any, before: Any) -> Any:
    del before
    # Another object with the same numbers, so it is written out and not as a token.
    requires = tensor.requires_grad and tensor.is_leaf
    return tensor.detach(), requires, _gradient(tensor), dict(vars(tensor))


def _apply(tensor: Any, state: Any) -> Undo:
    torch: Any = sys.modules["torch"]

    def put(numbers: Any, requires: bool, gradient: Any, attributes: dict[str, Any]) -> None:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if (tensor.shape, tensor.dtype) == (numbers.shape, numbers.dtype):
                tensor.detach().copy_(numbers)  # in its memory, which others may share
            else:
                tensor.data = numbers
            if tensor.is_leaf:
                tensor.grad = None  # one of another shape would be refused
                tensor.requires_grad_(requires)
                tensor.grad = gradient
        vars(tensor).clear()
        vars(tensor).update(attributes)

    numbers, requires, gradient, attributes = state
    old = (tensor.detach().clone(), *_state(tensor, None)[1:])
    try:
        put(numbers, requires, gradient, attributes)
    except RuntimeError as error:
        put(*old)
        raise NotInPlace(f"torch does not allow it: {error}") from error
    return lambda: put(*old)
