"""Figures of a run, drawn from its report."""

from typing import Any

from matplotlib.figure import Figure

_INK = "#1b1f24"
_FEASIBLE = "#0a6b50"
_INFEASIBLE = "#a8410f"
_TEACHER = "#2b4ea0"


def accuracy_against_macs(report: dict[str, Any]) -> Figure:
    """The search: validation accuracy of every trial over its multiply-adds.

    Feasible students are filled circles, infeasible ones crosses, the chosen one is
    ringed, and the dashed line is the smallest accuracy that Eq. 4 allows, if it asks
    for any.
    """
    figure = Figure(figsize=(7.5, 4.4), layout="constrained", dpi=160)
    axes = figure.subplots()
    search, student = report["search"], report["student"]
    for feasible, marker, colour, name in (
        (True, "o", _FEASIBLE, "keeps the bargain"),
        (False, "X", _INFEASIBLE, "loses too much"),
    ):
        trials = [t for t in search["trials"] if t["feasible"] == feasible]
        if not trials:
            continue
        axes.scatter(
            [t["num_macs"] for t in trials],
            [100 * t["accuracy"] for t in trials],
            marker=marker,
            s=60,
            color=colour,
            label=name,
            zorder=3,
        )
    for trial in search["trials"]:
        is_chosen = trial["rate"] == student["rate"]
        point = (trial["num_macs"], 100 * trial["accuracy"])
        if is_chosen:
            axes.scatter(
                *point, s=170, facecolors="none", edgecolors=_INK, label="chosen"
            )
        axes.annotate(
            f"{trial['rate']:g}",
            point,
            xytext=(0, -17),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=_INK,
        )
    axes.scatter(
        [report["teacher"]["num_macs"]],
        [100 * search["validation_teacher_accuracy"]],
        marker="D",
        s=60,
        color=_TEACHER,
        label="teacher",
        zorder=3,
    )
    floor = 100 * search["validation_floor"]
    # Where any loss is allowed, no accuracy is needed
    if floor > 0:
        axes.axhline(floor, color=_INK, linestyle="--", linewidth=1)
        axes.text(
            0.995,
            floor,
            f"needed: {floor:.2f} %",
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="bottom",
            fontsize=8,
            color=_INK,
        )
    axes.set_xscale("log")
    axes.margins(x=0.08, y=0.15)
    axes.set_xlabel("multiply-adds of one inference (numbers at the marks: rate)")
    axes.set_ylabel("accuracy on the task's validation images (%)")
    axes.grid(True, which="major", color="#d8dce0", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=8, loc="outside upper right", ncols=4)
    return figure
