"""Where a token's time goes on this machine: samples of the running decoder, by function.

The one idea: a profile says what could still be gained. ``perf`` looks at the program
``cold_start.c`` a thousand times a second while it decodes; each look falls into one
function, and shares of looks are shares of time. With one thread nobody waits, so the shares are
those of the work; with more, the waiting of the others shows too. The weights that the products
read, divided by their share of a token's time, give the rate that they read at. In an int4 bundle
the 8-bit products are the head's.

Looks by the processor's clock, not by its counters: virtual machines often hide those. Needs perf.

Example:
  merino-edge build --target nano-cpu --precision int4 checkpoint/ -o bundle/
  python benchmarks/native/step_profile.py bundle/
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path += [str(HERE.parent / "common"), str(ROOT)]  # where ``reports`` and native_build lie

from cold_start import compiled  # noqa: E402
from instructions import executed  # noqa: E402
from reports import Provenance, new_parser, provenance, results_folder, run_script  # noqa: E402

from merino_edge.cli.options import positive_int  # noqa: E402
from merino_edge.cli.output import Progress, table  # noqa: E402
from merino_edge.errors import MissingDependencyError  # noqa: E402
from merino_edge.formats.bundle import Bundle  # noqa: E402
from merino_edge.formats.native_file import read_tensors  # noqa: E402

SCHEMA = "merino-edge.native-step-profile/1"
LOOKS_PER_S = 997
# Part -> what its functions' names hold; the first that fits.
PARTS = {
    "4-bit products": r"(vnni|avx2|neon|dot|plain)_q4",
    "8-bit products": r"(vnni|avx2|neon|dot|plain)_q8",
    "other products": r"multiply|decode_chunk",
    "attention": r"attend|attention|scores|blend|rotate|_store|exponentials|total",
    "choice": r"me_best|largest|choose",
    "activation": r"activate",
    "int8 of rows": r"quantise",
    "norms": r"norm|lanes_dot",
    "waiting": r"meet|^work$|team|pace|now_ns|clock",
    "rest": "",
}


class Share(NamedTuple):
    """One part: its name, its share of the looks (0 to 1), its functions, the commonest first."""

    part: str
    share: float
    functions: list[str]


class Profile(NamedTuple):
    """One bundle with one number of threads.

    Attributes:
        bundle: Name and precision.
        threads: Of the program.
        ms_per_token: Mean over all tokens, perf looking.
        looks: How many.
        read_bytes: Weights that a token reads, each block as often as it is applied.
        shares: The largest first.
    """

    bundle: str
    threads: int
    ms_per_token: float
    looks: int
    read_bytes: int
    shares: list[Share]


class Report(NamedTuple):
    """Where and how; nothing is drawn at random.

    Attributes:
        provenance: Date, machine, versions.
        n_tokens: That were decoded, from the beginning of the context.
        profiles: One a bundle and number of threads.
    """

    provenance: Provenance
    n_tokens: int
    profiles: list[Profile]


def main() -> None:
    """Measure, save, print."""
    parser = new_parser(__doc__, results_folder(__file__) / "step_profile.json")
    parser.add_argument("bundles", nargs="+", help="bundles with a file for the native decoder")
    parser.add_argument("--tokens", type=positive_int, default=2000, help="(2000)")
    run_script(parser, SCHEMA, measure, markdown)


def measure(options: argparse.Namespace) -> Report:
    """The report for the options of the command line."""
    begun = provenance(())
    progress = Progress("profile", plain_every_s=30)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        program = compiled(folder, "-g")
        for path in options.bundles:
            for threads in (1, 2):
                progress.update(f"{path}, {threads} threads")
                found.append(_profile(program, path, threads, options.tokens, folder))
    progress.done("done")
    return Report(begun, options.tokens, found)


def _profile(program: str, path: str, threads: int, n_tokens: int, folder: str) -> Profile:
    bundle = Bundle.open(path)
    samples = os.path.join(folder, "perf.data")
    context_len = str(bundle.manifest.kv_cache.context_len)
    command = [program, bundle.file("native"), context_len, str(threads), str(n_tokens)]
    look = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(LOOKS_PER_S), "-o", samples, "--"]
    try:
        lines = subprocess.check_output(look + command, text=True).splitlines()
    except FileNotFoundError as error:
        raise MissingDependencyError("perf is not here.", hint="apt install linux-perf") from error
    architecture, native = bundle.manifest.architecture, bundle.file("native")
    told = {name: float(value) for name, value in (line.split() for line in lines)}
    script = ["perf", "script", "-i", samples, "-F", "ip,sym"]
    functions = Counter(
        line.split(None, 1)[1].strip()
        for line in subprocess.check_output(script, text=True).splitlines()
        if len(line.split(None, 1)) == 2
    )
    return Profile(
        bundle=f"{bundle.manifest.name}, {bundle.manifest.precision}",
        threads=threads,
        ms_per_token=round(told["decode_ms"] / n_tokens, 4),
        looks=functions.total(),
        read_bytes=executed(architecture, read_tensors(native, architecture))[0],
        shares=by_part(functions),
    )


def by_part(functions: Counter[str]) -> list[Share]:
    """Looks by function -> shares by part, the largest first."""
    total = functions.total()
    parts: dict[str, Counter[str]] = {}
    for name, looks in functions.items():
        part = next(part for part, pattern in PARTS.items() if re.search(pattern, name))
        parts.setdefault(part, Counter())[name] += looks
    shares = [
        Share(part, round(found.total() / total, 4), [name for name, _ in found.most_common(6)])
        for part, found in parts.items()
    ]
    return sorted(shares, key=lambda share: -share.share)


def markdown(report: Report) -> str:
    """One row a profile."""
    names = [part for part in PARTS if part != "rest"] + ["rest"]
    rows = []
    for p in report.profiles:
        shares = {each.part: each.share for each in p.shares}
        share = sum(part for name, part in shares.items() if name.endswith("products"))
        products_s = 1e-3 * p.ms_per_token * share
        rate = p.read_bytes / products_s / 1e9 if products_s else float("nan")
        row = [p.bundle, str(p.threads), f"{p.ms_per_token:.2f}"]
        row += [f"{100 * shares.get(name, 0.0):.1f}" for name in names]
        rows.append((*row, f"{rate:.1f}"))
    header = ("% of the time", "threads", "ms a token", *names, "products read, GB/s")
    return (
        f"{report.provenance.machine.cpu}, {report.provenance.date}, {report.n_tokens:,} tokens, "
        f"{LOOKS_PER_S} looks a second; load before {report.provenance.load}\n\n"
        f"{table(header, rows)}"
    )


if __name__ == "__main__":
    main()
