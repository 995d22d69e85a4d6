"""How often the search by bisection is wrong, from simulated searches.

`tuner.bisection` searches 20 candidates, rates 0.05 to 1, on simulated accuracies.
Along a curve the error falls as a power of the rate,

    error(rate) = full · (1 + (ratio − 1) · (rate^−b − 1) / (0.05^−b − 1)).

`full` is the error of rate 1, from 0.5 to 30 %. `ratio` is the error of rate 0.05
divided by `full`, from 1.5 to 8. Both are log-uniform. b is from 0.1 to 1.7. These
ranges cover 59 students of MNIST (all classes, three classes, few images) and CIFAR-10.

Each candidate has a normal offset from the curve of `--offset` binomial standard
errors. It is the same in all executions, so curves need not rise. Executions differ by
normal noise of `--noise` binomial standard errors. The 59 students deviated from such
curves by 0.3 to 1.0 standard errors. Executions of the same student differed by 0.5
(MNIST) and 1.1 (three classes). Validation sets have 400 to 10,000 examples, and
accuracies are rounded to whole examples. Floors are 0.2, 0.5, 1 or 2 points below the
accuracy of rate 1, varied by up to a tenth of that.

The right answer is the smallest candidate whose accuracy, with its offset and without
noise, reaches the floor. No search can distinguish neighbours that differ by less than
the noise. So wrong answers are also counted by distance: by more than one candidate,
and by more than one standard error in accuracy without noise. "Broken" counts chosen
students whose accuracy without noise is below the floor, or below it by more than one
standard error.

All rows have the same curves and the same noise. Early verdicts are not simulated:
every training runs to its end, and its noise does not depend on the distance to the
floor.
"""

import argparse
import heapq
import statistics
from typing import NamedTuple

import numpy as np
from timing import emit

from tskd_tf.search.early_verdict import decision_margin
from tuner.bisection import Bisection

NUM_CANDIDATES = 20
RATES = np.arange(1, NUM_CANDIDATES + 1) / NUM_CANDIDATES
EXECUTIONS = (1, 2, 3, 5)
MARGINS = (0.5, 1.0, 2.0)
WORKERS = (1, 2, 4)
# A trial's length, by candidate: multiply-adds grow as the square of the rate
LENGTHS = {"equal": [1.0] * NUM_CANDIDATES, "as cost": list(RATES**2)}


class Problem(NamedTuple):
    """A simulated problem: a floor, and the candidates' accuracies.

    Attributes:
        floor: Smallest feasible accuracy, in [0, 1].
        margin: One binomial standard error at the floor.
        accuracies: Accuracies without noise, by candidate.
        executions: Accuracies with noise, by candidate and execution.
    """

    floor: float
    margin: float
    accuracies: list[float]
    executions: list[list[float]]

    @property
    def answer(self):
        """The smallest candidate that is feasible without noise; 20 if none."""
        reached = [accuracy >= self.floor for accuracy in self.accuracies]
        return reached.index(True) if any(reached) else NUM_CANDIDATES


def draw_problem(generator, noise, offset):
    """Draws a problem as described at the top of the module."""
    full = np.exp(generator.uniform(np.log(0.005), np.log(0.3)))
    ratio = np.exp(generator.uniform(np.log(1.5), np.log(8.0)))
    # 0.95 is the error of guessing among 20 classes
    ratio = min(ratio, 0.95 / full)
    power = generator.uniform(0.1, 1.7)
    shape = (RATES**-power - 1) / (RATES[0] ** -power - 1)
    errors = full * (1 + (ratio - 1) * shape)
    num_examples = int(generator.choice([400, 1000, 1740, 6000, 10000]))
    allowed = generator.choice([0.002, 0.005, 0.01, 0.02]) * generator.uniform(0.9, 1.1)
    floor = float(1 - full - allowed)
    spread = np.sqrt(errors * (1 - errors) / num_examples)
    accuracies = 1 - errors + offset * spread * generator.standard_normal(len(RATES))
    noises = generator.standard_normal((len(RATES), max(EXECUTIONS)))
    executions = accuracies[:, None] + noise * spread[:, None] * noises
    whole = np.round(np.clip(executions, 0, 1) * num_examples) / num_examples
    return Problem(
        floor,
        decision_margin(floor, num_examples),
        accuracies.tolist(),
        whole.tolist(),
    )


class Search(NamedTuple):
    """Result of a simulated search.

    Attributes:
        answer: The chosen candidate; 20 if none.
        started: Candidates in the order of their start.
        answered: Time from the start to the end of the last trial that could change the
            answer, in lengths of a trial.
        makespan: Time from the start to the end of the last trial, in lengths of a
            trial. A trial that is more expensive than the answer may end last.
    """

    answer: int
    started: list[int]
    answered: float
    makespan: float


def search(problem, margin, max_executions, num_workers=1, lengths=LENGTHS["equal"]):
    """Simulates workers that ask for a candidate as soon as they are free."""
    bisection = Bisection(
        NUM_CANDIDATES, problem.floor, margin * problem.margin, max_executions
    )
    scores, started, ends, now, answered = {}, [], [], 0.0, 0.0
    while True:
        while len(ends) < num_workers:
            running = [candidate for _, _, candidate in ends]
            candidate = bisection.next_candidate(scores, running, num_workers)
            if candidate is None:
                break
            heapq.heappush(ends, (now + lengths[candidate], len(started), candidate))
            started.append(candidate)
        if not ends:
            break
        now, _, ended = heapq.heappop(ends)
        if ended <= bisection.open_interval(scores)[1]:
            answered = now
        kept = scores.setdefault(ended, [])
        kept.append(problem.executions[ended][len(kept)])
    found = bisection.smallest_feasible(scores)
    answer = NUM_CANDIDATES if found is None else found
    return Search(answer, started, answered, now)


