"""TensorBoard's HParams table of a search, with one row per trial."""

import pathlib

from tskd_tf.choices import FAMILIES
from tskd_tf.distillation.event_files import fresh_events
from tskd_tf.search.evidence import Trial

_TITLES = {"num_macs": "multiply-adds", "accuracy": "validation accuracy"}


def write_hparams(
    run_dir: pathlib.Path,
    trial_name: str,
    record: Trial,
    num_epochs: int,
    most_macs: int,
) -> None:
    """Writes the row of a trial into the folder of its curves.

    A row from an earlier call is replaced, so that no trial has two rows. Every trial
    defines the columns, because no trial knows whether it is the first.

    Args:
        run_dir: Folder of the trial's curves.
        trial_name: Name of the row.
        record: The record of the trial.
        num_epochs: Number of epochs of a training that is not stopped early.
        most_macs: Upper limit of the students' multiply-adds.
    """
    # The import is slow, and only needed if curves are written
    from tensorboard.plugins.hparams import api

    # Accuracy is a column, not a metric, because a metric must be the end of a curve.
    # The trial's curve ends elsewhere if its student was trained to the end
    columns = {
        "family": api.Discrete(sorted({*FAMILIES, record.family})),
        "rate": api.RealInterval(0.0, max(1.0, record.rate)),
        "num_macs": api.IntInterval(0, max(most_macs, record.num_macs)),
        "seed": api.IntInterval(0, 2**32 - 1),
        "epochs": api.IntInterval(1, max(num_epochs, record.epochs)),
        "feasible": api.Discrete([False, True]),
        "accuracy": api.RealInterval(0.0, 1.0),
    }
    with fresh_events(run_dir, ".hparams") as writer, writer.as_default():
        api.hparams_config(
            hparams=[
                api.HParam(name, domain, _TITLES.get(name))
                for name, domain in columns.items()
            ],
            metrics=[],
        )
        values = {name: getattr(record, name) for name in columns}
        api.hparams(values, trial_id=trial_name)
