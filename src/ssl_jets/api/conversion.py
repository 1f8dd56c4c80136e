"""The verb `convert`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_jets.conversion import Converted


def convert(
    architecture: str,
    checkpoint: str | Path | None = None,
    *,
    out: str | Path,
    options: Mapping[str, Any] | None = None,
    labels: Sequence[str] = (),
    force: bool = False,
) -> Converted:
    """Convert an encoder of another architecture to a model folder, which every command reads.

    Args:
        architecture: name of the encoder: `part`, an entry point of the group `ssl_jets.encoders`, or a name in the
            environment variable `SSL_JETS_ENCODERS`.
        checkpoint: its weights, safetensors or a file of `torch.save` (pickled code is not executed); None for those
            of its constructor.
        out: the model folder.
        options: arguments of its constructor.
        labels: classes of the head of the checkpoint, if it does not imply them.
        force: replace an existing folder.

    Returns:
        `folder`, `model`, and `notes` about the conversion.

    Raises:
        SslJetsError: no such encoder, or a checkpoint that cannot be read or does not fit.
    """
    from ssl_jets import conversion

    return conversion.convert(architecture, checkpoint, Path(out), options=options, labels=labels, force=force)
