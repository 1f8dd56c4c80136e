"""Reading of damaged or malicious files: one guard for all errors of a decoder, and bounded YAML and JSON."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

import yaml

from ssl_jets.errors import DataError, SslJetsError
from ssl_jets.runtime.allocator import SHORTAGE

SEAL = "crc32"
MOST_BYTES = 2**28
"""Size limit of a JSON file."""
MOST_YAML_BYTES = 2**24
"""Size limit of a YAML file."""
MOST_NODES = 50_000
"""Limit of the keys and values of a YAML document, with the contents of aliases counted each time."""
_MOST_REASON = 300
"""Most characters of the reason of an error: PyTorch lists every weight."""
MOST_LEVELS = 50
"""Limit of the nesting of a YAML document."""


@contextmanager
def guarded(
    message: str | Callable[[Exception], str],
    where: object,
    *,
    hint: str | None = None,
    error: type[SslJetsError] = DataError,
    passes: Callable[[Exception], bool] = lambda cause: False,
) -> Iterator[None]:
    """Turn any exception of a decoder on damaged bytes into one error.

    Corrupt bytes can raise any exception: struct.error, zlib.error, KeyError, MemoryError, ...

    Args:
        message: first line of the message, or a function of the exception that returns it.
        where: the file.
        hint: a command or setting to try.
        error: class of the error.
        passes: returns True for exceptions to leave as they are.
    """
    try:
        yield
    except SslJetsError:
        raise
    except Exception as cause:
        if passes(cause):
            raise
        text = message if isinstance(message, str) else message(cause)
        raise error(text, where=where, found=reason(cause), hint=hint) from cause


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def reason(cause: Exception) -> str:
    r"""Describe the exception of a decoder by the first sentence of its message.

    >>> reason(KeyError("weights"))
    "KeyError: 'weights'"
    >>> reason(RuntimeError("Errors in loading:\n\tMissing keys: a, b. \n\tUnexpected keys: c."))
    'RuntimeError: Errors in loading: Missing keys: a, b'
    """
    if isinstance(cause, MemoryError):
        return SHORTAGE
    if isinstance(cause, RecursionError):
        return "it is nested too deeply"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    text = re.sub(
        r":\n\s*", ": ", str(cause).strip()
    )  # "Error(s) in loading state_dict for Linear:\n\tMissing key(s) ..."
    sentence = shorten(text.partition("\n")[0].partition(". ")[0], _MOST_REASON, placeholder=" ...")
    return f"{type(cause).__name__}: {sentence}" if sentence else type(cause).__name__


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """Return the text of a UTF-8 file of at most `most` bytes, without the byte-order mark of Windows.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is longer, or is not UTF-8.
    """
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"more than {most:,} bytes")
    return data.decode("utf-8-sig")


def read_json(
    path: Path, message: str, *, hint: str | None = None, error: type[SslJetsError] = DataError
) -> dict[str, Any]:
    """Return the JSON object of a file; `message`, `hint` and `error` are passed to `guarded`."""
    with guarded(message, path, hint=hint, error=error):
        return json_object(read_text(path))


def json_object(text: str) -> dict[str, Any]:
    """Return the JSON object of a text.

    Raises:
        ValueError, RecursionError: the text is no JSON object.
    """
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError(f"a JSON object is needed, not {type(content).__name__}")
    return content


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON content with `crc32`, the checksum of the rest."""
    return {**content, SEAL: zlib.crc32(json.dumps(content).encode())}


def is_sealed(content: Mapping[str, Any]) -> bool:
    """Return True if the checksum of sealed JSON content is right."""
    return sealed({name: value for name, value in content.items() if name != SEAL}) == content


def load_yaml(text: str) -> Any:
    """Return the value of a YAML document, after a check of its size.

    Raises:
        yaml.YAMLError: the document is invalid, has a key twice, or is too large.
    """
    loader = _Bounded(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _expanded(node, {})
        return loader.construct_document(node)
    except yaml.YAMLError:
        raise
    except Exception as error:  # a date such as 2026-13-45, or `!!int ""`
        raise yaml.YAMLError(f"a value cannot be read: {error}") from None
    finally:
        loader.dispose()


class Dumper(yaml.SafeDumper):
    """YAML writer that quotes every text which `load_yaml` would take for a number."""


class _Bounded(yaml.SafeLoader):
    """YAML loader with limits of size and depth that refuses duplicate keys.

    Numbers are decimal: `1e-4` is one, and `0100` is 100. In YAML 1.1 they are a text and 64.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = self._level = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node and its children."""
        self._nodes += 1
        self._level += 1
        if self._nodes > MOST_NODES:
            raise _too_large(f"more than {MOST_NODES:,} keys and values")
        if self._level > MOST_LEVELS:
            raise _too_large(f"nested more than {MOST_LEVELS} deep")
        node = super().compose_node(parent, index)
        self._level -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct the mapping of a node; a duplicate key is refused, since its first value would be lost."""
        seen = set()
        for key_node, _ in node.value:
            key = None if key_node.tag == "tag:yaml.org,2002:merge" else self.construct_object(key_node, deep=True)
            if key is None or not isinstance(key, Hashable):
                continue
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_decimal(self, node: yaml.ScalarNode) -> int | float:
        """Construct a number; one that is not decimal, such as `0x10` or `1:30`, is refused."""
        text = str(self.construct_scalar(node))
        try:
            return int(text) if node.tag == _INT else float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:
            what = f"{text!r} is no decimal number; a text like it needs quotes"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from None


_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
for _kind in (_Bounded, Dumper):
    _kind.add_implicit_resolver(_FLOAT, _EXPONENT, list("-+.0123456789"))
for _tag in (_INT, _FLOAT):
    _Bounded.add_constructor(_tag, _Bounded.construct_decimal)


def _expanded(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Count the nodes under `node`, with aliases expanded: ten aliases of ten aliases -> 100 values."""
    if (size_before := sizes.get(id(node))) is not None:
        if size_before == 0:
            raise _too_large("an alias that contains itself")
        return size_before
    sizes[id(node)] = 0  # being counted
    size = 1
    if isinstance(node, yaml.MappingNode):
        size += sum(_expanded(key, sizes) + _expanded(value, sizes) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_expanded(value, sizes) for value in node.value)
    if size > MOST_NODES:
        raise _too_large(f"aliases that expand to more than {MOST_NODES:,} values")
    sizes[id(node)] = size
    return size


def _too_large(excess: str) -> yaml.YAMLError:
    return yaml.composer.ComposerError(None, None, excess, None)
