"""Protocols: named groups of settings.

`paper` is as close to Shi et al. 2017 as is known. The paper gives the networks, the
full head, τ and λ. Initialisers, solvers and the length of training are those of
Caffe's examples for these networks (see `models` and `solvers`). A student makes as
many passes over D(θ) as its teacher over D.

`best` lost least accuracy at a tenth of the width; BUILD_NOTES.md lists the trials.
"""

import dataclasses
from typing import Any

from tskd_tf.choices import THIN
from tskd_tf.distillation.solvers import CAFFE_SOLVERS
from tskd_tf.errors import InputError
from tskd_tf.run.config import RunConfig

# A sweep chooses nothing on validation data; it only shows their accuracy
_FEW_TO_WATCH = {"validation_fraction": 0.02}
_CIFAR10 = {
    "augmentation": ("flip",),
    # At 3e-3 the teacher gets 61 % right after twelve epochs, at 1e-3 71 % after five
    "learning_rate": 1e-3,
    "epochs": 20,
    "teacher_epochs": 40,
}
_BEST: dict[str, dict[str, Any]] = {
    "lenet": {
        "augmentation": ("shift",),
        "augmentation_pixels": 1,
        "batch_size": 64,
        "learning_rate": 4e-3,
        "epochs": 40,
        "teacher_epochs": 20,
    },
    "cifar10_full": _CIFAR10,
    "cifar10_quick": _CIFAR10,
}


def protocol_settings(protocol: str, teacher: str) -> dict[str, Any]:
    """The settings of a protocol, by flag name.

    Args:
        protocol: `"none"`, `"paper"` or `"best"`.
        teacher: The value of `--teacher`: a network's name or a file's path.

    Raises:
        InputError: If there is no such protocol for that teacher.
    """
    if protocol == "none":
        return {}
    if protocol == "best":
        return {
            **_FEW_TO_WATCH,
            "head": "task",
            "family": THIN,
            "initialize": "teacher",
            "learning_rate": 3e-3,
            **_BEST.get(teacher, {}),
        }
    solver = f"caffe_{teacher}"
    if solver not in CAFFE_SOLVERS:
        names = ", ".join(name.removeprefix("caffe_") for name in CAFFE_SOLVERS)
        raise InputError(
            f"Expected --protocol=paper with --teacher out of {names}, for which Caffe "
            f"has solvers. Received: --teacher={teacher}"
        )
    found = CAFFE_SOLVERS[solver]
    num_examples = 60_000 if teacher == "lenet" else 50_000
    num_epochs = found.num_epochs(num_examples)
    return {
        **_FEW_TO_WATCH,
        "head": "full",
        "family": THIN,
        "rate_step": 0.05,
        "initialize": "random",
        "solver": solver,
        "learning_rate": found.learning_rate,
        "batch_size": found.batch_size,
        "epochs": num_epochs,
        "teacher_epochs": num_epochs,
    }


def with_protocol(config: RunConfig) -> RunConfig:
    """The configuration with the settings of its protocol.

    A value that differs from its default takes precedence over the protocol.

    Raises:
        InputError: If there is no such protocol for its teacher.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    settings = protocol_settings(config.protocol, config.teacher)
    free = {k: v for k, v in settings.items() if getattr(config, k) == defaults[k]}
    return dataclasses.replace(config, **free)
