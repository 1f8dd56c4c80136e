"""Cache of decoded jets on disk (`data.cache`): shards that are written while the first epoch is read.

    DIR/CACHEDIR.TAG                 marks the folder; `rm -r DIR` at any moment is safe
    DIR/ab/cdef.../0-10000.jets      jets of the entries 0 to 10,000 of a file, for one request

A shard belongs to the contents of a file, its schema, the request and the version of the package: the 64 digits of its
key are its folder and stand in its header. It holds blocks of about a thousand jets, each with its checksum, which is
verified at every read. A shard that is damaged, or of another key, is made anew. Processes write under temporary names
and rename, so any number of jobs may share a cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from ssl_jets import __version__
from ssl_jets.config import Settings
from ssl_jets.data.files import JetFile
from ssl_jets.data.loading.packed_jets import from_bytes, to_bytes
from ssl_jets.data.readers.remote import is_remote
from ssl_jets.data.request import Request
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.jets import Jets
from ssl_jets.runtime.atomic import disk_error, write_text

_TAG = "CACHEDIR.TAG"
_SIGNATURE = (
    "Signature: 8a477f597d28d172789f06886806bc55\n# Jets decoded by ssl-jets. The folder can be removed at any time.\n"
)
"""Backup programs leave out a folder with this tag (https://bford.info/cachedir)."""

_MAGIC = b"ssljets1"
_HEAD = struct.Struct("<8sII")
"""Beginning of a shard: `_MAGIC`, bytes of the header, checksum of the header."""

_ABANDONED_SECONDS = 24 * 3600
"""Age from which a temporary file is one of a killed job."""

_SCAN_SHARE = 0.01
"""Share of the limit that a process writes before it adds up the folder again, in which others write too."""


class ShardCache:
    """Folder of shards, shared by the processes of any number of jobs.

    A cache never stops a training: if the folder is full or cannot be written, jets are read from their files.

    Args:
        folder: the folder; it is created.
        most_bytes: bytes of all shards, at most; beyond them none is added.
        log: function that is called once for each kind of trouble.

    Raises:
        UsageError: the folder holds other files.
        SslJetsError: it cannot be created.
    """

    def __init__(self, folder: Path, most_bytes: float, log: Callable[[str], None]) -> None:
        self._folder, self._most, self._log = folder, most_bytes, log
        self._lock = threading.Lock()
        self._logged = set[str]()
        _claim(folder)
        self._bytes, self._since = self._scan(), 0.0

    def path(self, key: str, start: int, stop: int) -> Path:
        """Return the path of a shard."""
        return self._folder / key[:2] / key[2:] / f"{start}-{stop}.jets"

    def load(self, key: str, shard: tuple[int, int], start: int, stop: int) -> tuple[list[Jets], list[str]] | None:
        """Load the blocks of a shard that overlap the entries `start` to `stop`, and the reasons of skipped jets.

        Returns:
            None if there is no such shard, or it is damaged; then it is removed.
        """
        path = self.path(key, *shard)
        try:
            with path.open("rb") as file:
                header = _read_header(file.fileno(), key)
                blocks = [block for block in header["blocks"] if block[0] < stop and block[1] > start]
                return [from_bytes(_read(file.fileno(), *block[2:])) for block in blocks], header["skipped"]
        except FileNotFoundError:
            return None
        except Exception as error:  # damaged bytes raise anything
            self._once("damaged", f"damaged shards of the cache are made anew: {path} ({error})")
            with suppress(OSError):
                path.unlink()
            return None

    def save(
        self, key: str, shard: tuple[int, int], blocks: Sequence[tuple[int, int, Jets]], skipped: Sequence[str]
    ) -> None:
        """Write a shard of jets between the given entries, unless the cache is full."""
        path = self.path(key, *shard)
        packed = [to_bytes(jets) for _, _, jets in blocks]
        content = b"".join([_header(key, blocks, packed, skipped), *packed])
        if not self._has_room(len(content)):
            return
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
        try:
            if not (self._folder / _TAG).is_file():  # the folder was removed
                write_text(self._folder / _TAG, _SIGNATURE)
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            os.replace(temporary, path)
        except (OSError, SslJetsError) as error:
            with suppress(OSError):
                temporary.unlink()
            with self._lock:
                self._most = 0  # a full disk stays full
            reason = error.strerror if isinstance(error, OSError) else error.found
            self._once("disk", f"nothing more is cached in {self._folder}: {reason}")

    def _has_room(self, bytes_: int) -> bool:
        """Count bytes that are to be written; False if the cache would exceed its limit."""
        with self._lock:
            if self._since > _SCAN_SHARE * self._most:
                self._bytes, self._since = self._scan(), 0.0
            if self._bytes + bytes_ <= self._most:
                self._bytes += bytes_
                self._since += bytes_
                return True
        if self._most:
            self._once("full", f"the cache {self._folder} is full: {self._bytes / 1e9:.1f} GB (data.cache_gb)")
        return False

    def _scan(self) -> float:
        """Add up the bytes of all shards, and remove what killed jobs left behind."""
        total, now = 0, time.time()
        for path in _files(self._folder):
            with suppress(OSError):  # of another job, renamed since
                status = path.stat()
                if path.suffix == ".tmp" and now - status.st_mtime > _ABANDONED_SECONDS:
                    path.unlink()
                else:
                    total += status.st_size
        return total

    def _once(self, kind: str, message: str) -> None:
        with self._lock:
            if kind in self._logged:
                return
            self._logged.add(kind)
        self._log(message)


def key_of(file: JetFile, request: Request) -> str:
    """Return the key of the decoded jets of a file: 64 hexadecimal digits.

    It covers everything that the decoder depends on: the identity of the contents, size and time of the file, schema,
    tree, columns, classes, types, request, and the version of the package.
    """
    facts = [__version__, _MAGIC.decode(), _facts(file), _facts(request)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


_OF_PLACE = {"source", "index", "events", "boundaries", "reader", "versions", "_decoders"}
"""Fields of a file that depend on its place, or follow from its contents and the others."""


def _facts(value: Any) -> Any:
    """Return a value as JSON, with all that distinguishes it from others of its type."""
    if isinstance(value, JetFile):
        known = {
            field.name: _facts(getattr(value, field.name)) for field in fields(value) if field.name not in _OF_PLACE
        }
        path = value.source.path
        modified = 0 if is_remote(path) else os.stat(path).st_mtime_ns
        return {**known, "reader": value.reader.NOUN, "collection": value.collection, "modified": modified}
    if isinstance(value, Settings):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return [[str(name), _facts(item)] for name, item in value.items()]
    if isinstance(value, frozenset | set):
        return sorted(map(str, value))
    if isinstance(value, tuple | list):
        return [_facts(item) for item in value]
    if hasattr(value, "tobytes"):  # an array: its `repr` is shortened
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    if hasattr(value, "__dataclass_fields__"):
        return {field.name: _facts(getattr(value, field.name)) for field in fields(value)}
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def _claim(folder: Path) -> None:
    """Create the folder with its tag, or check that it is a cache."""
    tag = folder / _TAG
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if _is_claimed(tag):
            return
        others = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
        if _is_claimed(tag):  # by another job, while the folder was listed
            return
        if others:
            raise UsageError(
                "the folder is no cache of ssl-jets",
                where=f"data.cache={folder}",
                found=others[0],
                hint="an empty folder",
            )
    except OSError as error:
        raise disk_error(folder, error) from error
    write_text(tag, _SIGNATURE)


def _is_claimed(tag: Path) -> bool:
    return tag.is_file() and tag.read_text(encoding="utf-8") == _SIGNATURE


def _files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        yield from (Path(root, name) for name in names)


def _header(
    key: str, blocks: Sequence[tuple[int, int, Jets]], packed: Sequence[bytes], skipped: Sequence[str]
) -> bytes:
    """Return the beginning of a shard; positions of blocks count from its end."""
    rows, at = [], 0
    for (start, stop, _), data in zip(blocks, packed):
        rows.append([start, stop, at, len(data), zlib.crc32(data)])
        at += len(data)
    text = json.dumps({"key": key, "blocks": rows, "skipped": list(skipped)}).encode()
    return _HEAD.pack(_MAGIC, len(text), zlib.crc32(text)) + text


def _read_header(file: int, key: str) -> dict[str, Any]:
    """Read and verify the header of a shard, with positions from the beginning of the file.

    Raises:
        ValueError: it is damaged, or of another key.
    """
    head = os.pread(file, _HEAD.size, 0)
    if len(head) < _HEAD.size:
        raise ValueError(f"it has {len(head)} bytes")
    magic, length, expected = _HEAD.unpack(head)
    if magic != _MAGIC:
        raise ValueError(f"it begins with {magic!r}")
    text = _read(file, _HEAD.size, length, expected)
    header: dict[str, Any] = json.loads(text)
    if header["key"] != key:
        raise ValueError("it is of another file, schema or request")
    for block in header["blocks"]:
        block[2] += _HEAD.size + length
    return header


def _read(file: int, at: int, size: int, expected: int) -> bytes:
    """Read bytes and verify their checksum."""
    data = os.pread(file, size, at)
    if len(data) != size or zlib.crc32(data) != expected:
        raise ValueError(f"the checksum of {size} bytes at byte {at} is wrong")
    return data
