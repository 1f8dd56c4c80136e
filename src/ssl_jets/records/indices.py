"""Indices of jets, from indices or a mask."""

from __future__ import annotations

import numpy.typing as npt
import torch
from torch import Tensor

from ssl_jets.errors import UsageError


def indices_of(jets: slice | Tensor | npt.ArrayLike, count: int, device: torch.device | None = None) -> Tensor:
    """Return indices from 0 of chosen jets among `count`, int64 `[chosen]`.

    Indices on a GPU are not checked against `count`: that would wait for the GPU.

    Args:
        jets: integers `[chosen]`, negative ones counted from the end, a mask, bool `[count]`, or a slice.
        count: number of jets.
        device: device of the indices.

    Raises:
        UsageError: a mask of another length, other values than integers, or an index beyond the jets.

    Example:
        >>> indices_of([0, -1], 3), indices_of([True, False, True], 3)
        (tensor([0, 2]), tensor([0, 2]))
    """
    allowed = ["int64 [selected]", f"bool {[count]}", "a slice"]
    try:
        one_by_one = range(count)[jets] if isinstance(jets, slice) else jets
        chosen = torch.as_tensor(one_by_one, device=device)
    except (TypeError, ValueError, RuntimeError):
        raise UsageError("these are no indices of jets", found=repr(jets), allowed=allowed) from None
    if chosen.dtype == torch.bool:
        if chosen.shape != (count,):
            raise UsageError("the mask has not one value a jet", found=tuple(chosen.shape), allowed=[(count,)])
        return chosen.nonzero()[:, 0]
    empty = not chosen.numel()  # an empty list is an array of floats
    if chosen.dim() != 1 or (not empty and (chosen.is_floating_point() or chosen.is_complex())):
        found = f"{chosen.dtype} {[*chosen.shape]}"
        raise UsageError("these are no indices of jets", found=found, allowed=allowed)
    chosen = chosen.long()
    if chosen.device.type == "cpu" and not empty:
        least, most = int(chosen.min()), int(chosen.max())
        if least < -count or most >= count:
            beyond = least if least < -count else most
            raise UsageError("there is no jet of this index", found=beyond, allowed=[f"{-count} to {count - 1}"])
        if least >= 0:
            return chosen
    return torch.where(chosen < 0, chosen + count, chosen)
