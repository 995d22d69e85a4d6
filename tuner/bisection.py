"""Which candidate to try next: bisection by several workers, on noisy scores."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Scores = Mapping[int, Sequence[float]]


class Bisection(NamedTuple):
    """The rules of a search over candidates 0 (cheapest) to `num_candidates` − 1.

    A candidate is feasible when the mean of its scores reaches the floor, and whatever
    is dearer than a feasible one is also taken to be feasible. The answer is the
    smallest feasible candidate. It rests on two verdicts only: its own, and that the
    next cheaper one is infeasible. Where the mean of one of these is closer to the
    floor than the margin over the square root of its executions, it is executed again,
    before the search ends; if that turns a verdict round, the search goes on. Those
    that the answer never rested on are executed once, because a wrong verdict there
    changes nothing. `benchmarks/oracle_simulation.py` counts wrong answers.

    Attributes:
        num_candidates: At least 1.
        floor: Smallest feasible score.
        margin: How far from the floor one execution must end to decide alone; of the
            order of the spread of executions. 0 executes nothing twice.
        max_executions: Of one candidate, at least 1.
    """

    num_candidates: int
    floor: float
    margin: float = 0.0
    max_executions: int = 1

    def open_interval(self, scores: Scores) -> tuple[int, int]:
        """`(low, high)`: what lies strictly between them is still undecided.

        `high` is the smallest candidate found feasible (`num_candidates` if none),
        `low` the largest below it found infeasible (−1 if none).
        """
        high = min(
            (c for c in scores if self._mean(scores[c]) >= self.floor),
            default=self.num_candidates,
        )
        return max((c for c in scores if c < high), default=-1), high

    def next_candidate(
        self, scores: Scores, running: Sequence[int] = (), num_workers: int = 1
    ) -> int | None:
        """The candidate that a free worker should execute; None if none is useful now.

        Undecided candidates come first: k workers cut the open interval into k + 1
        parts, one that comes later halves the largest part. When all of them are being
        executed, it is one of the two that the answer would rest on, if it is close to
        the floor.

        Args:
            scores: Of the executions that ended, by candidate.
            running: Candidates that other workers execute, one entry an execution.
            num_workers: All, this one included.
        """
        low, high = self.open_interval(scores)
        if any(c not in running for c in range(low + 1, high)):
            return _cut(low, high, running, num_workers)
        close = [c for c in (high, low) if self._is_close(scores.get(c, ()))]
        wanted = [
            c
            for c in close
            if len(scores[c]) + list(running).count(c) < self.max_executions
        ]
        return min(
            wanted, key=lambda c: abs(self._mean(scores[c]) - self.floor), default=None
        )

    def num_rounds_left(self, scores: Scores, num_workers: int = 1) -> int:
        """Upper bound of the number of remaining sequential executions.

        It assumes that no score to come is close to the floor or reverses a verdict.

        Args:
            scores: Scores of the finished executions, by candidate.
            num_workers: Number of workers that execute in parallel, ≥ 1.
        """
        low, high = self.open_interval(scores)
        num_rounds, num_open = 0, high - low - 1
        while num_open > 0:
            # One part more than workers; the largest part may remain
            num_open = -(-max(0, num_open - num_workers) // (num_workers + 1))
            num_rounds += 1
        close = [c for c in (low, high) if self._is_close(scores.get(c, ()))]
        again = sum(max(0, self.max_executions - len(scores[c])) for c in close)
        return num_rounds + -(-again // num_workers)

    def smallest_feasible(self, scores: Scores) -> int | None:
        """The answer once the search has ended; None if nothing is feasible."""
        _, high = self.open_interval(scores)
        return high if high < self.num_candidates else None

    def _mean(self, executions: Sequence[float]) -> float:
        return math.fsum(executions) / len(executions)

    def _is_close(self, executions: Sequence[float]) -> bool:
        if not executions:
            return False
        distance = abs(self._mean(executions) - self.floor)
        return distance < self.margin / math.sqrt(len(executions))


def _cut(low: int, high: int, running: Sequence[int], num_workers: int) -> int:
    """Where a worker helps most between `low` and `high`, apart from those running."""
    cuts = sorted({low, high, *(c for c in running if low < c < high)})
    gaps = [(right - left, left) for left, right in zip(cuts, cuts[1:])]
    size, left = max(gaps, key=lambda gap: (gap[0], -gap[1]))
    num_free = max(1, num_workers - len(running))
    return left + max(1, size // (num_free + 1))
