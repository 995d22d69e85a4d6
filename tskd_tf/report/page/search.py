"""The page's part about the search: its figures, its trials, how they were trained."""

from tskd_tf.report.page.figures import figures_of
from tskd_tf.report.page.html import Pngs, note, percent, table
from tskd_tf.report.record import Report
from tskd_tf.report.trials import chosen_index
from tskd_tf.report.words import describe_kind

_MOST_WIDTHS = 8


def search_section(report: Report, figures: Pngs) -> str:
    """Its figures and all of its trials."""
    trials = report["search"]["trials"]
    shown = figures_of("search", report, figures)
    rates = [trial["rate"] for trial in trials]
    again = ""
    if len(set(rates)) < len(rates):
        again = note(
            "A rate that was trained more than once counts by the mean of its "
            "accuracies."
        )
    return (
        f'<h2>The search</h2>\n<div class="figures">{shown}</div>{again}'
        f"{_trials(report)}"
    )


def _trials(report: Report) -> str:
    chosen = chosen_index(report)
    rows = [
        [
            f"{i + 1}, chosen" if i == chosen else f"{i + 1}",
            f"{trial['rate']:g}",
            _widths(trial["widths"]),
            f"{trial['num_macs']:,}",
            percent(trial["accuracy"]),
            "✓ yes" if trial["feasible"] else "✗ no",
            f"{trial['epochs']}",
            f"{trial['seconds']:.1f}",
        ]
        for i, trial in enumerate(report["search"]["trials"])
    ]
    header = ["trial", "rate", "widths", "multiply-adds", "validation accuracy"]
    kind = describe_kind(report)
    return table(
        "Every student that was trained, in this order" + f"; {kind}" * bool(kind),
        [*header, "enough", "epochs", "seconds"],
        rows,
    )


def _widths(widths: list[int]) -> str:
    """`10-25-250-10`; of very many only those at both ends."""
    shown = [str(width) for width in widths]
    if len(shown) > _MOST_WIDTHS:
        shown[3:-2] = ["…"]
    return "-".join(shown)


def training_section(report: Report, figures: Pngs) -> str:
    """Curves of all that was trained; empty where the report has none."""
    shown = figures_of("training", report, figures)
    return f'<h2>Training</h2>\n<div class="figures">{shown}</div>' if shown else ""
