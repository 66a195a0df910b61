"""From a space to a table of measured latencies: choose probes, build them, time them, judge.

The one idea: everything that takes long lies in one folder beside the table, ``TABLE.run``, and is
taken up again: bundles that are there are not built again, rounds that are there are not timed
again. When the table is written, the folder goes.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass

from merino_edge.core import targets
from merino_edge.core.latency_check import validate
from merino_edge.core.probe_design import N_FIT, N_HELD_OUT, choose, lengths_of, middling
from merino_edge.core.space import SearchSpace
from merino_edge.errors import FormatError, UnsupportedError, UsageError
from merino_edge.export.probes import build_probe
from merino_edge.export.recipe import RECIPES, Recipe, in_precision
from merino_edge.formats.bundle import Bundle
from merino_edge.formats.latency_table import HELD_OUT, LatencyTable, write_table
from merino_edge.formats.probes import (
    PROBES_FILE,
    ProbeSet,
    probe_folder,
    read_probes,
    write_probes,
)
from merino_edge.pipeline.predicted_table import MOCK, predicted_table
from merino_edge.runtime import load
from merino_edge.runtime.profiler import NO_LIMITS, Limits, measure
from merino_edge.runtime.session import GenerationSession

Progress = Callable[[str], None]
PROBES = "probes"


@dataclass(frozen=True)
class ProfileOptions:
    """What to time, and how.

    Attributes:
        space: The decoders that a search will choose from.
        target: Name of the target that the bundles are built for.
        precision: Of the matrices; None for the target's own.
        backend: Which runs them, or "auto".
        threads: CPU threads.
        n_fit, n_held_out: Decoders to fit to, and to judge by.
        seed: Of their draw.
        limits: How long.
    """

    space: SearchSpace
    target: str
    precision: str | None
    backend: str
    threads: int
    n_fit: int = N_FIT
    n_held_out: int = N_HELD_OUT
    seed: int = 0
    limits: Limits = NO_LIMITS


def profile(
    options: ProfileOptions, output: str, on_progress: Progress = lambda text: None
) -> LatencyTable:
    """Make a table; goes on with what an earlier call left.

    Args:
        options: What and how.
        output: The table's file.
        on_progress: Told what is being done.

    Raises:
        UsageError: An earlier call asked for something else.
        SpecError: The space is too small, or its context too short.
        StoppedError: Interrupted; the same call goes on.
    """
    folder = run_folder(output)
    probes, recipe = plan(options)
    if options.target == MOCK:
        return finish(predicted_table(probes, targets.get(MOCK)), output)
    probes_path = os.path.join(folder, PROBES)
    build_probes(probes, probes_path, recipe, on_progress)
    table = measure(
        probes,
        probes_path,
        folder,
        opener(options.backend, options.threads),
        options.threads,
        options.limits,
        on_progress,
    )
    return finish(table, output)


def run_folder(output: str) -> str:
    """Where what is unfinished lies."""
    return output + ".run"


def plan(options: ProfileOptions) -> tuple[ProbeSet, Recipe]:
    """The probes of a space, and how their bundles are made."""
    space = options.space
    target = targets.get(options.target)
    if target.name not in RECIPES:
        raise UnsupportedError(f"bundles for '{target.name}' cannot be built by this version.")
    recipe = RECIPES[target.name]
    recipe = in_precision(recipe, options.precision or recipe.precision)
    architectures, roles = choose(space, options.n_fit, options.n_held_out, options.seed)
    judges = [a for name, a in architectures.items() if roles[name] == HELD_OUT]
    probes = ProbeSet(
        space=space.name,
        seed=options.seed,
        target=target.name,
        precision=recipe.precision,
        context_len=space.max_seq_len,
        lengths=lengths_of(space.max_seq_len),
        anchor=middling(judges or list(architectures.values())),
        architectures=architectures,
        roles=roles,
    )
    return probes, recipe


def build_probes(probes: ProbeSet, folder: str, recipe: Recipe, on_progress: Progress) -> None:
    """Build the bundles that are missing.

    Raises:
        UsageError: The folder holds other probes.
    """
    if os.path.isfile(os.path.join(folder, PROBES_FILE)):
        if read_probes(folder) == probes:
            return
        raise UsageError(
            f"'{folder}' holds other probes: space, seed, target, precision or numbers differ.",
            hint="measure as before, or begin anew with --force.",
        )
    os.makedirs(folder, exist_ok=True)
    for i, (name, architecture) in enumerate(probes.architectures.items()):
        on_progress(f"building probe {i + 1} of {len(probes.architectures)}")
        if not _is_built(probe_folder(folder, name), probes):
            build_probe(
                architecture, probes.target, probes.context_len, probe_folder(folder, name), recipe
            )
    write_probes(folder, probes)


def opener(backend: str, threads: int) -> Callable[[Bundle], GenerationSession]:
    """How sessions of probes are opened."""
    return lambda bundle: load(bundle.path, backend, threads)


def finish(table: LatencyTable, output: str) -> LatencyTable:
    """Judge a table, write it, and clear away what it was made from."""
    return keep(table.replace(validation=validate(table)), output)


def keep(table: LatencyTable, output: str) -> LatencyTable:
    """Write a table and clear away what it was made from."""
    write_table(output, table)
    shutil.rmtree(run_folder(output), ignore_errors=True)
    return table


def _is_built(path: str, probes: ProbeSet) -> bool:
    try:
        manifest = Bundle.open(path).manifest
    except FormatError:
        return False
    return (manifest.target, manifest.precision) == (probes.target, probes.precision)
