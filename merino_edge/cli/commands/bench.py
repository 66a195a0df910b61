"""Time a bundle on this machine: prompts (pp) and generated tokens (tg), with their spread.

Example:
  merino-edge bench bundle/
  merino-edge bench bundle/ -p 64,128 -n 64 -d 0,256 -r 10 -o json > bench.json
  merino-edge bench bundle/ -p 64,128 -n 64 -d 0,256 -r 10 --compare bench.json

Names and options are llama-bench's: comma lists give every combination. Tokenising and sampling
are not in the time. "of bandwidth" is the time to read all weights and the cache once at this
machine's memory bandwidth, measured in the same run, over the time a token took; it is left
out where the weights fit the CPU's cache. Below the table stands how many bytes that are, and how
many they would be if a shared block were read anew each time. Where the board shows its power, a
line says what a token takes, all in all and above idle. --compare adds a table of then and now, on
stderr where a script reads stdout; faster and slower are said only where no repetition of one run
reaches into the other's. Works on both machines.
"""

import argparse
import sys
from typing import List, TextIO

from merino_edge.cli import bench_compare, options
from merino_edge.cli.output import Progress, human_bytes, print_json, print_table, table, warn
from merino_edge.errors import UsageError
from merino_edge.formats import bench_report


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bundle", help="the folder")
    parser.add_argument(
        "-p", "--n-prompt", type=_numbers, default=[128], help="prompt lengths (128)"
    )
    parser.add_argument(
        "-n", "--n-gen", type=_numbers, default=[64], help="tokens to generate (64)"
    )
    parser.add_argument(
        "-d", "--n-depth", type=_numbers, default=[0], help="tokens before them (0)"
    )
    parser.add_argument(
        "-r", "--repetitions", type=options.positive_int, default=5, help="measured runs (5)"
    )
    parser.add_argument(
        "-w", "--warmup", type=options.natural_int, default=1, help="runs thrown away first (1)"
    )
    parser.add_argument(
        "-o", "--output", choices=sorted(WRITERS), default="md", help="format on stdout (md)"
    )
    parser.add_argument(
        "--json", dest="output", action="store_const", const="json", help="the same as -o json"
    )
    parser.add_argument(
        "--compare", metavar="OLD", help="what an earlier -o json or jsonl wrote, then beside now"
    )
    options.add_backend(parser)
    options.add_seed(parser)
    options.add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Load, measure, print."""
    from merino_edge.formats.bundle import Bundle
    from merino_edge.runtime import load
    from merino_edge.runtime.bench import run_bench

    cases = bench_report.cross_product(
        args.n_prompt, args.n_gen, args.n_depth, args.repetitions, args.warmup
    )
    then = args.compare and bench_compare.earlier(
        args.compare, bench_report.read_reports(args.compare), cases
    )
    progress = Progress("bench", args.quiet)
    with load(args.bundle, args.backend, args.threads, progress.done) as session:
        reports = run_bench(Bundle.open(args.bundle), session, cases, args.seed, progress.update)
    progress.done("{} cases".format(len(reports)))
    WRITERS[args.output](reports)
    if then:
        _write_comparison(then, reports, sys.stdout if args.output == "md" else sys.stderr)
    _warn_about(reports)
    return 0


def _write_table(reports: List[bench_report.BenchReport]) -> None:
    print_table(bench_report.TABLE_HEADER, [bench_report.table_row(report) for report in reports])
    first = reports[0]
    sys.stdout.write("\n{}\n{}\n".format(_machine(first), first.engine))
    rooflines = [(report, report.roofline) for report in reports if report.roofline is not None]
    for report, found in rooflines:
        sys.stdout.write("{}: {}\n".format(report.case.label, _reading(report, found)))
    for report in reports:
        if report.power_w is not None and report.energy_mj_per_token is not None:
            words = _energy(report, report.power_w, report.energy_mj_per_token)
            sys.stdout.write("{}: {}\n".format(report.case.label, words))
    sys.stdout.write(_heat_and_power(reports) + "\n")
    if rooflines:
        found = rooflines[0][1]
        line = "memory bandwidth {:.1f} GB/s ({})\n"
        sys.stdout.write(line.format(found.read_bytes_per_s / 1e9, found.method))


def _write_comparison(
    then: bench_compare.Earlier, reports: List[bench_report.BenchReport], stream: TextIO
) -> None:
    rows = bench_compare.rows(then, reports)
    stream.write("\nbeside {}:\n{}".format(then.path, table(bench_compare.HEADER, rows)))
    for line in bench_compare.differences(then, reports):
        stream.write("not the same: {}\n".format(line))
    for text in bench_compare.doubts(then, reports):
        warn(text)


def _reading(report: bench_report.BenchReport, found: bench_report.Roofline) -> str:
    """What the roofline is made of: bytes of a token, and the time that they take."""
    executed = found.executed_bytes or found.bytes_per_token
    again = ""
    if executed != found.bytes_per_token:
        again = " ({} with shared blocks read again)".format(human_bytes(executed))
    ms = 1e3 * found.bytes_per_token / found.read_bytes_per_s
    share = "they fit the CPU's cache"
    if report.roofline_fraction is not None:
        share = "{:.0f} % of what it took".format(100 * report.roofline_fraction)
    return "a token reads {}{}: {:.2f} ms from memory, {}".format(
        human_bytes(found.bytes_per_token), again, ms, share
    )


def _energy(report: bench_report.BenchReport, power_w: float, energy_mj: float) -> str:
    """Power and energy, all in all and above idle."""
    text = "{:.2f} W at {}, {:.1f} mJ a token".format(power_w, report.power_source, energy_mj)
    above_mj, idle_w = report.energy_above_idle_mj_per_token, report.idle_power_w
    if above_mj is None or idle_w is None:
        return text + "; idle power was not measured"
    return "{}, {:.1f} mJ of it above idle ({:.2f} W)".format(text, above_mj, idle_w)


def _heat_and_power(reports: List[bench_report.BenchReport]) -> str:
    """What was seen of the board over all cases; what nothing tells is said not to be measured."""
    conditions = [report.conditions for report in reports]
    ends = [(each.temp_c_start, each.temp_c_end) for each in conditions]
    temps_c = [value for pair in ends for value in pair if value is not None]
    held = [each.throttled for each in conditions if each.throttled is not None]
    parts = ["temperature not measured", "throttling not measured"]
    if temps_c:
        parts[0] = "temperature {:.0f} to {:.0f} C".format(min(temps_c), max(temps_c))
    if held:
        parts[1] = "throttling seen" if any(held) else "no throttling seen"
    if all(report.power_w is None for report in reports):
        parts.append("power and energy not measured")
    return ", ".join(parts)


def _machine(report: bench_report.BenchReport) -> str:
    device = report.device
    parts = [device.model, "{} cores".format(device.n_cores), device.os, "Python " + device.python]
    parts += ["L4T " + device.l4t] if device.l4t else []
    mode = report.conditions.power_mode
    parts += ["power mode " + mode] if mode else []
    return "{}; peak memory {:.0f} MB".format(", ".join(parts), report.peak_rss_bytes / 1e6)


def _write_json(reports: List[bench_report.BenchReport]) -> None:
    print_json([bench_report.document(report) for report in reports])


def _write_jsonl(reports: List[bench_report.BenchReport]) -> None:
    import json

    for report in reports:
        sys.stdout.write(json.dumps(bench_report.document(report), ensure_ascii=False) + "\n")


def _write_csv(reports: List[bench_report.BenchReport]) -> None:
    sys.stdout.write(bench_report.csv_text(reports))


def _warn_about(reports: List[bench_report.BenchReport]) -> None:
    for report in reports:
        for text in report.conditions.warnings:
            warn("{}: {}".format(report.case.label, text))


def _numbers(text: str) -> List[int]:
    parts = [options.natural_int(part.strip()) for part in text.split(",") if part.strip()]
    if not parts:
        raise UsageError("'{}' holds no number; write 128 or 64,128.".format(text))
    return parts


WRITERS = {
    "md": _write_table,
    "json": _write_json,
    "jsonl": _write_jsonl,
    "csv": _write_csv,
}
