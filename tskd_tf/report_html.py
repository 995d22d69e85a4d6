"""The report as one self-contained HTML page."""

import base64
import html
from typing import Any

from tskd_tf.report import (
    allows_any_loss,
    budget_rows,
    certainty,
    classes_to_show,
    labels_note,
    loss_and_allowed,
    ratio_of,
    verdict,
)

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de;
  --paper: #ffffff; --card: #f6f8fa; --good: #0a6b50; --bad: #a8410f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9da7b1;
  --line: #3d444d; --paper: #0d1117; --card: #161b22; --good: #4cc9a0;
  --bad: #ff9d66; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 56rem; padding: 1.5rem 1rem 4rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.55 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
.badge { font-weight: 700; } .good { color: var(--good); } .bad { color: var(--bad); }
.numbers { display: grid; gap: .75rem; margin: 1.2rem 0;
  grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }
.number { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .7rem .9rem; }
.number b { display: block; font-size: 1.55rem; line-height: 1.2; }
.number span, .note { color: var(--soft); font-size: .875rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { font-size: .8rem; color: var(--soft); font-weight: 600; }
img { max-width: 100%; height: auto; background: #fff; border-radius: .5rem; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .8rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; }
@media print { body { max-width: none; padding: 0; } .number { break-inside: avoid; } }
"""


def render(
    report: dict[str, Any],
    figure_png: bytes,
    command: str,
    search_png: bytes | None = None,
) -> str:
    """The page.

    Args:
        report: As in `report.json`.
        figure_png: Accuracy against MACs.
        command: What repeats the run.
        search_png: The search by trial; None where nothing was searched.

    Returns:
        HTML that loads nothing from anywhere.
    """
    teacher, student = report["teacher"], report["student"]
    kept = report["meets_threshold"]
    badge = "✓ Keeps the bargain" if kept else "✗ Does not keep the bargain"
    if allows_any_loss(report):
        badge = "✓ Of the pre-set cost"
    colour = "good" if kept else "bad"
    figures = _image(figure_png, _figure_text(report))
    if search_png is not None:
        figures = _image(search_png, _search_text(report)) + figures
    rates = [trial["rate"] for trial in report["search"]["trials"]]
    if len(set(rates)) < len(rates):
        figures += (
            '<p class="note">A rate that was trained more than once counts by the mean '
            "of its accuracies.</p>\n"
        )
    loss, allowed = loss_and_allowed(report)
    if allows_any_loss(report):
        allowed = "any"
    direction = "gained" if report["accuracy_loss"] < 0 else "lost"
    numbers = [
        (
            _percent(student["accuracy"]),
            f"right; teacher {_percent(teacher['accuracy'])}",
        ),
        (loss, f"{direction}; {allowed} allowed"),
    ]
    for key, name in (("num_params", "parameters"), ("num_macs", "multiply-adds")):
        ratio, more_or_fewer = ratio_of(teacher, student, key)
        numbers.append((f"{ratio:.1f}×", f"{more_or_fewer} {name}"))
    cards = "".join(
        f'<div class="number"><b>{_text(value)}</b><span>{_text(name)}</span></div>'
        for value, name in numbers
    )
    task, source = report["task"], report["data"].get("source", "arrays")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Smallest student: {_text(", ".join(task["class_names"]))}</title>
<style>{_STYLE}</style></head><body>
<header><div class="badge {colour}">{badge}</div>
<h1>{_text(verdict(report))}</h1>
<p>{_text(certainty(report))}</p></header>
<div class="numbers">{cards}</div>
<p class="note">Task: {_text(", ".join(task["class_names"]))}; {task["head"]} head.
Data: {_text(source)}; {report["data"]["num_train"]:,} training,
{report["data"]["num_validation"]:,} validation and {report["data"]["num_test"]:,} test
images of the task.</p>
<h2>Teacher, student, control</h2>{_comparison(report)}
<p class="note">All accuracies are on the task's test images. The control is the
student's network trained on the hard labels only. The teacher gets
{_percent(teacher["accuracy_all_outputs"])} right choosing among all its outputs and
{_percent(teacher["accuracy_task_outputs"])} choosing among the task's. Interval:
{_text(report["accuracy_loss_interval_method"])}.</p>
{_budgets(report)}{_by_class(report)}<h2>The search</h2>
{figures}{_trials(report)}
<h2>Files</h2>{_exports(report)}
<h2>To repeat it</h2><pre>{_text(command)}</pre>
<p class="note">{_text(_environment(report))}</p>
</body></html>
"""


def _text(value: str) -> str:
    return html.escape(value)


def _image(png: bytes, text: str) -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f'<img alt="{_text(text)}" src="{source}">\n'


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def _table(header: list[str], rows: list[list[str]]) -> str:
    head = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _comparison(report: dict[str, Any]) -> str:
    teacher, student = report["teacher"], report["student"]
    rows = [
        [name, _percent(accuracy), *(f"{cost[key]:,}" for key in keys)]
        for name, accuracy, cost in (
            ("teacher", teacher["accuracy"], teacher),
            ("student", student["accuracy"], student),
            ("control", report["control"]["accuracy"], student),
        )
        for keys in [("num_params", "num_macs", "size_bytes")]
    ]
    header = ["", "accuracy", "parameters", "multiply-adds", "bytes of weights"]
    return _table(header, rows)


def _budgets(report: dict[str, Any]) -> str:
    rows = budget_rows(report)
    if not rows:
        return ""
    table = _table(["", "limit", "student"], [list(row) for row in rows])
    return f"<h2>Budgets</h2>{table}\n"


def _by_class(report: dict[str, Any]) -> str:
    """Accuracies by class; of many, those that lose most, and all when asked for."""
    shown, classes = classes_to_show(report), report.get("classes", [])
    if not shown:
        return ""
    balanced = [
        _percent(report[who]["balanced_accuracy"])
        for who in ("teacher", "student", "control")
    ]
    rows = [*_class_rows(shown), ["balanced accuracy", "", "", *balanced]]
    header = ["class", "training images", "test images", "teacher", "student"]
    header.append("control")
    note = "Balanced accuracy is the mean of the accuracies by class."
    everything = ""
    if len(shown) < len(classes):
        note = f"The {len(shown)} of {len(classes)} classes that lose most. {note}"
        table = _table(header, _class_rows(classes))
        everything = f"<details><summary>All classes</summary>{table}</details>"
    return (
        f'<h2>By class</h2>{_table(header, rows)}<p class="note">{note}</p>'
        f"{everything}\n"
    )


def _class_rows(classes: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [
            result["class_name"],
            f"{result['num_train']:,}",
            f"{result['num_test']:,}",
            _percent(result["teacher_accuracy"]),
            _percent(result["student_accuracy"]),
            _percent(result["control_accuracy"]),
        ]
        for result in classes
    ]


def _trials(report: dict[str, Any]) -> str:
    rows = [
        [
            f"{trial['rate']:g}",
            "-".join(map(str, trial["widths"])),
            f"{trial['num_macs']:,}",
            _percent(trial["accuracy"]),
            "yes" if trial["feasible"] else "no",
            str(trial["epochs"]),
            f"{trial['seconds']:.1f}",
        ]
        for trial in report["search"]["trials"]
    ]
    header = ["rate", "widths", "multiply-adds", "validation accuracy", "enough"]
    return _table([*header, "epochs", "seconds"], rows)


def _exports(report: dict[str, Any]) -> str:
    rows = []
    for export in report.get("exports", []):
        latency = export["latency_us"] or {}
        rows.append(
            [
                export["path"],
                f"{export['size_bytes']:,}",
                _percent(export["accuracy"]),
                f"{latency['p50']:.0f}" if latency else "not measured",
                f"{latency['p90']:.0f}" if latency else "not measured",
                "yes" if export["meets_threshold"] else "no",
            ]
        )
    header = [
        "file",
        "bytes",
        "test accuracy",
        "µs an image, median",
        "90th percentile",
    ]
    table = _table([*header, "keeps the bargain"], rows)
    if "labels" not in report:
        return table
    note = f"{report['labels']}: {labels_note(report)}."
    return f'{table}<p class="note">{_text(note)}</p>'


def _environment(report: dict[str, Any]) -> str:
    environment = report["environment"]
    versions = (f"{name} {v}" for name, v in environment["versions"].items())
    # Reports of earlier versions do not say why
    reason = environment.get("precision_reason", "")
    precision = environment["precision"] + (f" ({reason})" if reason else "")
    return (
        f"Trained in {precision} on {environment['device']}, seed "
        f"{environment['seed']}, with {', '.join(versions)}."
    )


def _figure_text(report: dict[str, Any]) -> str:
    search = report["search"]
    # Where any loss is allowed, the floor is below 0
    needed = max(search["validation_floor"], 0.0)
    return (
        f"Validation accuracy over multiply-adds of {len(search['trials'])} students; "
        f"{_percent(needed)} are needed; the chosen one, at rate "
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
