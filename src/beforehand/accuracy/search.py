"""Which parts to put back to a higher precision so that a budget holds: as few as can be, in a bounded number of trials.

The parts in an order, the likely ones first where that is known; by bisection the shortest beginning of it with which the budget holds.
Its last part is needed: it is taken, and the search goes on among those before it, until those taken are enough. So `k` of `n` parts
cost at most 1 + k * (ceil(log2(n)) + 2) trials (`count_trials`), where the budget is monotonic; where the likely ones come first,
short beginnings are tried first. At each moment a set is known with which the budget holds, so that what a bound cuts short is still right. In the
end each part is left out once; where the budget holds without it, it goes. (Bisection by which a minimal set of constraints is found,
as in Junker, QUICKXPLAIN, AAAI 2004; here a last check makes minimal what is not monotonic.)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

Holds = Callable[[frozenset[str]], bool]


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        parts: With these put back, the budget holds; in the order given. None: no set was found.
        trials: How many sets were tried.
        is_minimal: Without any one of them it was tried, and the budget broke.
    """

    parts: tuple[str, ...] | None
    trials: int
    is_minimal: bool


class _OutOfTrialsError(Exception):
    pass


def count_trials(parts: int, taken: int) -> int:
    """How many trials find a minimal set of `taken` of so many parts, at most, where more parts never break the budget again."""
    return 1 + taken * (math.ceil(math.log2(max(parts, 1))) + 2)


def search_parts(
    parts: Sequence[str],
    holds: Holds,
    most: int,
    known: Mapping[frozenset[str], bool] | None = None,
    *,
    is_ranked: bool = True,
) -> Found:
    """A minimal set of parts with which the budget holds.

    Args:
        parts: All parts that could be put back.
        holds: Tries a set, which is a build and a comparison or several; called once for each set. The empty set is known to
            break the budget, and is not tried.
        most: How many sets may be tried.
        known: Sets that were tried before, and whether the budget holds with them.
        is_ranked: The likely ones come first.
    """
    search = _Search(parts, holds, most, known or {}, is_ranked=is_ranked)
    try:
        search.run()
    except _OutOfTrialsError:
        return Found(search.known, search.trials, is_minimal=False)
    return Found(search.known, search.trials, is_minimal=search.known is not None)


class _Search:
    def __init__(
        self, parts: Sequence[str], holds: Holds, most: int, known: Mapping[frozenset[str], bool], *, is_ranked: bool
    ) -> None:
        self._order = tuple(dict.fromkeys(parts))
        self._holds, self._most, self._is_ranked = holds, most, is_ranked
        self._results = {**known, frozenset(): False}
        self.trials = 0
        self.known: tuple[str, ...] | None = None  # the smallest set found with which the budget holds

    def _try(self, chosen: Sequence[str]) -> bool:
        key = frozenset(chosen)
        if key not in self._results:
            if self.trials >= self._most:
                raise _OutOfTrialsError
            self.trials += 1
            self._results[key] = self._holds(key)
        if self._results[key] and (self.known is None or len(key) < len(self.known)):
            self.known = tuple(part for part in self._order if part in key)
        return self._results[key]

    def run(self) -> None:
        if not self._try(self._order):
            return
        taken: list[str] = []
        before = list(self._order)
        while not self._try(taken):
            length = self._find_length(taken, before)
            taken.append(before[length - 1])
            before = before[: length - 1]
        self._leave_out(taken)

    def _find_length(self, taken: Sequence[str], before: Sequence[str]) -> int:
        """Of the order, the length of a beginning that holds beside `taken`, where one shorter does not; the whole does."""
        low, step = 0, 1 if self._is_ranked else len(before)  # with `low` it breaks
        while step < len(before) and not self._try([*taken, *before[:step]]):
            low, step = step, 2 * step
        high = min(step, len(before))
        while high - low > 1:
            middle = (low + high) // 2
            if self._try([*taken, *before[:middle]]):
                high = middle
            else:
                low = middle
        return high

    def _leave_out(self, taken: list[str]) -> None:
        for part in list(taken):
            rest = [other for other in taken if other != part]
            if self._try(rest):
                self._leave_out(rest)
                return
        self.known = tuple(part for part in self._order if part in taken)
