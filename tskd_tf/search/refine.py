"""Removes channels of the chosen student, in steps with short trainings between.

Unlike a smaller width rate, it makes each layer as thin as the task allows. A step
removes the channels that matter least to the distillation loss per cost saved. It is
kept if the student meets Eq. 4 on the validation images after a short training. If not,
it is undone, and the next step removes half as many channels. If one channel cannot be
removed, its block stays as it is. In the end, the student is trained for as long as the
recipe says, since each look at the validation images flatters a student at the floor.
"""

import dataclasses
import logging
import pathlib
import time
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tskd_tf.data.images import Images
from tskd_tf.data.splits import balanced_weights
from tskd_tf.distillation.losses import distillation_loss, hard_loss, soft_loss
from tskd_tf.distillation.methods.method import DISTILLATION, method_named
from tskd_tf.distillation.recipe import Recipe
from tskd_tf.distillation.soft_targets import TransferSet
from tskd_tf.distillation.solvers import default_learning_rate
from tskd_tf.distillation.training import DivergedError, TrainedStudent
from tskd_tf.networks.channels import Block, Channels
from tskd_tf.networks.costs import complexity
from tskd_tf.networks.removal import loss_changes, removable_blocks, without_channels
from tskd_tf.networks.removal_choice import ShareOf, choose_sets, remaining_share
from tskd_tf.networks.width import layer_widths
from tskd_tf.report.record import Refinement, RefinementStep, Report, StudentResult
from tskd_tf.search.evidence import Trial
from tskd_tf.search.progress import Workload
from tskd_tf.search.refine_files import State, keep_state, kept_state
from tskd_tf.search.student_costs import CostOf, StudentCosts
from tskd_tf.search.trainer import Trainer

# A step saves this share of the cost, if the student keeps its accuracy
_SAVED_SHARE = 0.2
# The short trainings, relative to the recipe
_SHARE_OF_EPOCHS = 0.2
_SHARE_OF_LEARNING_RATE = 0.5
_NUM_EXAMPLES = 2048
_BATCH_SIZE = 32
_logger = logging.getLogger(__name__)


def check_refinable(student: keras.Model) -> None:
    """Checks that channels of a student can be removed.

    Args:
        student: A student of the search, which may be untrained.

    Raises:
        InputError: If its channels cannot be followed, if a layer cannot be rebuilt, or
            if the layout of its weights is unknown.
    """
    blocks = removable_blocks(Channels(student))
    without_channels(student, [int(block.roots[0]) for block in blocks])


def refine_chosen(
    is_wanted: bool,
    trainer: Trainer,
    student: keras.Model,
    chosen: Trial,
    trials: Sequence[Trial],
    folder: pathlib.Path,
) -> tuple[keras.Model, Refinement | None]:
    """Refines the student of a search for at most the time of its trials.

    Args:
        is_wanted: Whether the user asks for a refinement.
        trainer: Trains the students.
        student: The chosen student, in float32.
        chosen: Its record.
        trials: The records of all trials.
        folder: Folder of the search.

    Returns:
        The student and the record of the refinement. If none is wanted, or the chosen
        student misses Eq. 4 already, the student as it is and None.
    """
    if not is_wanted:
        return student, None
    if not chosen.feasible:
        _logger.warning("Not refined: no student meets Eq. 4 on the validation images")
        return student, None
    max_seconds = sum(trial.seconds for trial in trials)
    return refine(trainer, student, chosen, folder, max_seconds)


def costs_after(
    refinement: Refinement | None,
    student: keras.Model,
    costs: StudentCosts,
    images: Images,
) -> CostOf:
    """The costs of the final student; those of its rate if it was not refined."""
    if refinement is None:
        return costs.cost
    return StudentCosts(lambda rate: student, images, {}).cost


def with_refinement(
    report: Report, refinement: Refinement | None, student: keras.Model
) -> Report:
    """The report with the refinement, and with the widths of the refined student."""
    if refinement is None:
        return report
    result: StudentResult = {**report["student"], "widths": layer_widths(student)}
    return {**report, "student": result, "refinement": refinement}


