"""Task-specified knowledge distillation for Keras.

A trained Keras classifier, the classes a device cares about, and how much accuracy
may be lost go in; the smallest student that keeps the bargain comes out (Eq. 4 of
Shi et al., "A scalable convolutional neural network for task-specified scenarios via
knowledge distillation", ICIP 2017).

The names below are loaded when they are first used, so that `import tskd_tf` does not
wait for TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tskd_tf.adversarial import AdversarialDistiller as AdversarialDistiller
    from tskd_tf.augmentation import Augmentation as Augmentation
    from tskd_tf.budgets import Budgets as Budgets
    from tskd_tf.cheap_convolutions import replace_convolutions as replace_convolutions
    from tskd_tf.costs import complexity as complexity
    from tskd_tf.distiller import Distiller as Distiller
    from tskd_tf.dominant import DominantConv2D as DominantConv2D
    from tskd_tf.errors import InputError as InputError
    from tskd_tf.grouped import GroupedConv2D as GroupedConv2D
    from tskd_tf.hints import HintDistiller as HintDistiller
    from tskd_tf.importance import channel_importance as channel_importance
    from tskd_tf.losses import SoftLoss as SoftLoss
    from tskd_tf.online import OnlineDistiller as OnlineDistiller
    from tskd_tf.peers import build_students as build_students
    from tskd_tf.pre_regression import PreRegressionDistiller as PreRegressionDistiller
    from tskd_tf.rebuild import as_logits as as_logits
    from tskd_tf.recipe import Recipe as Recipe
    from tskd_tf.resnet import cheap_resnet as cheap_resnet
    from tskd_tf.search import find_smallest_student as find_smallest_student
    from tskd_tf.shift import ShiftConv2D as ShiftConv2D
    from tskd_tf.soft_targets import capture_soft_targets as capture_soft_targets
    from tskd_tf.soft_targets import transfer_set as transfer_set
    from tskd_tf.task import Task as Task
    from tskd_tf.width import scale_width as scale_width

_MODULES = {
    "AdversarialDistiller": "adversarial",
    "Augmentation": "augmentation",
    "Budgets": "budgets",
    "Distiller": "distiller",
    "DominantConv2D": "dominant",
    "GroupedConv2D": "grouped",
    "HintDistiller": "hints",
    "InputError": "errors",
    "OnlineDistiller": "online",
    "PreRegressionDistiller": "pre_regression",
    "Recipe": "recipe",
    "ShiftConv2D": "shift",
    "SoftLoss": "losses",
    "Task": "task",
    "as_logits": "rebuild",
    "build_students": "peers",
    "capture_soft_targets": "soft_targets",
    "channel_importance": "importance",
    "cheap_resnet": "resnet",
    "complexity": "costs",
    "find_smallest_student": "search",
    "replace_convolutions": "cheap_convolutions",
    "scale_width": "width",
    "transfer_set": "soft_targets",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
