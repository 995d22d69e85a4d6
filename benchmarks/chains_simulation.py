"""How often a search over two families is wrong, from simulated searches.

`tuner.chains` searches two chains of 50 candidates. Costs rise by a tenth from one
candidate to the next, up to the teacher's. Along a chain the error falls as a power of
the cost,

    error(cost) = full · (gain · cost / largest cost)^−power, at most 0.9.

`gain` is 1 for the second chain. For the first chain it is log-uniform from 0.2 to 10:
the family tried first may need five times the cost of the other, or a tenth. `full` is
from 0.5 to 30 %, `power` from 0.1 to 0.8. Noise of executions and offsets of candidates
are normal, of `--noise` and `--offset` binomial standard errors on 400 to 10,000
validation images. Floors are 0.2, 0.5, 1 or 2 points below the accuracy of the largest.

The right answer is the cheapest candidate of both chains that reaches the floor without
noise. "One chain" searches the second chain only. "Each in full" bisects both chains to
the end, without the rules that leave a chain early. A training that is cheaper than the
answer by far ends early in a real search; here each counts as one.
"""

import argparse
import statistics
from typing import NamedTuple

import numpy as np
from timing import emit

from tskd_tf.search.early_verdict import decision_margin
from tuner.bisection import Bisection
from tuner.chains import Chains, number_by_cost

NUM_CANDIDATES = 50
COSTS = 1.1 ** np.arange(-NUM_CANDIDATES + 1, 1)
# As in `search.plan`
MARGIN, MAX_EXECUTIONS = 0.5, 2


class Problem(NamedTuple):
    """Two chains of simulated candidates.

    Attributes:
        floor: Smallest feasible accuracy, in [0, 1].
        margin: Half a binomial standard error at the floor.
        costs: Costs of all candidates, by number.
        members: Numbers of the candidates of each chain.
        accuracies: Accuracies without noise, by number.
        executions: Accuracies with noise, by number and execution.
    """

    floor: float
    margin: float
    costs: list[float]
    members: tuple[tuple[int, ...], ...]
    accuracies: list[float]
    executions: list[list[float]]

    @property
    def answer(self):
        """Number of the cheapest feasible candidate without noise, or None."""
        reached = [i for i, a in enumerate(self.accuracies) if a >= self.floor]
        return min(reached, default=None)


def draw_problem(generator, noise, offset):
    """Draws a problem as described at the top of the module."""
    full = np.exp(generator.uniform(np.log(0.005), np.log(0.3)))
    power = generator.uniform(0.1, 0.8)
    gain = np.exp(generator.uniform(np.log(0.2), np.log(10.0)))
    num_examples = int(generator.choice([400, 1000, 1740, 6000, 10000]))
    allowed = generator.choice([0.002, 0.005, 0.01, 0.02])
    floor = float(1 - full - allowed)
    # Costs of equal steps would tie, so one chain lies between the other's
    chains = {"first": COSTS * 0.95, "second": COSTS}
    order, members = number_by_cost({name: list(chains[name]) for name in chains})
    gains = {"first": gain, "second": 1.0}
    costs = np.array([chains[name][place] for name, place in order])
    factor = np.array([gains[name] for name, _ in order])
    errors = np.minimum(0.9, full * (factor * costs) ** -power)
    spread = np.sqrt(errors * (1 - errors) / num_examples)
    accuracies = 1 - errors + offset * spread * generator.standard_normal(len(order))
    noises = generator.standard_normal((len(order), MAX_EXECUTIONS))
    executions = accuracies[:, None] + noise * spread[:, None] * noises
    whole = np.round(np.clip(executions, 0, 1) * num_examples) / num_examples
    margin = MARGIN * decision_margin(floor, num_examples)
    lists = costs.tolist(), members, accuracies.tolist(), whole.tolist()
    return Problem(floor, margin, *lists)


def search(problem, members):
    """One worker searches these chains; the answer and the candidates it trained."""
    chains = Chains(members, problem.floor, problem.margin, MAX_EXECUTIONS)
    scores, started = {}, []
    while (candidate := chains.next_candidate(scores)) is not None:
        kept = scores.setdefault(candidate, [])
        kept.append(problem.executions[candidate][len(kept)])
        started.append(candidate)
    return chains.smallest_feasible(scores), started


def each_in_full(problem):
    """Bisects each chain by itself; the cheaper answer of both."""
    found, started = [], []
    for members in problem.members:
        rules = Bisection(len(members), problem.floor, problem.margin, MAX_EXECUTIONS)
        scores = {}
        while (place := rules.next_candidate(scores)) is not None:
            kept = scores.setdefault(place, [])
            kept.append(problem.executions[members[place]][len(kept)])
            started.append(members[place])
        answer = rules.smallest_feasible(scores)
        found += [] if answer is None else [members[answer]]
    return min(found, default=None), started


CONTESTANTS = {
    "both chains": lambda problem: search(problem, problem.members),
    "one chain": lambda problem: search(problem, problem.members[1:]),
    "each in full": each_in_full,
}


def tally(problems, contestant):
    """Shares of wrong answers, mean cost of answers over the right ones, trainings."""
    results = [(problem, *CONTESTANTS[contestant](problem)) for problem in problems]
    found = [
        (problem, answer, problem.answer)
        for problem, answer, _ in results
        if answer is not None and problem.answer is not None
    ]
    ratios = [problem.costs[a] / problem.costs[right] for problem, a, right in found]
    return {
        "contestant": contestant,
        "without_answer": 1 - len(found) / len(results),
        "dearer": sum(ratio > 1.11 for ratio in ratios) / len(ratios),
        "cheaper": sum(ratio < 0.9 for ratio in ratios) / len(ratios),
        "median_cost": statistics.median(ratios),
        "mean_cost": statistics.geometric_mean(ratios),
        "broken_by_one_error": sum(
            (p.floor - p.accuracies[a]) * MARGIN / p.margin > 1 for p, a, _ in found
        )
        / len(found),
        "trainings": statistics.fmean(len(started) for *_, started in results),
        "most_trainings": max(len(started) for *_, started in results),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num_searches", type=int, default=10_000)
    parser.add_argument("--noise", type=float, default=0.7)
    parser.add_argument("--offset", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    generator = np.random.default_rng(options.seed)
    problems = [
        draw_problem(generator, options.noise, options.offset)
        for _ in range(options.num_searches)
    ]
    rows = [tally(problems, name) for name in CONTESTANTS]
    header = list(rows[0])
    table = [
        [v if isinstance(v, (str, int)) else f"{v:.3f}" for v in row.values()]
        for row in rows
    ]
    emit("chains_simulation", {**vars(options), "rows": rows}, header, table)


if __name__ == "__main__":
    main()