def refine(
    trainer: Trainer,
    student: keras.Model,
    chosen: Trial,
    folder: pathlib.Path,
    max_seconds: float,
) -> tuple[keras.Model, Refinement]:
    """Refines a student, or goes on with an earlier refinement of it in the folder.

    Args:
        trainer: Trains the students; its plan has the floor of Eq. 4.
        student: The chosen student, in float32; it does not change.
        chosen: Its record; it is feasible.
        folder: Folder of the search.
        max_seconds: No step begins if one as long as the longest so far would end
            after this time, in seconds. The steps of an interrupted run count. The last
            training, to the end, does not.

    Returns:
        The student, and the steps. The student meets Eq. 4 on the validation images; it
        has fewer multiply-adds and parameters than before, or is the one before.
    """
    before = complexity(student)
    student, state = kept_state(folder, student)
    ranking: _Ranking | None = None
    while _has_time(state, max_seconds):
        start = time.monotonic()
        ranking = ranking or _rank(student, trainer)
        removed = ranking.choose(state)
        if not removed:
            break
        thinner = without_channels(student, removed)
        trained = _distil(trainer, thinner, chosen, len(state.steps) + 1)
        step = _step(len(removed), thinner, trained, trainer.plan.floor, start)
        state = state.after(step, ranking.makers_of(removed[0]))
        if trained is not None and step["is_kept"]:
            student, ranking = trained.student, None
        keep_state(folder, student, state)
    if state.num_kept and not state.is_finished:
        student, state = _finish(trainer, student, chosen, state)
        keep_state(folder, student, state)
    record = Refinement(
        num_macs=before.num_macs,
        num_params=before.num_params,
        max_seconds=max_seconds,
        steps=state.steps,
    )
    _log_result(record)
    return student, record


def _finish(
    trainer: Trainer, student: keras.Model, chosen: Trial, state: State
) -> tuple[keras.Model, State]:
    """Trains the refined student to the end; the more accurate of the two is kept."""
    start = time.monotonic()
    trained = _distil(trainer, student, chosen, None)
    least = next(s["accuracy"] for s in reversed(state.steps) if s["is_kept"])
    step = _step(0, student, trained, least, start)
    if trained is not None and step["is_kept"]:
        student = trained.student
    return student, state.after(step, ())


def _step(
    num_removed: int,
    thinner: keras.Model,
    trained: TrainedStudent | None,
    floor: float,
    start: float,
) -> RefinementStep:
    cost = complexity(thinner)
    accuracy = 0.0 if trained is None else trained.accuracy
    return RefinementStep(
        num_removed=num_removed,
        num_macs=cost.num_macs,
        num_params=cost.num_params,
        accuracy=accuracy,
        is_kept=trained is not None and accuracy >= floor,
        seconds=time.monotonic() - start,
    )


def _has_time(state: State, max_seconds: float) -> bool:
    if state.is_finished:
        return False
    seconds = [step["seconds"] for step in state.steps]
    return sum(seconds) + max(seconds, default=0.0) <= max_seconds


class _Ranking(NamedTuple):
    """The sets of a student that can be removed.

    Attributes:
        blocks: The blocks with more than one set.
        importance: The importance of each set at its root, in nats.
        share_of: Maps removed sets to the remaining share of the cost.
    """

    blocks: list[Block]
    importance: np.ndarray
    share_of: ShareOf

    def choose(self, state: State) -> list[int]:
        """The roots of the sets that the next step removes; empty if none is left."""
        blocks = [block for block in self.blocks if block.makers not in state.closed]
        return choose_sets(
            blocks, self.importance, self.share_of, _SAVED_SHARE, state.most
        )

    def makers_of(self, root: int) -> tuple[int, ...]:
        """What identifies the block of a set, before and after a step."""
        return next(block.makers for block in self.blocks if root in block.roots)


