"""What a user can choose, each choice once: names, and settings with their range.

A record holds what the package knows about a name. It is in its own module and is
loaded on first use, so that `--help` does not wait for TensorFlow. A setting is a
dataclass field with a help text, and its names or its range. Flags and checks are made
from it.
"""

import dataclasses
import importlib
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from tskd_tf.errors import InputError


class Choice(NamedTuple):
    """One name that a user can choose.

    Attributes:
        help: Text for `--help` that says what the choice does.
        record: `module:NAME` of its record.
    """

    help: str
    record: str

    def load(self) -> Any:
        """Imports the module of the record; returns the record."""
        return load_named(self.record)


def load_named(path: str) -> Any:
    """Imports `module` of `module:NAME`; returns its `NAME`."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def check_choice(kind: str, name: str, choices: Collection[str]) -> None:
    """Checks a name.

    Args:
        kind: What is chosen, for the message.
        name: As the user gave it.
        choices: The names there are.

    Raises:
        InputError: If there is no such name.
    """
    if name not in choices:
        raise InputError(
            f"Expected {kind} out of {', '.join(choices)}. Received: {name}"
        )


def help_of(choices: Mapping[str, Choice]) -> str:
    """The help texts of all names, joined."""
    return " ".join(f"{name}: {choice.help}" for name, choice in choices.items())


class Range(NamedTuple):
    """The numbers that a setting may have.

    Attributes:
        words: The range as a message says it, behind the setting's name.
        holds: Whether a number lies in it; false for one that is not a number.
    """

    words: str
    holds: Callable[[Any], bool]


ABOVE_0 = Range("above 0", lambda value: 0 < value < math.inf)
ABOVE_0_OR_AUTO = Range(
    "above 0, or auto", lambda value: value == "auto" or 0 < value < math.inf
)
FROM_0_ON = Range("from 0 on", lambda value: 0 <= value < math.inf)
FROM_0_TO_1 = Range("from 0 to 1", lambda value: 0 <= value <= 1)
FROM_0_TO_BELOW_1 = Range("from 0 to below 1", lambda value: 0 <= value < 1)
BETWEEN_0_AND_1 = Range("between 0 and 1", lambda value: 0 < value < 1)
SEEDS = Range("from 0 to 4294967295", lambda value: 0 <= value < 2**32)


def at_least(least: float) -> Range:
    """The numbers from `least` on."""
    return Range(f"of at least {least:g}", lambda value: least <= value < math.inf)


def setting(
    default: Any,
    help_text: str,
    choices: Collection[str] = (),
    within: Range | None = None,
    **marks: Any,
) -> Any:
    """A field of a dataclass of settings.

    Args:
        default: None for a setting that may be left out.
        help_text: What it does, its unit and its range, for `--help` and `help()`.
        choices: The allowed names. Default: any value.
        within: The allowed numbers. Default: any value.
        **marks: Further facts about the setting, for the code that reads them.
    """
    metadata = {"help": help_text, "choices": choices, "within": within, **marks}
    return dataclasses.field(default=default, metadata=metadata)


def setting_like(settings: type, name: str, default: Any) -> Any:
    """The setting of another dataclass with another default."""
    field = next(f for f in dataclasses.fields(settings) if f.name == name)
    return dataclasses.field(default=default, metadata=field.metadata)


def settings_marked(settings: Any, mark: str, value: Any = True) -> tuple[str, ...]:
    """The names of a dataclass's settings whose `mark` has this value."""
    return tuple(
        field.name
        for field in dataclasses.fields(settings)
        if field.metadata.get(mark) == value
    )


def mark_of(settings: type, name: str, mark: str) -> Any:
    """A mark of one setting of a dataclass; None without it, or no such setting."""
    found = [f for f in dataclasses.fields(settings) if f.name == name]
    return found[0].metadata.get(mark) if found else None


