"""Location of a model: a folder, a bundled model, a URL with the hash of the weights, or a repository of the hub.

    runs/mae                                     a run folder, its model/ folder, or a snapshot RUN@step-500
    small-ssl                                    a model that comes with the package, unless a folder has this name
    https://host/path/model#sha256=e16c...       a model folder on a server; with the hash of `model.safetensors`
    hf:owner/name@revision                       a repository with the files of a model folder

Models from elsewhere are copied once to a cache, `$SSL_JETS_CACHE` or `~/.cache/ssl-jets` (`$HF_HOME` for the hub), and
read from there, also offline.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from ssl_jets.errors import SslJetsError, UsageError, check_name
from ssl_jets.runtime.atomic import WorkFolder
from ssl_jets.runtime.console import log
from ssl_jets.runtime.package_files import BUNDLED_FOR, package_folder
from ssl_jets.runtime.reading import guarded, json_object, read_text, sha256_of
from ssl_jets.sharing.missing_model import no_model

WEIGHTS, METHOD_WEIGHTS, CONFIG = "model.safetensors", "method.safetensors", "config.json"
"""Files of a model folder; the second one only of a method that is saved whole."""

SNAPSHOTS = "snapshots"
"""Folder of a run with the models that it wrote during the training."""

_HASH = re.compile("[0-9a-f]{64}")
_REPOSITORY = re.compile(r"hf:(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_COMMIT = re.compile("[0-9a-f]{40}")
_TIMEOUT, _HUB_TIMEOUT, _BLOCK, _MOST_CONFIG = 60, 5, 1 << 20, 16 << 20


def bundled_models() -> dict[str, Path]:
    """Return the folders of the models that come with the package, by name.

    Example:
        >>> all((folder / CONFIG).is_file() for folder in bundled_models().values())
        True
    """
    return {file.parent.name: file.parent for file in sorted(package_folder("models", "models").glob(f"*/{CONFIG}"))}


def locate(name: str | Path) -> Path:
    """Return the folder of a model, after copying a model from elsewhere to the cache.

    Args:
        name: folder, name of a bundled model, URL with `#sha256=`, or `hf:owner/name@revision`.

    Raises:
        UsageError: a URL without a hash, a malformed name, no name, or the hub without its package.
        SslJetsError: the model is not there, cannot be read, or has another hash.

    Example:
        >>> locate("runs/mae").as_posix()
        'runs/mae'
    """
    text = str(check_name(name))
    if text.startswith("hf:"):
        return _from_hub(text)
    if re.match("https?://", text):
        return _from_url(text)
    if text not in bundled_models():
        return Path(name)
    if Path(name).exists():
        log(f"model: {text}, the folder of this name, and not the model that comes with ssl-jets")
        return Path(name)
    log(f"model: {text}, which comes with ssl-jets: {BUNDLED_FOR}")
    return bundled_models()[text]


def shown_name(path: str | Path) -> str:
    """Return the name by which a user names a located model: of a bundled one not its path.

    Example:
        >>> shown_name(locate("runs/mae"))
        'runs/mae'
    """
    return next((name for name, folder in bundled_models().items() if folder == Path(path)), str(path))


def model_folder(path: Path) -> Path:
    """Return the model folder of a run folder, or the folder itself.

    Raises:
        SslJetsError: there is no model in it.
    """
    if (folder := _find_model(path)) is not None:
        return folder
    run, at, step = path.name.rpartition("@")
    if at and (path.with_name(run) / "config.yaml").is_file():
        raise _no_snapshot(path.with_name(run), step)
    raise no_model(path, lambda folder: _find_model(folder) is not None, bundled_models())


def names_model(name: str) -> bool:
    """Check whether a name is a model or a run, damaged or not, and not a file or folder of jets."""
    if is_elsewhere(name):
        return "://" not in name or "#sha256=" in name
    path = Path(name)
    run, at, _ = path.name.rpartition("@")
    unfinished = (path / "checkpoints").is_dir()
    snapshot = bool(at) and (path.with_name(run) / SNAPSHOTS).is_dir()
    if unfinished or snapshot or any((folder / WEIGHTS).is_file() for folder in (path, path / "model")):
        return True
    with suppress(OSError, ValueError):
        return (folder := _find_model(path)) is not None and '"weights_sha256"' in read_text(folder / CONFIG)
    return False


def check_weights(folder: Path) -> None:
    """Check the weights of a model folder by the hashes in its description.

    Raises:
        SslJetsError: a file is missing, damaged or of another model.
    """
    for name, expected in _hashes(folder / CONFIG, folder / CONFIG).items():
        with guarded("the model cannot be read", folder / name, error=SslJetsError):
            _check(folder, name, sha256_of(folder / name), expected)


def _find_model(path: Path) -> Path | None:
    """Return the folder with the description of a model: the path, `model/` in it, or a snapshot RUN@step-500."""
    run, _, step = path.name.rpartition("@")
    folders = [path, path / "model", *([path.with_name(run) / SNAPSHOTS / step] if run else [])]
    return next((folder for folder in folders if (folder / CONFIG).is_file()), None)


def _no_snapshot(run: Path, step: str) -> SslJetsError:
    """Return the error of a snapshot, `step-500`, that a run does not have."""
    names = [folder.name for folder in (run / SNAPSHOTS).glob("step-*")]
    available = sorted(names, key=lambda name: (len(name), name))
    return SslJetsError(
        "the run has no such snapshot",
        where=run,
        found=step,
        allowed=available or None,
        hint=None if available else "--set train.snapshot_minutes=30 writes one every half an hour",
    )


def is_elsewhere(name: str | Path) -> bool:
    """Return True for a URL, a repository of the hub, or a bundled model: nothing is written next to it."""
    text = str(name)
    return re.match("hf:|https?://", text) is not None or (not Path(name).exists() and text in bundled_models())


def cache() -> Path:
    """Return the folder of models from elsewhere.

    Raises:
        UsageError: no variable names one, and the user has no home folder.
    """
    if own := os.environ.get("SSL_JETS_CACHE"):
        return Path(own) / "models"
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        hint = "export SSL_JETS_CACHE=FOLDER"
        raise UsageError("models from elsewhere are kept in your home folder, and you have none", hint=hint) from None
    return Path(base) / "ssl-jets" / "models"


def _from_url(text: str) -> Path:
    url, _, fragment = text.partition("#")
    digest = fragment.removeprefix("sha256=").lower()
    if not fragment.startswith("sha256=") or not _HASH.fullmatch(digest):
        raise UsageError(
            "a model is taken from a server only with the hash of its weights",
            where=text,
            hint=f"{url}#sha256=..., which is weights_sha256 in its config.json",
        )
    folder = cache() / digest
    if not (folder / CONFIG).is_file():
        log(f"model: copying {url} to {folder}")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what, hint = "the model cannot be copied", "export SSL_JETS_CACHE=FOLDER"
            raise SslJetsError(what, where=folder.parent, found=error.strerror, hint=hint) from None
        work = WorkFolder(folder)
        try:
            fresh = work.path / "fresh"
            fresh.mkdir()
            _copy_model(url.rstrip("/"), digest, fresh)
            if not folder.exists():  # another process may have been faster
                fresh.rename(folder)
        except OSError as error:
            raise SslJetsError("the model cannot be copied", where=url, found=error) from None
        finally:
            work.remove()
    return folder


def _copy_model(url: str, digest: str, folder: Path) -> None:
    """Copy the files of a model folder, and check the hash of each file of weights."""
    _copy(f"{url}/{CONFIG}", folder / CONFIG, most=_MOST_CONFIG)
    hashes = _hashes(folder / CONFIG, f"{url}/{CONFIG}")
    _check(url, CONFIG, hashes[WEIGHTS], digest)
    for name, expected in hashes.items():
        _check(url, name, _copy(f"{url}/{name}", folder / name), expected)


def _hashes(config: Path, where: str | Path) -> dict[str, str]:
    """Return the SHA-256 of each file of weights from the description of a model; `where` names it in the message."""
    with guarded("this is not the description of a model", where, error=SslJetsError):
        content = json_object(read_text(config))
        hashes = {WEIGHTS: str(content["weights_sha256"])}
        return hashes | ({METHOD_WEIGHTS: str(whole["weights_sha256"])} if (whole := content.get("whole")) else {})


def _check(url: str | Path, file: str, found: str, expected: str) -> None:
    if found != expected:
        raise SslJetsError("the model has another hash", where=f"{url}/{file}", found=found, allowed=[expected])


def _copy(url: str, path: Path, most: int | None = None) -> str:
    """Copy a file from a server; return its SHA-256."""
    digest, size = hashlib.sha256(), 0
    try:
        with urlopen(Request(url, headers={"User-Agent": "ssl-jets"}), timeout=_TIMEOUT) as answer:
            response: IO[bytes] = answer
            with path.open("wb") as file:
                while block := response.read(_BLOCK):
                    size += len(block)
                    if most is not None and size > most:
                        raise SslJetsError("this file is too large", where=url, found=f"more than {most:,} bytes")
                    digest.update(block)
                    file.write(block)
    except HTTPError as error:
        raise SslJetsError("the server has no such file", where=url, found=f"status {error.code}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise SslJetsError(
            "the server cannot be reached, and the model is not in the cache", where=url, found=reason
        ) from None
    return digest.hexdigest()


def _from_hub(text: str) -> Path:
    match = _REPOSITORY.fullmatch(text)
    if match is None:
        raise UsageError("this is not a repository on the hub", where=text, allowed=["hf:owner/name@revision"])
    if find_spec("huggingface_hub") is None:
        hint = 'pip install "ssl-jets[hub]"'
        raise UsageError("models of the hub are copied by the package huggingface-hub", where=text, hint=hint)
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    endpoint = os.environ.get("HF_ENDPOINT")

    def copy(revision: str, *, offline: bool = False) -> Path:
        options: dict[str, Any] = {"endpoint": endpoint, "local_files_only": offline}
        config = Path(hf_hub_download(match["name"], CONFIG, revision=revision, **options))
        whole = json.loads(config.read_text(encoding="utf-8")).get("whole")
        for file in (WEIGHTS, METHOD_WEIGHTS) if whole else (WEIGHTS,):
            hf_hub_download(match["name"], file, revision=config.parent.name, **options)  # of the same commit
        return config.parent

    def cached() -> Path | None:
        with suppress(Exception):  # not cached: errors of the hub and of its http client
            return copy(revision, offline=True)
        return None

    revision = match["revision"] or "main"
    if _COMMIT.fullmatch(revision) and (folder := cached()):  # a commit does not change
        return folder
    url = hf_hub_url(match["name"], CONFIG, revision=revision, endpoint=endpoint)
    try:  # one request without retries: a download tries for half a minute to reach a hub that is not there
        with suppress(HfHubHTTPError):  # an answer of the hub, to which the download has a message
            get_hf_file_metadata(url, timeout=_HUB_TIMEOUT)
    except Exception as error:
        if folder := cached():
            log(f"model: {text} as it is in the cache, since the hub cannot be reached: {_first_line(error)}")
            return folder
        problem = "the hub cannot be reached, and the model is not in the cache"
        raise SslJetsError(problem, where=text, found=_first_line(error)) from None
    try:
        return copy(revision)
    except Exception as error:
        raise SslJetsError("the model cannot be taken from the hub", where=text, found=_first_line(error)) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