def _rank(student: keras.Model, trainer: Trainer) -> _Ranking:
    channels = Channels(student)
    recipe = trainer.recipe
    scale = recipe.temperature**2 if recipe.scale_soft_loss else 1.0

    def loss(
        logits: tf.Tensor,
        teacher_logits: tf.Tensor,
        labels: tf.Tensor,
        *weights: tf.Tensor,
    ) -> tf.Tensor:
        hard = hard_loss(labels, logits)
        soft = scale * soft_loss(teacher_logits, logits, recipe.temperature)
        losses = distillation_loss(hard, soft, recipe.soft_loss_weight)
        return tf.reduce_mean(losses * weights[0] if weights else losses)

    examples = _examples(trainer.transfer, recipe)
    return _Ranking(
        removable_blocks(channels),
        loss_changes(student, channels, examples, loss),
        remaining_share(channels),
    )


def _examples(transfer: TransferSet, recipe: Recipe) -> tf.data.Dataset:
    """Batches of images, teacher's logits, labels and sample weights, if any."""
    # Drawn, as the images may be sorted by class
    generator = np.random.default_rng(recipe.seed)
    some = generator.permutation(len(transfer.images))[:_NUM_EXAMPLES]
    some.sort()
    views, weights = transfer.views, None
    if recipe.class_weights == "balanced":
        weights = balanced_weights(transfer.labels)[some]
    batches = TransferSet(
        transfer.images[some],
        transfer.labels[some],
        transfer.teacher_logits[some],
        weights,
        transfer.augmentation,
        None if views is None else views[some],
    ).batches(_BATCH_SIZE, recipe.seed)
    return batches.map(
        lambda inputs, *others: (inputs["images"], inputs["teacher_logits"], *others)
    )


def _distil(
    trainer: Trainer,
    thinner: keras.Model,
    record: Trial,
    number: int | None,
) -> TrainedStudent | None:
    """The student after the short training of a step; None if the training diverged.

    Without a number, the training is the last one, as long as the recipe says.
    """
    record = record._replace(num_macs=complexity(thinner).num_macs)
    recipe = _further_recipe(trainer, thinner, record, is_short=number is not None)
    # Dozens of short curves would hide the others in TensorBoard
    short = trainer._replace(
        recipe=recipe, builders={record.family: lambda rate: thinner}, log_dir=None
    )
    try:
        return short.train_more(
            "refined, to the end" if number is None else f"refine {number}",
            record,
            recipe,
            "",
            trainer.plan.floor,
            Workload(0, 0.0, None),
        )
    except DivergedError:
        return None


def _further_recipe(
    trainer: Trainer, student: keras.Model, record: Trial, is_short: bool
) -> Recipe:
    # Students that start alike would teach each other nothing
    recipe = dataclasses.replace(trainer.recipe, seed=record.seed)
    if "initialize" in method_named(recipe.method).unused_settings:
        recipe = dataclasses.replace(recipe, method=DISTILLATION)
    if not is_short:
        return recipe
    learning_rate = recipe.learning_rate
    if isinstance(learning_rate, str):
        learning_rate = default_learning_rate(recipe.solver, student, record.rate)
    return dataclasses.replace(
        recipe,
        epochs=max(1, round(_SHARE_OF_EPOCHS * trainer.num_epochs)),
        learning_rate=_SHARE_OF_LEARNING_RATE * learning_rate,
    )


def _log_result(record: Refinement) -> None:
    kept = [step for step in record["steps"] if step["is_kept"]]
    smallest = kept[-1] if kept else record
    _logger.info(
        "Refined in %d steps, %d of them kept: from %s to %s multiply-adds, from %s to "
        "%s parameters",
        len(record["steps"]),
        len(kept),
        f"{record['num_macs']:,}",
        f"{smallest['num_macs']:,}",
        f"{record['num_params']:,}",
        f"{smallest['num_params']:,}",
    )
