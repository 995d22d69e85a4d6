"""The page's sections about the search and the training: figures and trials."""

from tskd_tf.report.page.figures import figures_of
from tskd_tf.report.page.html import Pngs, note, percent, table
from tskd_tf.report.record import Report
from tskd_tf.report.rows import refinement_text
from tskd_tf.report.trials import candidate_of, chosen_index, families_of
from tskd_tf.report.words import describe_kind

_MOST_WIDTHS = 8


def search_section(report: Report, figures: Pngs) -> str:
    """The section of the search: its figures and a table of all trials."""
    trials = report["search"]["trials"]
    shown = figures_of("search", report, figures)
    again = ""
    if len(set(map(candidate_of, trials))) < len(trials):
        again = note(
            "A student that was trained more than once counts by the mean of its "
            "accuracies."
        )
    return (
        f'<h2>The search</h2>\n<div class="figures">{shown}</div>{again}'
        f"{_trials(report)}{_refinement(report)}"
    )


def _trials(report: Report) -> str:
    chosen = chosen_index(report)
    has_families = len(families_of(report["search"])) > 1
    rows = [
        [
            f"{i + 1}, chosen" if i == chosen else f"{i + 1}",
            *[candidate_of(trial)[0]] * has_families,
            f"{trial['rate']:g}",
            _widths(trial["widths"]),
            f"{trial['num_macs']:,}",
            f"{trial['num_params']:,}" if "num_params" in trial else "",
            percent(trial["accuracy"]),
            "✓ yes" if trial["feasible"] else "✗ no",
            f"{trial['epochs']}",
            f"{trial['seconds']:.1f}",
        ]
        for i, trial in enumerate(report["search"]["trials"])
    ]
    family = ["family"] * has_families
    header = [
        "trial",
        *family,
        "rate",
        "widths",
        "multiply-adds",
        "parameters",
        "validation accuracy",
    ]
    kind = "" if has_families else describe_kind(report)
    return table(
        "All trained students, in this order" + f"; {kind}" * bool(kind),
        [*header, "enough", "epochs", "seconds"],
        rows,
    )


def _refinement(report: Report) -> str:
    """A table of the steps of a refinement; empty without one."""
    if "refinement" not in report:
        return ""
    rows = [
        [
            f"{i}",
            f"{step['num_removed']}" if step["num_removed"] else "none, to the end",
            f"{step['num_macs']:,}",
            f"{step['num_params']:,}",
            percent(step["accuracy"]),
            "✓ kept" if step["is_kept"] else "✗ undone",
            f"{step['seconds']:.1f}",
        ]
        for i, step in enumerate(report["refinement"]["steps"], start=1)
    ]
    header = ["step", "channels removed", "multiply-adds", "parameters"]
    return table(
        f"The chosen student refined: {refinement_text(report)}",
        [*header, "validation accuracy", "enough", "seconds"],
        rows,
    )


def _widths(widths: list[int]) -> str:
    """Widths as `10-25-250-10`; of many widths, only the first and last ones."""
    shown = [str(width) for width in widths]
    if len(shown) > _MOST_WIDTHS:
        shown[3:-2] = ["…"]
    return "-".join(shown)


def training_section(report: Report, figures: Pngs) -> str:
    """The section with learning curves; empty if the report has none."""
    shown = figures_of("training", report, figures)
    return f'<h2>Training</h2>\n<div class="figures">{shown}</div>' if shown else ""
