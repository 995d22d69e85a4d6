"""The share of random faults that the tests catch, for the most important modules.

python benchmarks/mutants.py --num_mutants=150 --seed=1

A mutant is a module with one fault: another operator, an inverted comparison, a number
off by one, a negated condition, a skipped loop. Positions in the source are drawn at
random, equally many per module. Then one of cosmic-ray's faults for the position is
drawn. Each mutant is tried in a copy of the tree: the tests of its own room run, its
own test file first, until one fails. Survivors are printed. Only a reader can decide
whether a survivor is equivalent to the original.
"""

import argparse
import itertools
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

# Module → its own test files first, then the rest of its room
MODULES = {
    "tskd_tf/acceptance.py": "tests/test_acceptance.py",
    "tskd_tf/distillation/distiller.py": "tests/distillation/test_distiller*.py",
    "tskd_tf/distillation/losses.py": "tests/distillation/test_losses.py",
    "tskd_tf/distillation/soft_targets.py": "tests/distillation/test_soft_targets.py",
    "tskd_tf/networks/channels.py": "tests/networks/test_channels.py",
    "tskd_tf/networks/width.py": "tests/networks/test_width*.py",
    "tuner/bisection.py": "tests/tuner/test_bisection.py",
}
# Most `|` are in annotations; the last two operators need arguments
_LEFT_OUT = ("BitOr_", "VariableReplacer", "VariableInserter")
ROOT = pathlib.Path(__file__).parents[1]
_LONGEST_SECONDS = 1200


def all_mutants(module):
    """`(position, operator name, occurrence)` of each mutant of a module."""
    tree = get_ast_from_path(ROOT / module)
    nodes = list(ast_nodes(tree))
    for name in operator_names():
        if any(part in name for part in _LEFT_OUT):
            continue
        operator = get_operator(name)()
        positions = itertools.chain.from_iterable(
            operator.mutation_positions(node) for node in nodes
        )
        for occurrence, (start, _) in enumerate(positions):
            yield start, name, occurrence


def draw_mutants(num_mutants, generator):
    """`(module, operator name, occurrence)` of drawn mutants, one per position."""
    by_module = {}
    for module in MODULES:
        by_position = {}
        for position, name, occurrence in all_mutants(module):
            by_position.setdefault(position, []).append((name, occurrence))
        positions = sorted(by_position)
        generator.shuffle(positions)
        by_module[module] = [generator.choice(by_position[p]) for p in positions]
    drawn = []
    while len(drawn) < num_mutants and any(by_module.values()):
        for module, left in by_module.items():
            if left and len(drawn) < num_mutants:
                drawn.append((module, *left.pop()))
    return drawn


def test_files(tree, module, own_only):
    """The test files of a module's room, its own first, and that of all docstrings."""
    own = sorted(tree.glob(MODULES[module]))
    if own_only:
        return [str(path) for path in own]
    parts = pathlib.PurePath(module).parts
    room = tree / "tests" / ("tuner" if parts[0] == "tuner" else parts[1])
    others = sorted(room.glob("test_*.py")) if room.is_dir() else []
    whole = [tree / "tests" / "test_documented_defaults.py"]
    return [str(path) for path in dict.fromkeys([*own, *whole, *others])]


def is_caught(tree, module, code, own_only):
    """Whether a test of the module's room fails, and the last line of pytest."""
    path = tree / module
    original = path.read_text()
    path.write_text(code)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += ["-p", "benchmarks.without_shrinking"]
    try:
        ended = subprocess.run(
            [*command, *test_files(tree, module, own_only)],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            timeout=_LONGEST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return True, "time ran out"
    finally:
        path.write_text(original)
    lines = [line for line in ended.stdout.splitlines() if line.strip()]
    return ended.returncode != 0, lines[-1] if lines else ""


def main():
    """Tries mutants and prints a table and the survivors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num_mutants", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="part of a module's path")
    parser.add_argument(
        "--own_only", action="store_true", help="try the module's own tests only"
    )
    options = parser.parse_args()
    drawn = draw_mutants(options.num_mutants, random.Random(options.seed))
    counts = {module: [0, 0] for module in MODULES}
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv"))
        for module, name, occurrence in drawn:
            if options.only not in module:
                continue
            source = (tree / module).read_text()
            code = mutate_code(source, get_operator(name)(), occurrence)
            start = time.monotonic()
            caught, line = is_caught(tree, module, code, options.own_only)
            counts[module][0] += caught
            counts[module][1] += 1
            seconds = time.monotonic() - start
            verdict = "caught" if caught else "SURVIVED"
            head = f"{verdict} {module} {name} {occurrence} {seconds:.0f} s"
            sys.stdout.write(f"{head} {line}\n")
            if not caught:
                changed = zip(source.splitlines(), code.splitlines())
                for number, (before, after) in enumerate(changed, 1):
                    if before != after:
                        sys.stdout.write(f"  {number}: {before}\n  {number}: {after}\n")
            sys.stdout.flush()
    for module, (num_caught, num_tried) in counts.items():
        sys.stdout.write(f"{module}: {num_caught} of {num_tried}\n")


if __name__ == "__main__":
    main()
