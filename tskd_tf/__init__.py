"""Task-specified knowledge distillation for Keras.

The package finds the smallest student of a trained Keras classifier for the classes
that a device needs. The student loses at most the accuracy that you allow (Eq. 4 of
Shi et al., "A scalable convolutional neural network for task-specified scenarios via
knowledge distillation", ICIP 2017).

The names below are loaded when they are first used, so that `import tskd_tf` does not
wait for TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tskd_tf.choices import Budgets as Budgets
    from tskd_tf.data.augmentation import Augmentation as Augmentation
    from tskd_tf.data.task import Task as Task
    from tskd_tf.distillation.distiller import Distiller as Distiller
    from tskd_tf.distillation.losses import SoftLoss as SoftLoss
    from tskd_tf.distillation.methods.adversarial import (
        AdversarialDistiller as AdversarialDistiller,
    )
    from tskd_tf.distillation.methods.hint import HintDistiller as HintDistiller
    from tskd_tf.distillation.methods.online import OnlineDistiller as OnlineDistiller
    from tskd_tf.distillation.methods.peers import build_students as build_students
    from tskd_tf.distillation.methods.pre_regression import (
        PreRegressionDistiller as PreRegressionDistiller,
    )
    from tskd_tf.distillation.recipe import Recipe as Recipe
    from tskd_tf.distillation.soft_targets import (
        capture_soft_targets as capture_soft_targets,
    )
    from tskd_tf.distillation.soft_targets import transfer_set as transfer_set
    from tskd_tf.errors import InputError as InputError
    from tskd_tf.networks.cheap_convolutions import (
        replace_convolutions as replace_convolutions,
    )
    from tskd_tf.networks.costs import complexity as complexity
    from tskd_tf.networks.importance import channel_importance as channel_importance
    from tskd_tf.networks.layers.dominant import DominantConv2D as DominantConv2D
    from tskd_tf.networks.layers.grouped import GroupedConv2D as GroupedConv2D
    from tskd_tf.networks.layers.shift import ShiftConv2D as ShiftConv2D
    from tskd_tf.networks.rebuild import as_logits as as_logits
    from tskd_tf.networks.width import scale_width as scale_width
    from tskd_tf.networks.zoo.resnet import cheap_resnet as cheap_resnet
    from tskd_tf.search.smallest_student import (
        find_smallest_student as find_smallest_student,
    )

_MODULES = {
    "AdversarialDistiller": "distillation.methods.adversarial",
    "Augmentation": "data.augmentation",
    "Budgets": "choices",
    "Distiller": "distillation.distiller",
    "DominantConv2D": "networks.layers.dominant",
    "GroupedConv2D": "networks.layers.grouped",
    "HintDistiller": "distillation.methods.hint",
    "InputError": "errors",
    "OnlineDistiller": "distillation.methods.online",
    "PreRegressionDistiller": "distillation.methods.pre_regression",
    "Recipe": "distillation.recipe",
    "ShiftConv2D": "networks.layers.shift",
    "SoftLoss": "distillation.losses",
    "Task": "data.task",
    "as_logits": "networks.rebuild",
    "build_students": "distillation.methods.peers",
    "capture_soft_targets": "distillation.soft_targets",
    "channel_importance": "networks.importance",
    "cheap_resnet": "networks.zoo.resnet",
    "complexity": "networks.costs",
    "find_smallest_student": "search.smallest_student",
    "replace_convolutions": "networks.cheap_convolutions",
    "scale_width": "networks.width",
    "transfer_set": "distillation.soft_targets",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
