"""The blocks of one executor: which are open, how many there may be, which are forgotten."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from k8s_parsl.run.block import Block

# Blocks that have ended and whose pod is gone are remembered up to this number: a run may last for
# weeks.
ENDED = 10_000


class Blocks:
    """The blocks of one executor, by the names of their pods. Its user holds a lock.

    Args:
        most: `maxBlocks` of the executor.
    """

    def __init__(self, most: int) -> None:
        self.by_name: dict[str, Block] = {}
        # Those that have not ended, apart, as many may have ended.
        self.open: dict[str, Block] = {}
        # The blocks whose pods are not created yet.
        self.making: set[str] = set()
        self._most = most
        self._ended: deque[str] = deque()

    def put(self, block: Block) -> None:
        """Keep a block's new value."""
        self.by_name[block.name] = block
        if block.final is None:
            self.open[block.name] = block
        else:
            self.open.pop(block.name, None)

    def is_full(self) -> bool:
        """Return whether `maxBlocks` allows no more.

        A block that was scaled in no longer counts, as for Parsl, but it may work for long: of open
        blocks and of pods not created yet there are never more than twice `maxBlocks`.
        """
        if len(self.making) >= 2 * self._most:
            return True
        if len(self.open) >= 2 * self._most:
            return True
        if len(self.open) < self._most:
            return False
        wanted = [block for block in self.open.values() if not block.ending]
        return len(wanted) >= self._most

    def forget_old(self, ended: Block, exists: Callable[[str], object]) -> list[str]:
        """Note that a block has ended, and forget those that ended first, where there are too many.

        Parsl never uses a block's number twice.

        Args:
            ended: the block.
            exists: whether there is a pod of this name; its block is kept.

        Returns:
            The names of the forgotten ones.
        """
        self._ended.append(ended.name)
        forgotten = []
        # Two for each that ends, so that those whose pod still existed have their turn later.
        for _ in range(2):
            if len(self._ended) <= ENDED:
                break
            name = self._ended.popleft()
            if exists(name) or name in self.making:
                self._ended.append(name)
            else:
                del self.by_name[name]
                forgotten.append(name)
        return forgotten