def tally(problems, searches):
    """Shares of wrong answers, and mean costs, over all searches."""
    pairs, dearest = list(zip(problems, searches)), NUM_CANDIDATES - 1
    distances = [abs(found.answer - problem.answer) for problem, found in pairs]
    # In standard errors; choosing none breaks no bargain
    shortfalls = [
        (problem.floor - problem.accuracies[found.answer]) / problem.margin
        for problem, found in pairs
        if found.answer < NUM_CANDIDATES
    ]
    costs = [sum(RATES[c] ** 2 for c in found.started) for found in searches]
    # In standard errors; without an answer, the most expensive candidate counts
    differences = [
        abs(
            p.accuracies[min(found.answer, dearest)]
            - p.accuracies[min(p.answer, dearest)]
        )
        / p.margin
        for p, found in pairs
    ]
    num_searches = len(pairs)
    return {
        "wrong": sum(d > 0 for d in distances) / num_searches,
        "wrong_by_more_than_one": sum(d > 1 for d in distances) / num_searches,
        "wrong_by_one_error": sum(d > 1 for d in differences) / num_searches,
        "broken": sum(s > 0 for s in shortfalls) / num_searches,
        "broken_by_one_error": sum(s > 1 for s in shortfalls) / num_searches,
        "executions": statistics.fmean(len(found.started) for found in searches),
        "most_executions": max(len(found.started) for found in searches),
        "share_of_grid_cost": statistics.fmean(costs) / float((RATES**2).sum()),
    }


def error_rows(problems_by_noise):
    """Rows for one worker: every noise, number of executions and margin."""
    for noise, problems in problems_by_noise.items():
        for max_executions in EXECUTIONS:
            # Without a second execution the margin has no effect
            for margin in MARGINS if max_executions > 1 else (0.0,):
                searches = [search(p, margin, max_executions) for p in problems]
                settings = {
                    "noise": noise,
                    "max_executions": max_executions,
                    "margin": margin,
                }
                yield {**settings, **tally(problems, searches)}


def worker_rows(problems, margin):
    """Rows for several workers compared with one, by the length of trials."""
    for kind, lengths in LENGTHS.items():
        for max_executions in EXECUTIONS[:3]:
            alone = None
            for num_workers in WORKERS:
                searches = [
                    search(p, margin, max_executions, num_workers, lengths)
                    for p in problems
                ]
                makespan = statistics.fmean(found.makespan for found in searches)
                answered = statistics.fmean(found.answered for found in searches)
                alone = alone or makespan
                busy = statistics.fmean(
                    sum(lengths[c] for c in found.started) for found in searches
                )
                yield {
                    "lengths": kind,
                    "max_executions": max_executions,
                    "workers": num_workers,
                    "answered_ratio": answered / alone,
                    "makespan_ratio": makespan / alone,
                    "idle": 1 - busy / (num_workers * makespan),
                    **tally(problems, searches),
                }


def cells(row):
    """The columns that rows for one and for several workers share."""
    shares = (
        "wrong",
        "wrong_by_more_than_one",
        "wrong_by_one_error",
        "broken",
        "broken_by_one_error",
    )
    return [
        *(f"{100 * row[name]:.1f}" for name in shares),
        f"{row['executions']:.2f}",
        f"{100 * row['share_of_grid_cost']:.1f}",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--searches", type=int, default=10_000, help="per row")
    parser.add_argument("--noise", default="0.3,0.6,1.0")
    parser.add_argument("--offset", type=float, default=0.3)
    parser.add_argument("--worker_noise", type=float, default=0.6)
    parser.add_argument("--worker_margin", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    def problems(noise, offset=options.offset):
        generator = np.random.default_rng(options.seed)
        return [draw_problem(generator, noise, offset) for _ in range(options.searches)]

    noises = [float(noise) for noise in options.noise.split(",")]
    # Errors without noise, because the curves do not rise everywhere
    noiseless = tally(
        exact := problems(0.0), [search(problem, 0.0, 1) for problem in exact]
    )
    errors = list(error_rows({noise: problems(noise) for noise in noises}))
    workers = list(worker_rows(problems(options.worker_noise), options.worker_margin))
    shared = [
        "wrong, %",
        "by > 1",
        "by > 1 error",
        "broken, %",
        "by > 1 error",
        "executions",
        "cost, % of grid",
    ]
    rows = [["0", "1", "", "", "", "", "", *cells(noiseless)]]
    rows += [
        [f"{r['noise']:g}", r["max_executions"], f"{r['margin']:g}", "1", "", "", ""]
        + cells(r)
        for r in errors
    ]
    rows += [
        [
            f"{options.worker_noise:g}",
            r["max_executions"],
            f"{options.worker_margin:g}, {r['lengths']}",
            r["workers"],
            f"{r['answered_ratio']:.2f}",
            f"{r['makespan_ratio']:.2f}",
            f"{100 * r['idle']:.0f}",
            *cells(r),
        ]
        for r in workers
    ]
    header = [
        "noise",
        "at most",
        "margin",
        "workers",
        "answered",
        "makespan",
        "idle, %",
        *shared,
    ]
    settings = vars(options)
    result = {
        **settings,
        "noiseless": noiseless,
        "errors": errors,
        "by_workers": workers,
    }
    emit("oracle_simulation", result, header, rows)


if __name__ == "__main__":
    main()
