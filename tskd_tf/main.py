"""Task-specified knowledge distillation from the command line.

python -m tskd_tf.main --flagfile=mnist.flags

Trains or loads a teacher, captures its soft targets for the classes of interest,
searches for the smallest student that loses no more accuracy than allowed, and leaves
the student, its files to deploy and the evidence in --output_dir. Exit status: 0, the
student meets all limits; 3, no student does, and the best one is saved; 2, flags or
inputs are wrong; 1, any other error.
"""

import dataclasses
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from absl import app, flags
from absl import logging as absl_logging

from tskd_tf.errors import InputError, WorkerError, full_disk
from tskd_tf.run.config import RunConfig


class _NumberOrName(flags.ArgumentParser[float | str]):
    """Parses `0.5` to a number and anything else to itself."""

    syntactic_help = "a number or a name"

    def parse(self, argument: Any) -> float | str:
        """Called by absl with the text of the flag, or its default."""
        try:
            return float(argument)
        except ValueError:
            return str(argument)

    def flag_type(self) -> str:
        """What --help and --helpxml call it."""
        return "float or string"


def _define_flags() -> None:
    for field in dataclasses.fields(RunConfig):
        text, choices = field.metadata["help"], field.metadata["choices"]
        default: Any = field.default
        if choices:
            flags.DEFINE_enum(field.name, default, list(choices), text)
        elif field.type is bool:
            flags.DEFINE_bool(field.name, default, text)
        elif isinstance(field.default, tuple):
            flags.DEFINE_list(field.name, list(default), text)
        elif field.type in (int, int | None):
            flags.DEFINE_integer(field.name, default, text)
        elif field.type == float | str:
            parser = _NumberOrName()
            flags.DEFINE(parser, field.name, default, text, flags.FLAGS)
        elif field.type in (float, float | None):
            flags.DEFINE_float(field.name, default, text)
        else:
            flags.DEFINE_string(field.name, default, text)


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        _fail(str(error))
        sys.exit(2)


def _read_config() -> RunConfig:
    if flags.FLAGS["classes"].present and not flags.FLAGS.classes:
        raise InputError(
            "Expected at least two --classes, or no --classes flag for all classes. "
            "Received: an empty list"
        )
    if flags.FLAGS.image_dir is not None and flags.FLAGS["dataset"].present:
        # --dataset has a default: only here is it known whether the user gave it
        raise InputError(
            "Expected either --image_dir or --dataset. Received: both, "
            f"--dataset={flags.FLAGS.dataset}"
        )
    values: dict[str, Any] = {
        field.name: flags.FLAGS[field.name].value
        for field in dataclasses.fields(RunConfig)
    }
    lists = {name: tuple(v) for name, v in values.items() if isinstance(v, list)}
    return RunConfig(**{**values, **lists})


def _fail(message: str) -> None:
    sys.stderr.write(f"error: {' '.join(message.split())}\n")


def _set_up_logging() -> None:
    absl_logging.set_verbosity(absl_logging.WARNING)
    absl_logging.get_absl_handler().setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("tskd_tf").setLevel(logging.INFO)
    # TensorFlow reports as errors that a machine has no GPU, and as warnings that each
    # student is traced anew
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def _interrupt(*_: Any) -> None:
    """Raises KeyboardInterrupt, and again after two seconds until `main` catches it.

    TensorFlow swallows an interrupt while it traces a function, or raises another
    error instead.
    """
    signal.setitimer(signal.ITIMER_REAL, 2.0)
    raise KeyboardInterrupt


def _set_up_interrupts() -> None:
    if hasattr(signal, "setitimer"):  # not on Windows
        signal.signal(signal.SIGINT, _interrupt)
        signal.signal(signal.SIGALRM, _interrupt)


def _take_interrupt() -> bool:
    """Whether an interrupt is pending; cancels it."""
    if not hasattr(signal, "setitimer"):
        return False
    return signal.setitimer(signal.ITIMER_REAL, 0)[0] > 0


def main(argv: Sequence[str]) -> int:
    """Runs the job that the flags describe; returns the exit status."""
    _set_up_logging()
    try:
        if len(argv) > 1:
            raise InputError(f"Expected flags only. Received: {' '.join(argv[1:])}")
        config = _read_config()
        # TensorFlow loads here, after --help
        from tskd_tf.run import search_job, sweep_job
        from tskd_tf.run.protocols import with_protocol

        config = with_protocol(config)
        if config.mode == "sweep":
            status, summary = sweep_job.run(config)
        elif config.mode == "report" and sweep_job.holds_sweep(config.output_dir):
            status, summary = sweep_job.redraw(config.output_dir)
        else:
            status, summary = search_job.run(config)
    except InputError as error:
        _fail(str(error))
        return 2
    except (KeyboardInterrupt, Exception) as error:
        if _take_interrupt() or isinstance(error, KeyboardInterrupt):
            _fail("interrupted; the same command with --resume goes on")
            return 1
        if isinstance(error, WorkerError):
            _fail(f"{error}; the same command with --resume goes on")
            return 1
        full = full_disk(error)
        if full is None:
            raise
        _fail(
            f"no room for {full}; what was written is whole: with more room, the same "
            "command with --resume goes on"
        )
        return 1
    sys.stdout.write(summary)
    return status


_define_flags()

if __name__ == "__main__":
    _set_up_interrupts()
    app.run(main, flags_parser=_parse)
