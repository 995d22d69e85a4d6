"""Which candidate to try next where several chains of candidates compete."""

import bisect
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tuner.bisection import Bisection, Scores


class Chain(NamedTuple):
    """One chain, as far as it may still hold the answer.

    Attributes:
        members: Its candidates that are cheaper than the cheapest feasible one found,
            that one if it is of this chain, and all cheaper than an infeasible one;
            ascending.
        bisection: The rules among them.
    """

    members: tuple[int, ...]
    bisection: Bisection

    def scores(self, scores: Scores) -> dict[int, Sequence[float]]:
        """The scores of its members, by their place in it."""
        return {i: scores[c] for i, c in enumerate(self.members) if c in scores}

    def places(self, candidates: Sequence[int]) -> list[int]:
        """The places of those candidates that are its members, repeated as they are."""
        return [self.members.index(c) for c in candidates if c in self.members]

    def undecided(self, scores: Scores) -> list[int]:
        """The members of which nothing is known yet, ascending."""
        low, high = self.bisection.open_interval(self.scores(scores))
        return list(self.members[low + 1 : high])


class Chains(NamedTuple):
    """The rules of a search over several chains for the cheapest feasible candidate.

    Candidates are numbered by cost over all chains, 0 the cheapest. A candidate dearer
    than a feasible one of its own chain is taken to be feasible; of another chain
    nothing follows. The answer is the cheapest feasible candidate of any chain. So a
    chain is of interest only among what is cheaper than the cheapest feasible found.
    There, its dearest candidate is tried first: if that is infeasible, which one
    training tells, so is the whole chain. The chain that holds the cheapest feasible
    is bisected; so is each one while nothing is feasible yet. A verdict close to the
    floor is taken again if the answer rests on it, as in `bisection.Bisection`, which
    this is for a single chain.

    Attributes:
        members: Of each chain the numbers of its candidates, ascending, none twice. The
            chain most likely to hold the answer comes first.
        floor: As in `Bisection`.
        margin: As in `Bisection`.
        max_executions: As in `Bisection`.
    """

    members: tuple[tuple[int, ...], ...]
    floor: float
    margin: float = 0.0
    max_executions: int = 1

    def smallest_feasible(self, scores: Scores) -> int | None:
        """The cheapest candidate found feasible; None if none is."""
        found = (
            members[place]
            for members in self.members
            for chain in [self._whole(members)]
            for place in [chain.bisection.smallest_feasible(chain.scores(scores))]
            if place is not None
        )
        return min(found, default=None)

    def next_candidate(
        self, scores: Scores, running: Sequence[int] = (), num_workers: int = 1
    ) -> int | None:
        """What a free worker should execute; None if nothing useful is left now.

        Workers spread over the chains that hold something undecided.

        Args:
            scores: Of the executions that ended, by candidate.
            running: Candidates that other workers execute, one entry an execution.
            num_workers: All, this one included.
        """
        answer = self.smallest_feasible(scores)
        chains = [self._cheaper(members, answer, scores) for members in self.members]
        undecided = [
            chain for chain in chains if {*chain.undecided(scores)} - {*running}
        ]
        if undecided:
            # The first of those with the fewest workers
            chain = min(undecided, key=lambda chain: len(chain.places(running)))
            num_near = -(-num_workers // len(undecided))
            return self._undecided_of(chain, scores, running, num_near, answer)
        return self._close_to_floor(chains, scores, running)

    def num_rounds_left(self, scores: Scores, num_workers: int = 1) -> int:
        """Executions that are still to come one after the other, at most.

        That is if those to come are not close to the floor, and turn no verdict round.
        Chains are taken to be searched one after the other.

        Args:
            scores: Of the executions that ended, by candidate.
            num_workers: That execute at the same time.
        """
        answer = self.smallest_feasible(scores)
        num_rounds = 0
        for rank, members in enumerate(self.members):
            chain = self._cheaper(members, answer, scores)
            num_rounds += chain.bisection.num_rounds_left(
                chain.scores(scores), num_workers
            )
            holds_answer = rank == 0 if answer is None else answer in members
            # Of another chain the dearest comes first, before its bisection
            num_rounds += not holds_answer and len(chain.undecided(scores)) > 1
        return num_rounds

    def _whole(self, members: tuple[int, ...]) -> Chain:
        rules = Bisection(len(members), self.floor, self.margin, self.max_executions)
        return Chain(members, rules)

    def _cheaper(
        self, members: tuple[int, ...], answer: int | None, scores: Scores
    ) -> Chain:
        """A chain without what is dearer than the cheapest feasible candidate found.

        An infeasible candidate stays, however dear: cheaper ones are infeasible too.
        """
        whole = self._whole(members)
        if answer is None:
            return whole
        low, _ = whole.bisection.open_interval(whole.scores(scores))
        return self._whole(
            members[: max(bisect.bisect_right(members, answer), low + 1)]
        )

    def _undecided_of(
        self,
        chain: Chain,
        scores: Scores,
        running: Sequence[int],
        num_workers: int,
        answer: int | None,
    ) -> int | None:
        near = chain.places(running)
        if answer is not None and answer not in chain.members and not near:
            return chain.undecided(scores)[-1]
        place = chain.bisection.next_candidate(chain.scores(scores), near, num_workers)
        return None if place is None else chain.members[place]

    def _close_to_floor(
        self, chains: Sequence[Chain], scores: Scores, running: Sequence[int]
    ) -> int | None:
        """The candidate closest to the floor on which the answer rests."""
        wanted: dict[int, float] = {}
        for chain in chains:
            of_chain = chain.scores(scores)
            place = chain.bisection.next_candidate(of_chain, chain.places(running))
            if place is not None:
                executions = of_chain[place]
                mean = sum(executions) / len(executions)
                wanted[chain.members[place]] = abs(mean - self.floor)
        return min(wanted, key=wanted.__getitem__, default=None)


def number_by_cost(
    costs: Mapping[str, Sequence[float]],
) -> tuple[list[tuple[str, int]], tuple[tuple[int, ...], ...]]:
    """Numbers the candidates of all chains by cost.

    Args:
        costs: By chain, the most promising first, what each of its candidates costs;
            ascending.

    Returns:
        The candidates in the order of their numbers, each as its chain and its place
        there, and the members of each chain as `Chains` takes them. Of candidates of
        equal cost that of the earlier chain comes first.
    """
    ranked = sorted(
        (cost, rank, place)
        for rank, of_chain in enumerate(costs.values())
        for place, cost in enumerate(of_chain)
    )
    names = list(costs)
    members = tuple(
        tuple(number for number, (_, rank, _) in enumerate(ranked) if rank == chain)
        for chain in range(len(names))
    )
    return [(names[rank], place) for _, rank, place in ranked], members
