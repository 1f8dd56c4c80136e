"""Upload of a model folder to a repository of the Hugging Face Hub.

Only the model folder is sent: weights, `config.json` and the card `README.md`; never the log or checkpoints of the run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.sharing.model_card import CARD

PREFIX = "hf:"
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Shared:
    """Model folder and the place it is shared at.

    Attributes:
        folder: the model folder.
        repository: `owner/name` on the hub.
        files: size of each file, by its path in the repository [bytes].
        url: address of the commit; None for a dry run.
    """

    folder: Path
    repository: str
    files: dict[str, int]
    url: str | None = None


def share_folder(folder: Path, target: str, *, upload: bool = False, private: bool = False) -> Shared:
    """Upload a model folder to the hub, or list the files of such an upload; arguments as in `ssl_jets.share`.

    Raises:
        UsageError: a target of another form, or the extra `hub` is not installed.
        SslJetsError: a model without a card, or the hub refuses the upload.
    """
    repository = target.removeprefix(PREFIX)
    if not target.startswith(PREFIX) or not _REPOSITORY.fullmatch(repository):
        raise UsageError("a model is shared as hf:OWNER/NAME", found=target, hint="ssl-jets share RUN hf:owner/name")
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if not path.name.startswith(".")}
    if CARD not in files:
        hint = "an older ssl-jets wrote it: train it again"
        raise SslJetsError("the model has no card", where=folder / CARD, hint=hint)
    shared = Shared(folder, repository, files)
    return _upload(shared, private=private) if upload else shared


def _upload(shared: Shared, *, private: bool) -> Shared:
    try:
        from huggingface_hub import HfApi
    except ImportError:
        hint = 'pip install "ssl-jets[hub]"'
        raise UsageError("sharing needs the package huggingface_hub, which is not installed", hint=hint) from None
    hub = HfApi(library_name="ssl-jets")
    try:
        hub.create_repo(shared.repository, private=private, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=shared.repository,
            folder_path=shared.folder,
            allow_patterns=list(shared.files),
            commit_message="Upload a model of ssl-jets",
        )
    except Exception as error:  # errors of the library, of its HTTP client and of the network
        raise SslJetsError(
            "the upload to the hub failed",
            where=f"{PREFIX}{shared.repository}",
            found=(str(error) or type(error).__name__).splitlines()[0],
            hint="`hf auth login` gives a token, which must be allowed to write to this repository",
        ) from None
    return Shared(shared.folder, shared.repository, shared.files, commit.commit_url)
