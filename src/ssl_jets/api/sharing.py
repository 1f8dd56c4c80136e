"""The verb `share`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssl_jets.sharing.upload import Shared


def share(run: str | Path, target: str, *, upload: bool = False, private: bool = False) -> Shared:
    """Upload a trained model with its card to the Hugging Face Hub, or list the files of such an upload.

    Args:
        run: a run folder, its `model/` folder, or the name of a bundled model.
        target: `hf:owner/name`; the repository is created if it does not exist.
        upload: send the files; False for a dry run, which contacts no server.
        private: create the repository as a private one.

    Returns:
        The model `folder`, the sizes of its `files`, and the `url` of the upload.

    Raises:
        SslJetsError: a target of another form, no model, a model without a card, or the hub refuses the upload.
    """
    from ssl_jets.model_file import load_model
    from ssl_jets.sharing.location import locate, model_folder
    from ssl_jets.sharing.upload import share_folder

    load_model(run)  # only a working model is shared
    return share_folder(model_folder(locate(run)), target, upload=upload, private=private)
