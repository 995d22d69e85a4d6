"""The page's part about the search: its figures, its trials, how they were trained."""

from typing import Any

from tskd_tf.report.figures.plotting import MOST_NUMBERS
from tskd_tf.report.figures.results import has_curves
from tskd_tf.report.figures.search import chosen_index
from tskd_tf.report.page.html import Pngs, figure, note, percent, table
from tskd_tf.report.words import describe_convolutions

_MOST_WIDTHS = 8


def search_section(report: dict[str, Any], figures: Pngs) -> str:
    """Its figures and all of its trials."""
    trials = report["search"]["trials"]
    has_path = 1 < len(trials) <= MOST_NUMBERS
    shown = ""
    if "accuracy_against_macs" in figures:
        shown += figure(
            figures["accuracy_against_macs"],
            _accuracy_text(report),
            "What each student costs and gets right on validation images, with the "
            "number of its trial." + " The arrows follow their order." * has_path,
        )
    # Of one trial there is no search to see
    if "search" in figures and len(trials) > 1:
        shown += figure(
            figures["search"],
            _search_text(report),
            "How the search closed in on the smallest rate that is enough.",
        )
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


def _trials(report: dict[str, Any]) -> str:
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
    kind = describe_convolutions(report)
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


def _accuracy_text(report: dict[str, Any]) -> str:
    search = report["search"]
    # Where any loss is allowed, the floor is below 0
    needed = max(search["validation_floor"], 0.0)
    return (
        f"Validation accuracy over multiply-adds of {len(search['trials'])} students; "
        f"{percent(needed)} are needed; the chosen one, at rate "
        f"{report['student']['rate']:g}, is ringed. The table below has the numbers."
    )


def _search_text(report: dict[str, Any]) -> str:
    trials, rate = report["search"]["trials"], report["student"]["rate"]
    tried = ", ".join(
        f"{trial['rate']:g} {'enough' if trial['feasible'] else 'not enough'}"
        for trial in trials
    )
    return (
        f"The rates of {len(trials)} trials in their order, and the shrinking band in "
        f"which the smallest feasible one may lie: {tried}. The chosen one, at rate "
        f"{rate:g}, is ringed."
    )


def training_section(report: dict[str, Any], figures: Pngs) -> str:
    """Curves of all that was trained; empty where the report has none."""
    if "training_curves" not in figures or not has_curves(report):
        return ""
    ends = [
        f"{who} {percent(curve['validation_accuracy'][-1])} after "
        f"{len(curve['validation_accuracy'])} epochs"
        for who in ("teacher", "student", "control")
        if (curve := report[who].get("curve"))
    ]
    shown = figure(
        figures["training_curves"],
        "Validation accuracy and training loss by epoch; at the end: "
        + ", ".join(ends),
        "Each minimises a loss of its own: compare the shapes of the losses, not their "
        "heights. A search stops a trial as soon as its verdict is known.",
    )
    return f'<h2>Training</h2>\n<div class="figures">{shown}</div>'