def check_settings(settings: Any, prefix: str = "") -> None:
    """Checks each setting of a dataclass by itself.

    Args:
        settings: An instance.
        prefix: What stands before a setting's name in messages, e.g. `"--"`.

    Raises:
        InputError: If a value is not one of its choices, or out of its range.
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        choices, within = (field.metadata.get(key) for key in ("choices", "within"))
        if choices and value not in choices:
            raise InputError(
                f"Expected {prefix}{field.name} out of {', '.join(choices)}. "
                f"Received: {value}"
            )
        may_be_left_out = field.default is None and value is None
        if within and not may_be_left_out:
            check_within(f"{prefix}{field.name}", value, within)


def check_within(name: str, value: Any, within: Range) -> None:
    """Checks one number.

    Raises:
        InputError: If it is outside the range.
    """
    if not _is_within(value, within):
        raise InputError(f"Expected {name} {within.words}. Received: {value}")


def _is_within(value: Any, within: Range) -> bool:
    try:
        return bool(within.holds(value))
    except (TypeError, ValueError):
        return False


def describe_settings(settings: type) -> str:
    """The settings of a dataclass as the `Attributes:` of a docstring."""
    lines = [
        f"    {field.name}: {field.metadata['help']} Default: {field.default!r}."
        for field in dataclasses.fields(settings)
    ]
    return "\n".join(["Attributes:", *lines])


PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
DISTRIBUTIONS = ("auto", "none", "mirrored")
# The default of settings that follow from others
AUTO = "auto"
INITIALIZATIONS = (AUTO, "random", "teacher")
# What decides whether a candidate keeps the bargain
JUDGES = ("float", "int8")
CLASS_WEIGHTS = ("none", "balanced")
# "smallest" is ours, the others are engines of KerasTuner
ORACLES = ("smallest", "grid", "random", "bayesian", "hyperband")
SOLVERS = ("adam", "caffe_lenet", "caffe_cifar10_full", "caffe_cifar10_quick")

_METHODS = "tskd_tf.distillation.methods"

METHODS: dict[str, Choice] = {
    "distillation": Choice(
        "by Eq. 8, from labels and soft targets.", f"{_METHODS}.distillation:METHOD"
    ),
    "hint": Choice(
        "first, for --hint_share of the steps, from the teacher's middle feature map "
        "(FitNets, Romero et al. 2015). The teacher runs in these steps.",
        f"{_METHODS}.hint:METHOD",
    ),
    "pre_regression": Choice(
        "from labels, soft targets, and class scores of heads at the ends of stages "
        "(inspired by Wang et al. 2016). The teacher runs in every step.",
        f"{_METHODS}.pre_regression:METHOD",
    ),
    "online": Choice(
        "--num_students together, from a head over the feature maps of all (Xie et al. "
        "2019). It uses neither soft targets nor lambda, and keeps the student that is "
        "best on validation data. The teacher only sets the required accuracy.",
        f"{_METHODS}.online:METHOD",
    ),
    "mutual": Choice(
        "--num_students together, from each other (Zhang et al. 2018). As with online, "
        "no soft targets are used and the best student is kept.",
        f"{_METHODS}.mutual:METHOD",
    ),
    "adversarial": Choice(
        "from labels, the distance to the teacher's logits, and a discriminator that "
        "tells the two apart (Xu et al. 2018). It does not use --temperature and "
        "--soft_loss_weight.",
        f"{_METHODS}.adversarial:METHOD",
    ),
}

_LAYERS = "tskd_tf.networks.layers"
PLAIN = "plain"

CONVOLUTIONS: dict[str, Choice] = {
    PLAIN: Choice("convolutions stay.", f"{_LAYERS}.convolution:PLAIN"),
    "dominant": Choice(
        "few kernels and a 1x1 convolution of what they give, which start from the "
        "teacher's kernels with --initialize=teacher.",
        f"{_LAYERS}.dominant:CONVOLUTION",
    ),
    "shift": Choice(
        "each channel moves by a pixel, with a 1x1 convolution behind.",
        f"{_LAYERS}.shift:CONVOLUTION",
    ),
    "grouped": Choice(
        "convolutions in --groups groups, with a 1x1 convolution behind.",
        f"{_LAYERS}.grouped:CONVOLUTION",
    ),
    "depthwise": Choice(
        "a kernel a channel, with a 1x1 convolution behind.",
        f"{_LAYERS}.depthwise:CONVOLUTION",
    ),
}

THIN = "thin"
_FAMILIES = "tskd_tf.networks.families"

# In the order in which a search takes them: the most promising first
FAMILIES: dict[str, Choice] = {
    "compact": Choice(
        "the first convolution gets a stride; the others become depthwise, each with a "
        "1x1 convolution behind it. Batch normalisation is added where the teacher has "
        "none.",
        f"{_FAMILIES}.compact:FAMILY",
    ),
    THIN: Choice(
        "the teacher's network with fewer channels, the paper's rule.",
        f"{_FAMILIES}.thin:FAMILY",
    ),
}

_COSTS = "tskd_tf.search.student_costs"
_EXPORT = "tskd_tf.export"
MACS = "macs"

# What the smallest student has least of
OBJECTIVES: dict[str, Choice] = {
    MACS: Choice("multiply-adds of one inference.", f"{_COSTS}:num_macs"),
    "params": Choice("parameters.", f"{_COSTS}:num_params"),
    "bytes": Choice("bytes of the int8 LiteRT file.", f"{_EXPORT}.litert:int8_bytes"),
    "latency": Choice(
        "time of one image in LiteRT float32 on this machine.",
        f"{_EXPORT}.litert:litert_latency_us",
    ),
    "arena": Choice(
        "memory for the activations of the int8 LiteRT file.",
        f"{_EXPORT}.litert:int8_arena_bytes",
    ),
}

FORMATS: dict[str, Choice] = {
    "keras": Choice("Keras file, to train further.", f"{_EXPORT}.keras_file:KERAS"),
    "litert": Choice("LiteRT in float32.", f"{_EXPORT}.litert:LITERT"),
    "litert_float16": Choice(
        "LiteRT with float16 weights, half the bytes.",
        f"{_EXPORT}.litert:LITERT_FLOAT16",
    ),
    "litert_int8": Choice(
        "LiteRT with integer weights and arithmetic.", f"{_EXPORT}.litert:LITERT_INT8"
    ),
    "onnx": Choice("ONNX (needs the onnx extra).", f"{_EXPORT}.onnx:ONNX"),
    "saved_model": Choice(
        "TensorFlow's SavedModel.", f"{_EXPORT}.saved_model:SAVED_MODEL"
    ),
}


@dataclasses.dataclass(frozen=True)
class Budgets:
    """Upper limits of a student's cost; each is above 0, or None for no limit.

    Fields carry marks. `cost` is the `module:function` that computes the cost from a
    student and some images. `title` names the unit in tables. A cost with `kept_in` is
    measured, not counted: measurements vary, so a search measures it once and keeps it
    in a file of this name.

    Example:

    >>> found = find_smallest_student(..., budgets=Budgets(max_macs=250_000))
    """

    max_macs: int | None = setting(
        None,
        "Largest number of multiply-adds of the student for one image; above 0.",
        within=ABOVE_0,
        title="multiply-adds",
        cost=f"{_COSTS}:num_macs",
    )
    max_params: int | None = setting(
        None,
        "Largest number of parameters of the student; above 0.",
        within=ABOVE_0,
        title="parameters",
        cost=f"{_COSTS}:num_params",
    )
    max_bytes: int | None = setting(
        None,
        "Largest size of the student's float32 weights, in bytes; above 0.",
        within=ABOVE_0,
        title="bytes of weights",
        cost=f"{_COSTS}:size_bytes",
    )
    max_latency_us: float | None = setting(
        None,
        "Longest median time of one image in LiteRT on this machine, in microseconds, "
        "on one thread in float32; above 0.",
        within=ABOVE_0,
        title="us an image, LiteRT",
        cost="tskd_tf.export.litert:litert_latency_us",
        kept_in="latencies.json",
    )

    def limits(self) -> dict[str, float]:
        """The limits that are set, by name, as Python numbers."""
        limits = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self)
        }
        return {
            # NumPy's numbers do not go into JSON files
            name: limit.item() if hasattr(limit, "item") else limit
            for name, limit in limits.items()
            if limit is not None
        }

    def check(self) -> None:
        """Checks the ranges.

        Raises:
            InputError: If a limit is not a finite number above 0.
        """
        check_settings(self)


Budgets.__doc__ = f"{Budgets.__doc__}\n\n{describe_settings(Budgets)}"
