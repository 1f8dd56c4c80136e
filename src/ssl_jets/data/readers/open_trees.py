"""Trees that a thread keeps open."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any

_MOST_OPEN = 16
"""Trees that a thread keeps open."""


class OpenTrees:
    """The trees that one thread read last: opening a tree takes as long as reading a thousand jets.

    They are closed with this object, when the thread ends. The objects of uproot refer to each other in circles, and
    would keep their files open until Python searches for such circles.
    """

    def __init__(self) -> None:
        self._trees: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, open_tree: Callable[[], Any]) -> Any:
        """Return the tree of a key, opened if it is not open."""
        if key not in self._trees:
            self._trees[key] = open_tree()
            if len(self._trees) > _MOST_OPEN:
                _, oldest = self._trees.popitem(last=False)
                oldest.file.close()
        self._trees.move_to_end(key)
        return self._trees[key]

    def __del__(self) -> None:
        for tree in self._trees.values():
            with suppress(Exception):  # at the end of the interpreter
                tree.file.close()
