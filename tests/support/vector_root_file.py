"""ROOT files with `std::vector` branches, as the public JetClass files have them, and with ATLAS's lists of element
links for each jet; uproot can read but not write these.

Only what a reader needs is written: one TTree with a TBranchElement for each list and a TBranch for each flat branch,
uncompressed. Byte layout after the ROOT format notes (https://root.cern/doc/master/classTFile.html).
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

_BEGIN = 100
_LINK = "ElementLink<DataVector<xAOD::IParticle> >"
_LEAVES = {"f": ("TLeafF", ">ff"), "i": ("TLeafI", ">ii"), "b": ("TLeafO", ">??")}


def write_vector_tree(path: Path, branches: Mapping[str, Any], *, tree: str = "tree", cluster: int = 20) -> Path:
    """Write one tree; awkward arrays become `vector<float>` or `vector<int>`, `cluster` entries a basket.

    Lists of lists of numbers become `vector<vector<float>>`, of records (`m_persKey`, `m_persIndex`)
    `vector<vector<ElementLink<...>>>`.
    """
    body = bytearray(_BEGIN)
    entries = len(next(iter(branches.values())))
    root_names = _string(path.name) + _string("")
    directory_at = _BEGIN + len(_key("TFile", path.name, "", 0, 0)) + len(root_names)
    body += bytes(directory_at + 60 - _BEGIN)  # The first key and the directory, filled in at the end.
    metadata = []
    for name, values in branches.items():
        edges = [*range(0, entries, cluster), entries]
        places = []
        for start, stop in itertools.pairwise(edges):
            basket = _basket(name, tree, values[start:stop], len(body))
            places.append((len(basket), len(body)))
            body += basket
        metadata.append(_branch(name, values, entries, edges, places))
    tree_object = _tree(tree, entries, metadata)
    tree_at = len(body)
    tree_key = _key("TTree", tree, "", len(tree_object), tree_at)
    body += tree_key + tree_object
    keys_at = len(body)
    key_list = struct.pack(">i", 1) + tree_key
    body += _key("TFile", path.name, "", len(key_list), keys_at) + key_list
    streamers_at, streamers = len(body), _streamers()
    body += _key("TList", "StreamerInfo", "", len(streamers), streamers_at) + streamers
    names_end = directory_at - _BEGIN
    first = _key("TFile", path.name, "", len(root_names) + 60, _BEGIN) + root_names
    directory = struct.pack(">hIIiiiii", 5, 0, 0, streamers_at - keys_at, names_end, _BEGIN, 0, keys_at)
    body[_BEGIN : _BEGIN + len(first) + len(directory)] = first + directory
    body[:4] = b"root"
    header = (62400, _BEGIN, len(body), len(body), 0, 0, names_end, 4, 0, streamers_at, len(body) - streamers_at)
    body[4:45] = struct.pack(">iiiiiiiBiii", *header)
    path.write_bytes(body)
    return path


def _string(text: str) -> bytes:
    assert len(text) < 255
    return bytes([len(text)]) + text.encode()


def _key(kind: str, name: str, title: str, size: int, place: int, extra: bytes = b"") -> bytes:
    """A TKey in front of an object of `size` bytes, uncompressed."""
    names = _string(kind) + _string(name) + _string(title)
    length = 26 + len(names) + len(extra)
    return struct.pack(">ihiIhhii", length + size, 4, size, 0, length, 1, place, _BEGIN) + names + extra


def _versioned(version: int, content: bytes) -> bytes:
    return struct.pack(">Ih", 0x40000000 | (len(content) + 2), version) + content


def _named(name: str, title: str) -> bytes:
    return _versioned(1, struct.pack(">hII", 1, 0, 0) + _string(name) + _string(title))


def _objects(items: list[tuple[str, bytes]]) -> bytes:
    """A TObjArray of objects, each with its class spelt out."""
    content = struct.pack(">hII", 1, 0, 0) + _string("") + struct.pack(">ii", len(items), 0)
    return _versioned(3, content + b"".join(_tagged(kind, item) for kind, item in items))


def _tagged(kind: str, item: bytes) -> bytes:
    """An object with its class in front."""
    tagged = b"\xff\xff\xff\xff" + kind.encode() + b"\x00" + item
    return struct.pack(">I", 0x40000000 | len(tagged)) + tagged


def _basket(name: str, tree: str, values: Any, place: int) -> bytes:
    """A TBasket with its key; each vector has 6 bytes of header and 4 of length in front of its values."""
    if isinstance(values, ak.Array) and values.fields:
        lists = [
            _versioned(9, struct.pack(">i", len(entry)) + b"".join(map(_element_links, entry))) for entry in values
        ]
    elif isinstance(values, ak.Array) and values.ndim == 3:
        inner = [[struct.pack(f">i{len(jet)}f", len(jet), *jet) for jet in entry] for entry in values.to_list()]
        lists = [_versioned(9, struct.pack(">i", len(entry)) + b"".join(entry)) for entry in inner]
    elif isinstance(values, ak.Array):
        dtype = np.dtype(values.layout.content.dtype).newbyteorder(">")
        lists = [np.asarray(entry, dtype=dtype).tobytes() for entry in values.to_list()]
        lists = [_versioned(9, struct.pack(">i", len(entry) // dtype.itemsize) + entry) for entry in lists]
    else:
        data = values.astype(values.dtype.newbyteorder(">")).tobytes()
        lists = []
    length = len(_key("TBasket", name, tree, 0, place, bytes(19)))
    if lists:
        starts = length + np.cumsum([0, *map(len, lists[:-1])])
        data = b"".join(lists)
        content = data + struct.pack(">i", len(lists) + 1) + np.array([*starts, 0], dtype=">i4").tobytes()
    else:
        content = data
    # Without lists, the size of one entry; with them, something that says that offsets follow.
    size = 1000 if lists else values.dtype.itemsize
    extra = struct.pack(">hiii", 3, 32000, size, len(values)) + struct.pack(">ib", length + len(data), 0)
    return _key("TBasket", name, tree, len(content), place, extra) + content


def _element_links(links: Any) -> bytes:
    """The links of one jet. Each is an object of a class without a version, whose base class has its two numbers."""
    written = np.zeros(len(links), dtype=[("head", "S20"), ("m_persKey", ">u4"), ("m_persIndex", ">u4")])
    written["head"] = bytes.fromhex("40000018 0000 67bfb073  4000000e 0000 feb3df9e")
    for name in links.fields:
        written[name] = links[name]
    return struct.pack(">i", len(links)) + written.tobytes()


def _streamers() -> bytes:
    """A TList that describes the classes of an element link."""
    base = _versioned(3, _member("ElementLinkBase", "BASE", 0, 0) + struct.pack(">i", 1))
    numbers = [_versioned(2, _member(name, "unsigned int", 13, 4)) for name in ("m_persKey", "m_persIndex")]
    infos = [
        _streamer("ElementLinkBase", 0xFEB3DF9E, [("TStreamerBasicType", number) for number in numbers]),
        _streamer(_LINK, 0x67BFB073, [("TStreamerBase", base)]),
    ]
    content = struct.pack(">hII", 1, 0, 0) + _string("") + struct.pack(">i", len(infos))
    return _versioned(5, content + b"".join(_tagged("TStreamerInfo", info) + b"\0" for info in infos))


def _streamer(name: str, checksum: int, members: list[tuple[str, bytes]]) -> bytes:
    """A TStreamerInfo of version 1 of a class."""
    content = _named(name, "") + struct.pack(">Ii", checksum, 1) + _tagged("TObjArray", _objects(members))
    return _versioned(9, content)


def _member(name: str, kind: str, number: int, size: int) -> bytes:
    """A TStreamerElement."""
    return _versioned(4, _named(name, "") + struct.pack(">4i5i", number, size, 0, 0, *[0] * 5) + _string(kind))


def _branch(name: str, values: Any, entries: int, edges: list[int], places: list[tuple[int, int]]) -> tuple[str, bytes]:
    """A TBranch, or a TBranchElement for lists, with its leaf and where its baskets are."""
    vector = isinstance(values, ak.Array)
    baskets = len(places)
    features = b"\x40\x00\x00\x07\x00\x00\x1a\xa1\x2f\x10\x00"
    itemsize = 0 if vector else values.dtype.itemsize
    leaf = _versioned(2, _named(name, name) + struct.pack(">iii??I", 1, itemsize, 0, False, False, 0))
    if vector:
        leaf_kind, leaf = "TLeafElement", _versioned(1, leaf + struct.pack(">ii", -1, -1))
    else:
        leaf_kind, limits = _LEAVES[values.dtype.kind]
        leaf = _versioned(1, leaf + struct.pack(limits, 0, 0))
    content = _named(name, name) + _versioned(2, struct.pack(">hh", 0, 1001))
    content += struct.pack(">iiiiq", 0, 32000, 1000 if vector else 0, baskets, entries) + features
    content += struct.pack(">iIiqqqq", 0, baskets + 1, 0, entries, 0, 0, 0)
    content += _objects([]) + _objects([(leaf_kind, leaf)]) + _objects([])
    content += b"\x01" + np.array([*(size for size, _ in places), 0], dtype=">i4").tobytes()
    content += b"\x01" + np.array(edges, dtype=">i8").tobytes()
    content += b"\x02" + np.array([*(place for _, place in places), 0], dtype=">i8").tobytes()
    branch = _versioned(13, content + _string(""))
    if not vector:
        return "TBranch", branch
    if values.fields:
        kind = f"vector<vector<{_LINK} > >"
    elif values.ndim == 3:
        kind = "vector<vector<float> >"
    else:
        kind = "vector<float>" if values.layout.content.dtype.kind == "f" else "vector<int>"
    element = branch + _string(kind) + _string("") + _string("") + struct.pack(">Ihiiii", 0, 6, -1, 0, -1, 0)
    return "TBranchElement", _versioned(10, element + struct.pack(">II", 0, 0))


def _tree(name: str, entries: int, branches: list[tuple[str, bytes]]) -> bytes:
    content = _named(name, "")
    content += _versioned(2, struct.pack(">hhh", 1, 1, 1)) + _versioned(2, struct.pack(">hh", 0, 1001))
    content += _versioned(2, struct.pack(">hhf", 1, 1, 1.0))
    content += struct.pack(">qqqqqdiiiiIqqqqqq", entries, 0, 0, 0, 0, 1.0, 0, 25, 0, 1000, 0, *[0] * 6)
    content += b"\x00\x00" + b"\x40\x00\x00\x07\x00\x00\x1a\xa1\x2f\x10\x00"
    content += _objects(branches) + _objects([]) + struct.pack(">I", 0)
    content += struct.pack(">ii", 0, 0) + struct.pack(">IIII", 0, 0, 0, 0)
    return _versioned(20, content)
