"""Cutting the power at every step of every command that changes a store; what boots afterwards.

The one idea: two sweeps over the same scenes. "killed" sends SIGKILL at each system call that
writes, for real, under strace. "lost" replays what was written, for a cut after each operation,
with what was not synced lost in several ways, and looks at each different disk once. After each
cut ``current`` must run (every checksum, every golden token), the next start too, and the same
command must do its work when it is given again.

Needs strace. Takes some minutes; a folder in memory (--folder /dev/shm) spares the disk.

Example:
  python benchmarks/updates/power_cuts.py
  python benchmarks/updates/power_cuts.py --every 10 --random 1
"""

import argparse
import collections
import hashlib
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parent / "common")]  # where ``reports`` lies
import lost_writes  # noqa: E402
from kill_points import kill_points, run_killed  # noqa: E402
from reports import Provenance, new_parser, provenance, results_folder, run_script  # noqa: E402
from scenes import (  # noqa: E402
    SCENES,
    Archives,
    Scene,
    faults_after_cut,
    faults_of_end,
    make_archives,
    run_quietly,
)

from merino_edge.cli.options import natural_int, positive_int  # noqa: E402
from merino_edge.cli.output import Progress, table  # noqa: E402
from merino_edge.errors import MissingDependencyError  # noqa: E402
from merino_edge.runtime.updates.store import Store  # noqa: E402

SCHEMA = "merino-edge.power-cuts/1"


class SceneReport(NamedTuple):
    """What a scene went through.

    Attributes:
        scene: Its name.
        code: Exit code when undisturbed.
        kill_points: System calls that change the store, each killed once (or every n-th).
        calls: How many of each.
        operations: Changes that were recorded, each followed by a cut.
        disks: Different disks that such cuts leave, each looked at.
        faults: All that went wrong; best none.
    """

    scene: str
    code: int
    kill_points: int
    calls: dict[str, int]
    operations: int
    disks: int
    faults: list[str]


class Report(NamedTuple):
    """All scenes.

    Attributes:
        provenance: When, where.
        seed: Of the random losses.
        every: Each how manieth point was taken.
        random_losses: Drawn for each cut, beside the pure ones.
        scenes: One by one.
        kill_points, disks, faults: Over all.
    """

    provenance: Provenance
    seed: int
    every: int
    random_losses: int
    scenes: list[SceneReport]
    kill_points: int
    disks: int
    faults: int


def killed(
    scene: Scene, folder: Path, archives: Archives, every: int
) -> tuple[dict[str, int], list[str], int]:
    """Kill a scene's command at every n-th point: calls that were hit, faults, exit code."""
    store, prepared, log = str(folder / "disk" / "st"), folder / "prepared", folder / "log"
    _prepare(scene, folder, archives)
    words = scene.command(store, archives)
    code, points = kill_points(words, store, log)
    faults = [f"undisturbed: {fault}" for fault in faults_of_end(scene, store)]
    hit: dict[str, int] = collections.Counter()
    for point in points[::every]:
        _copy(prepared, folder / "disk")
        last = run_killed(words, store, log, point)
        if last != point.text:
            faults.append(f"killed at {last} instead of {point.text}")
        hit[point.call] += 1
        found = faults_after_cut(scene, store, archives)
        faults += [f"killed at {point.call} {point.number} ({point.text}): {f}" for f in found]
    return dict(hit), faults, code


def lost(
    scene: Scene, folder: Path, archives: Archives, every: int, n_random: int, seed: int
) -> tuple[int, int, list[str]]:
    """Replay a scene's writes with losses: operations, different disks, faults."""
    disk, store = folder / "disk", str(folder / "disk" / "st")
    _prepare(scene, folder, archives)
    before = lost_writes.node_of(str(disk))
    with lost_writes.recorded() as operations:
        run_quietly(scene.command(store, archives))
    seen: dict[str, str] = {}
    rng = random.Random(seed)
    for n_done in range(0, len(operations) + 1, every):
        for loss in lost_writes.losses(rng, n_random):
            done = operations[:n_done]
            left = lost_writes.disk_after(before, str(disk), done, loss)
            name = hashlib.sha256(repr(left).encode()).hexdigest()
            if name in seen:
                continue
            seen[name] = ""
            lost_writes.restore(left, str(disk))
            found = faults_after_cut(scene, store, archives)
            seen[name] = "; ".join(f"cut after {n_done}, {loss.name}: {fault}" for fault in found)
    return len(operations), len(seen), [text for text in seen.values() if text]


def _prepare(scene: Scene, folder: Path, archives: Archives) -> None:
    prepared, disk = folder / "prepared", folder / "disk"
    for path in (prepared, disk):
        shutil.rmtree(path, ignore_errors=True)
    disk.mkdir()
    scene.prepare(Store(str(disk / "st")), archives)
    shutil.copytree(disk, prepared, symlinks=True)


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target)
    shutil.copytree(source, target, symlinks=True)


def make(options: argparse.Namespace) -> Report:
    """Both sweeps over all scenes."""
    if shutil.which("strace") is None:
        raise MissingDependencyError("strace", "killing a process at a system call", "install it.")
    progress, about = Progress("cuts"), provenance(())
    scenes = []
    chosen = [scene for scene in SCENES if options.scene in scene.name]
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        archives = make_archives(folder / "archives")
        for scene in chosen:
            hit, faults, code = killed(scene, folder, archives, options.every)
            n_operations, n_disks, more = lost(
                scene, folder, archives, options.every, options.random, options.seed
            )
            n_hit = sum(hit.values())
            scenes.append(
                SceneReport(scene.name, code, n_hit, hit, n_operations, n_disks, faults + more)
            )
            progress.done(f"{scene.name}: {n_hit} kills, {n_disks} disks, {faults + more}")
    sums = [sum(getattr(each, name) for each in scenes) for name in ("kill_points", "disks")]
    n_faults = sum(len(each.faults) for each in scenes)
    return Report(about, options.seed, options.every, options.random, scenes, *sums, n_faults)


def markdown(report: Report) -> str:
    """A table, and the sum."""
    rows = [
        (
            s.scene,
            str(s.code),
            str(s.kill_points),
            str(s.operations),
            str(s.disks),
            str(len(s.faults)),
        )
        for s in report.scenes
    ]
    total = ("all", "", str(report.kill_points), "", str(report.disks), str(report.faults))
    header = ("scene", "exit code", "killed at", "operations", "disks with losses", "faults")
    return table(header, [*rows, total])


def _main() -> None:
    parser = new_parser(__doc__, results_folder(__file__) / "power_cuts.json")
    parser.add_argument("--every", type=positive_int, default=1, help="take every n-th point (1)")
    parser.add_argument("--random", type=natural_int, default=6, help="random losses a cut (6)")
    parser.add_argument("--seed", type=natural_int, default=0, help="of the random losses (0)")
    parser.add_argument("--scene", default="", metavar="TEXT", help="only scenes with it (all)")
    parser.add_argument("--folder", help="where to work (the system's temporary folder)")
    run_script(parser, SCHEMA, make, markdown)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _main()
