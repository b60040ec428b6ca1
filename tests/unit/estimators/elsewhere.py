"""A device that is not the CPU, with real numbers: what mixes the two fails here as it fails on a GPU.

A tensor there says that its device is `meta` and keeps its numbers in a tensor of the CPU, which only the mode below reaches.
Operations between it and tensors of the CPU raise, but for single numbers where the operation works element by element, and
for indices. So does `numpy()`. What it cannot show is how a GPU rounds, and how fast it is.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from scaletrain.data.blocks import Block, Blocks

DEVICE = torch.device("meta")
CPU = torch.device("cpu")
# They copy from any device to any other, and read a single number.
COPIES = ("aten::_to_copy", "aten::copy_", "aten::_local_scalar_dense")
TAKE_INDICES = ("aten::index", "aten::index_put_")
# Without a fixed order on a GPU, or with none promised: each needs another way there.
UNORDERED = ("aten::index_add_", "aten::bincount", "aten::argmax", "aten::cumsum")


class There(Tensor):
    """A tensor of the device."""

    @staticmethod
    def __new__(cls, here: Tensor) -> "There":
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset()}
        return Tensor._make_wrapper_subclass(cls, here.shape, dtype=here.dtype, device=DEVICE, **layout)

    def __init__(self, here: Tensor) -> None:
        self.here = here

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError("tensors of the device need `Elsewhere`")


class Elsewhere(TorchDispatchMode):
    """While it is active, tensors of the device can be made and used, by this thread."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[torch.Size] = []  # shapes of what was copied from there to the CPU

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name
        used = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        is_there = any(isinstance(tensor, There) for tensor in used)
        _check(func, name, args, used, is_there)
        device = kwargs.get("device")
        to_there = is_there if device is None else torch.device(device) == DEVICE
        if device is not None:
            kwargs["device"] = CPU
        if is_there and not to_there and name in COPIES:
            self.fetched.append(used[0].shape)
        found = func(*_here(args), **_here(kwargs))
        if func._schema.is_mutable:
            return kwargs.get("out", args[0])
        # A copy to where it is would share its numbers.
        return tree_map_only(Tensor, There if to_there else torch.clone if is_there else _same, found)


def moved(blocks: Blocks) -> Blocks:
    """The blocks on the device."""
    return replace(blocks, blocks=[_moved(block) for block in blocks.blocks])


def _moved(block: Block) -> Block:
    values = {field.name: getattr(block, field.name) for field in fields(block)}
    return Block(**{name: None if value is None else value.to(DEVICE) for name, value in values.items()})


def _here(tree: Any) -> Any:
    return tree_map_only(There, lambda tensor: tensor.here, tree)


def _same(value: Tensor) -> Tensor:
    return value


def _counts_rows(name: str, used: list[Tensor]) -> bool:
    """Numbers of rows are whole, so that their order is no matter."""
    is_whole = not used[0].is_floating_point() and len(used) == 1
    return is_whole and name in ("aten::bincount", "aten::cumsum")


def _check(func: Callable[..., Any], name: str, args: Any, used: list[Tensor], is_there: bool) -> None:
    if not is_there or name in COPIES:
        return
    if name in UNORDERED and not _counts_rows(name, used):
        raise AssertionError(f"{name} has no fixed order on a GPU")
    if name in TAKE_INDICES and isinstance(args[0], There):
        return
    is_pointwise = torch.Tag.pointwise in func.tags
    strangers = [tensor for tensor in used if not isinstance(tensor, There) and not (is_pointwise and tensor.ndim == 0)]
    if strangers:
        raise AssertionError(f"{name} mixes the device with the CPU: {[tuple(tensor.shape) for tensor in strangers]}")
