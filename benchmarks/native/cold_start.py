"""From nothing to the first token, in C and as a command; and memory, first and last.

The one idea: each run is a process of its own, as on a device that has just been switched on, but
with the file in the page cache (a board's first run also reads its card). The C program is
cold_start.c, compiled with the flags of every other build. ``merino-edge run`` is timed from
outside: interpreter, imports and tokenizer included, so a bundle needs one.

Example:
  merino-edge build --target nano-cpu --precision int4 checkpoint/ -o bundle/
  python benchmarks/native/cold_start.py bundle/
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path += [str(HERE.parent / "common"), str(ROOT)]  # where ``reports`` and native_build lie

from reports import Provenance, new_parser, provenance, results_folder, run_script  # noqa: E402

import native_build  # noqa: E402
from merino_edge.cli.options import positive_int  # noqa: E402
from merino_edge.cli.output import Progress, table  # noqa: E402
from merino_edge.formats.bundle import Bundle  # noqa: E402

SCHEMA = "merino-edge.cold-start/1"
MB = 1e6


class Start(NamedTuple):
    """One bundle. Times are medians with the quartiles beside them: [low, median, high].

    Attributes:
        bundle: Name and precision.
        file_bytes: Of the native file.
        session_bytes: All memory of the session: cache, scratch.
        context_len: Of the session.
        open_ms: me_open.
        session_ms: me_session_open.
        first_token_ms: From before me_open to the first token after a prompt of 8.
        command_ms: ``merino-edge run`` with one token, as a process.
        peak_bytes: Most memory of the C process, its mapped file included.
        rss_after_1000_bytes: Resident memory of the C process after 1,000 tokens.
        rss_after_all_bytes: After n_tokens.
        n_tokens: How many that were.
    """

    bundle: str
    file_bytes: int
    session_bytes: int
    context_len: int
    open_ms: list[float]
    session_ms: list[float]
    first_token_ms: list[float]
    command_ms: list[float]
    peak_bytes: int
    rss_after_1000_bytes: int
    rss_after_all_bytes: int
    n_tokens: int


class Report(NamedTuple):
    """Where and how; nothing is drawn at random.

    Attributes:
        provenance: Date, machine, versions.
        threads: Of the C program; the command takes its own number.
        repeats: Processes a figure.
        starts: One a bundle.
    """

    provenance: Provenance
    threads: int
    repeats: int
    starts: list[Start]


def main() -> None:
    """Measure, save, print."""
    parser = new_parser(__doc__, results_folder(__file__) / "cold_start.json")
    parser.add_argument("bundles", nargs="+", help="bundles with a file for the native decoder")
    parser.add_argument("--threads", type=positive_int, default=2, help="(2)")
    parser.add_argument("--repeats", type=positive_int, default=15, help="(15)")
    parser.add_argument("--tokens", type=positive_int, default=100_000, help="(100000)")
    run_script(parser, SCHEMA, measure, markdown)


def measure(options: argparse.Namespace) -> Report:
    """The report for the options of the command line."""
    begun = provenance(("numpy", "tokenizers"))
    progress = Progress("cold start", plain_every_s=30)
    with tempfile.TemporaryDirectory() as folder:
        program = compiled(folder)
        starts = [_start(program, path, options, progress) for path in options.bundles]
    return Report(begun, options.threads, options.repeats, starts)


def compiled(folder: str, *flags: str) -> str:
    """The C program beside this with the decoder in it, compiled into a folder; its path."""
    program = os.path.join(folder, "cold_start")
    include = ["-I" + os.path.dirname(native_build.HEADER)]
    parts = [str(HERE / "cold_start.c"), *native_build.sources(), *native_build.LIBRARIES]
    compiler = [os.environ.get("CC", "cc"), *native_build.FLAGS, *flags]
    subprocess.check_call([*compiler, *include, *parts, "-o", program])
    return program


def _start(program: str, path: str, options: argparse.Namespace, progress: Progress) -> Start:
    bundle = Bundle.open(path)
    context_len = bundle.manifest.kv_cache.context_len
    name = f"{bundle.manifest.name}, {bundle.manifest.precision}"
    command = [program, bundle.file("native"), str(context_len), str(options.threads)]
    runs = []
    for i in range(options.repeats + 1):
        progress.update(f"{name}: process {i} of {options.repeats}")
        runs.append(_run(command))
    del runs[0]  # it may have read the disk
    commands = [_command_ms(path) for _ in range(options.repeats + 1)][1:]
    progress.update(f"{name}: {options.tokens} tokens")
    long_run = _run([*command, str(options.tokens)])
    progress.done(f"{name}: done")
    times = [
        _quartiles([run[key] for run in runs])
        for key in ("open_ms", "session_ms", "first_token_ms")
    ]
    return Start(
        name,
        os.path.getsize(bundle.file("native")),
        int(runs[0]["session_bytes"]),
        context_len,
        *times,
        command_ms=_quartiles(commands),
        peak_bytes=int(max(run["peak_kb"] for run in runs)) * 1024,
        rss_after_1000_bytes=int(long_run["rss_after_1000_kb"]) * 1024,
        rss_after_all_bytes=int(long_run["rss_after_all_kb"]) * 1024,
        n_tokens=options.tokens,
    )


def _run(command: list[str]) -> dict[str, float]:
    lines = subprocess.check_output(command, text=True).splitlines()
    return {name: float(value) for name, value in (line.split() for line in lines)}


def _command_ms(path: str) -> float:
    command = [sys.executable, "-m", "merino_edge", "run", path, "--prompt", "Hello"]
    begun = time.perf_counter()
    subprocess.run([*command, "--max-new-tokens", "1"], check=True, capture_output=True)
    return (time.perf_counter() - begun) * 1e3


def _quartiles(values: list[float]) -> list[float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return [round(value, 3) for value in (low, middle, high)]


def markdown(report: Report) -> str:
    """Two tables: times, and memory."""
    times, memory = [], []
    for s in report.starts:
        each = (s.open_ms, s.session_ms, s.first_token_ms, s.command_ms)
        times.append((s.bundle, *(f"{m:.1f} ({low:.1f} to {high:.1f})" for low, m, high in each)))
        sizes = (s.file_bytes, s.session_bytes, s.peak_bytes)
        grown = s.rss_after_all_bytes - s.rss_after_1000_bytes
        memory.append((s.bundle, *(f"{size / MB:.1f}" for size in sizes), f"{grown / 1024:.0f}"))
    head = ("ms, median (quartiles)", "me_open", "session", "first token", "`merino-edge run`")
    n_tokens = report.starts[0].n_tokens
    sizes_head = ("MB", "file", "session", "peak", f"kB more after {n_tokens:,} than after 1,000")
    return (
        f"{report.provenance.machine.cpu}, {report.threads} threads, {report.provenance.date}, "
        f"{report.repeats} processes\n\n{table(head, times)}\n{table(sizes_head, memory)}"
    )


if __name__ == "__main__":
    main()
