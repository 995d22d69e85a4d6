"""What "smallest" means: the cost by which candidates of all families are ordered."""

import pathlib
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from tskd_tf.choices import MACS, OBJECTIVES
from tskd_tf.data.images import Images
from tskd_tf.files import read_json_object, write_json
from tskd_tf.search.candidate import Candidate

# So many candidates of a family are measured; a cost rises smoothly between them
_NUM_MEASURED = 9


def costs_of_chain(
    chain: Sequence[Candidate],
    num_macs: Mapping[Candidate, int],
    cost: Callable[[Candidate], float],
) -> list[float]:
    """The cost of each candidate of a family; most are interpolated.

    Nine candidates are measured. Between them, the logarithm of the cost is
    interpolated linearly in the logarithm of the multiply-adds.

    Args:
        chain: The candidates of a family, in ascending order of rate.
        num_macs: Multiply-adds by candidate, ≥ 1.
        cost: Measures a candidate, > 0.

    Returns:
        Costs in the order of the chain. They never fall: a wider student counts at
        least as much as a narrower one.
    """
    places = np.linspace(0, len(chain) - 1, min(len(chain), _NUM_MEASURED))
    measured = [chain[place] for place in np.unique(places.round().astype(int))]
    macs = np.log([num_macs[candidate] for candidate in measured])
    costs = np.log([cost(candidate) for candidate in measured])
    found = np.interp(np.log([num_macs[c] for c in chain]), macs, costs)
    return [float(value) for value in np.exp(np.maximum.accumulate(found))]


def measure(objective: str, student: keras.Model, images: Images) -> float:
    """A student's cost by an objective, in its own unit.

    Args:
        objective: A name in `choices.OBJECTIVES`.
        student: A float32 student, trained or not.
        images: Shape `(n, height, width, channels)`, 0 to 255, n ≥ 1.
    """
    cost: Callable[[keras.Model, Images], float] = OBJECTIVES[objective].load()
    return float(cost(student, images))


def ordered_chains(
    chains: Sequence[Sequence[Candidate]],
    objective: str,
    num_macs: Mapping[Candidate, int],
    build: Callable[[Candidate], keras.Model],
    images: Images,
    folder: pathlib.Path,
) -> dict[str, list[float]]:
    """The costs by which candidates are ordered, by family.

    Measurements vary, so they are kept in `costs.json` of the search's folder: a
    resumed search has the same order.

    Args:
        chains: One list of candidates per family, in ascending order of rate.
        objective: A name in `choices.OBJECTIVES`.
        num_macs: Multiply-adds by candidate, ≥ 1.
        build: Builds the student of a candidate, in float32.
        images: Images for measuring, 0 to 255.
        folder: Folder of the search.
    """
    families = [chain[0].family for chain in chains]
    if objective == MACS:
        return {
            family: [float(num_macs[candidate]) for candidate in chain]
            for family, chain in zip(families, chains)
        }
    path = folder / "costs.json"
    if path.exists():
        kept = read_json_object(path)
        if [len(kept.get(f, [])) for f in families] == [len(c) for c in chains]:
            return {family: kept[family] for family in families}

    def cost(candidate: Candidate) -> float:
        return measure(objective, build(candidate), images)

    found = {
        family: costs_of_chain(chain, num_macs, cost)
        for family, chain in zip(families, chains)
    }
    write_json(path, found)
    return found
