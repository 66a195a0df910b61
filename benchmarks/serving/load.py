"""Many clients on one server for minutes: errors by kind, memory, time to first token, tokens/s.

The one idea: the server runs as a user starts it, in a process of its own, and the clients are
sockets in this one, which only read. Each client asks, reads the stream to its end and asks again
(a closed loop), so there are always as many requests as clients; some hang up in the middle of an
answer, as people do. Whatever is not a complete answer is counted by its kind. The server's
resident memory is read once a second from /proc; its slope is a least-squares line over the second
half, when caches, threads and the allocator have found their size, with the standard error that
the scatter around the line gives it.

On one machine the clients take processor time too: the server's share is in the report.

Example:
  python benchmarks/serving/load.py bundle/
  python benchmarks/serving/load.py bundle/ --clients 8 --seconds 30 -o try.json
"""

import argparse
import asyncio
import collections
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies
from reports import Provenance, headline, new_parser, provenance, results_folder, run_script

from merino_edge.cli.options import positive_float, positive_int
from merino_edge.cli.output import Progress, table
from merino_edge.errors import BoardError
from merino_edge.formats.bundle import Bundle

SCHEMA = "merino-edge.serving-load/1"
PROMPTS = (
    "The sheep on the hill",
    "Once upon a time there was a shepherd who",
    "A list of things that fit on a small board:",
    "The capital of France is",
)
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Conditions(NamedTuple):
    """What was asked of whom.

    Attributes:
        bundle: Its name.
        n_params: Stored parameters.
        precision: Of the weights.
        clients: Sockets that ask at the same time.
        seconds: How long.
        max_tokens: Of each answer.
        hang_ups: Share of requests whose client leaves in the middle.
        server_options: Words after ``merino-edge serve BUNDLE``.
    """

    bundle: str
    n_params: int
    precision: str
    clients: int
    seconds: float
    max_tokens: int
    hang_ups: float
    server_options: list[str]


class Memory(NamedTuple):
    """Of the server's process; resident, which is its own memory and what it touched of files.

    Attributes:
        start_bytes: Before the first request.
        half_bytes: At half time.
        end_bytes: At the end.
        most_bytes: The most that was seen.
        slope_bytes_per_min: Over the second half.
        slope_error_bytes_per_min: Its standard error; None of fewer than three readings.
        n_samples: Readings of the second half.
        fds_start: Open descriptors before the first request.
        fds_end: After the last client left.
        own_slope_bytes_per_min: The slope of its own memory alone, without pages of files; a leak
            would be here. None in reports from before it was read.
        own_slope_error_bytes_per_min: Its standard error.
        own_end_bytes: Its own memory at the end.
    """

    start_bytes: int
    half_bytes: int
    end_bytes: int
    most_bytes: int
    slope_bytes_per_min: float
    slope_error_bytes_per_min: float | None
    n_samples: int
    fds_start: int
    fds_end: int
    own_slope_bytes_per_min: float | None = None
    own_slope_error_bytes_per_min: float | None = None
    own_end_bytes: int | None = None


class LoadReport(NamedTuple):
    """What came of it.

    Attributes:
        provenance: Date, load, versions, machine.
        conditions: What was asked.
        n_complete: Answers that ended as they should.
        n_hung_up: Requests that their client left.
        errors: Kind -> how often; empty if there was none.
        ttft_ms: Percentiles ("p50", "p90", "p99", "max"), waiting for a session included.
        itl_ms: The same of the time between two parts of an answer.
        tok_per_s: Tokens of complete answers a second, all clients together.
        server_cpu_share: Processor seconds of the server by seconds, of one core.
        memory: Of the server.
    """

    provenance: Provenance
    conditions: Conditions
    n_complete: int
    n_hung_up: int
    errors: dict[str, int]
    ttft_ms: dict[str, float]
    itl_ms: dict[str, float]
    tok_per_s: float
    server_cpu_share: float
    memory: Memory


class Sample(NamedTuple):
    """One look: when, resident bytes of its own, resident bytes of files."""

    at_s: float
    own_bytes: int
    file_bytes: int

    @property
    def all_bytes(self) -> int:
        """Both."""
        return self.own_bytes + self.file_bytes


class Tally:
    """What the clients have seen so far."""

    def __init__(self) -> None:
        self.n_complete = self.n_hung_up = self.n_tokens = 0
        self.errors: collections.Counter[str] = collections.Counter()
        self.ttft_ms: list[float] = []
        self.itl_ms: list[float] = []


class RefusedError(Exception):
    """The server answered with an error."""


async def client(
    port: int, number: int, end_s: float, conditions: Conditions, tally: Tally
) -> None:
    """Ask until the time is over; a connection that broke is opened again."""
    rng = random.Random(number)
    reader = writer = None
    while time.perf_counter() < end_s:
        leaves = rng.random() < conditions.hang_ups
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert reader is not None
            is_open = await ask(reader, writer, number, rng, leaves, conditions, tally)
        except RefusedError as error:
            tally.errors[str(error)] += 1
            is_open = False
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            tally.errors[type(error).__name__] += 1
            is_open = False
        if not is_open and writer is not None:
            writer.close()
            reader = writer = None
    if writer is not None:
        writer.close()


async def ask(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    number: int,
    rng: random.Random,
    leaves: bool,
    conditions: Conditions,
    tally: Tally,
) -> bool:
    """One request, read to its end or left; whether the connection can be used again."""
    asked = {
        "prompt": rng.choice(PROMPTS),
        "max_tokens": conditions.max_tokens,
        "temperature": 0.8,
        "seed": rng.randrange(2**32),
        "stream": True,
        "stream_options": {"include_usage": True},
        "user": f"client {number}",
    }
    body = json.dumps(asked).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    begun_s = time.perf_counter()
    writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    status = (await reader.readline()).split()
    if status[1:2] != [b"200"]:
        raise RefusedError("HTTP " + b" ".join(status[1:2]).decode() if status else "closed")
    before_s, parts = begun_s, 0
    while True:
        line = await reader.readline()
        if not line:
            raise RefusedError("the stream ended early")
        if not line.startswith(b"data: "):
            continue
        if line == b"data: [DONE]\n":
            break
        event = json.loads(line[6:])
        if "error" in event:
            raise RefusedError("event " + str(event["error"]["code"]))
        if event.get("usage"):
            tally.n_tokens += event["usage"]["completion_tokens"]
        elif event["choices"][0]["text"]:
            now_s = time.perf_counter()
            (tally.itl_ms if parts else tally.ttft_ms).append(1e3 * (now_s - before_s))
            before_s, parts = now_s, parts + 1
            if leaves and parts >= conditions.max_tokens // 2:
                tally.n_hung_up += 1
                return False
    while await reader.readline() != b"0\r\n":
        pass
    await reader.readline()
    tally.n_complete += 1
    return True


async def watch(pid: int, end_s: float, progress: Progress, tally: Tally) -> list[Sample]:
    """A process, once a second."""
    found: list[Sample] = []
    while time.perf_counter() < end_s:
        found.append(Sample(time.perf_counter(), *resident_bytes(pid)))
        progress.update(f"{end_s - found[-1].at_s:.0f} s left, {tally.n_complete} answers")
        await asyncio.sleep(1.0)
    return found


async def drive(pid: int, port: int, conditions: Conditions, tally: Tally) -> list[Sample]:
    """All clients at once, and the watch."""
    end_s = time.perf_counter() + conditions.seconds
    clients = [client(port, n, end_s, conditions, tally) for n in range(conditions.clients)]
    samples, *_ = await asyncio.gather(watch(pid, end_s, Progress("load"), tally), *clients)
    return samples


def resident_bytes(pid: int) -> tuple[int, int]:
    """Resident memory of a process: its own, and that of mapped files."""
    _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    return (resident - shared) * PAGE_BYTES, shared * PAGE_BYTES


def n_fds(pid: int) -> int:
    """Open descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_s(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def slope(samples: list[tuple[float, int]]) -> tuple[float, float | None]:
    """Bytes a minute by least squares, and the standard error of that."""
    minutes = np.array([at_s for at_s, _ in samples]) / 60.0
    values = np.array([float(n_bytes) for _, n_bytes in samples])
    minutes -= minutes.mean()
    spread = float((minutes**2).sum())
    if len(samples) < 3 or spread == 0.0:
        return 0.0, None
    found = float((minutes * values).sum() / spread)
    rest = values - values.mean() - found * minutes
    return found, float(np.sqrt((rest**2).sum() / (len(samples) - 2) / spread))


def percentiles(values: list[float]) -> dict[str, float]:
    """p50, p90, p99 and the largest; empty without values."""
    if not values:
        return {}
    named = {f"p{q}": float(np.percentile(values, q)) for q in (50, 90, 99)}
    return {name: round(value, 3) for name, value in {**named, "max": max(values)}.items()}


def start_server(bundle: str, words: list[str], log: Path) -> tuple[subprocess.Popen[bytes], int]:
    """As a user starts it, on a free port; the process and the port, which its log tells."""
    command = [sys.executable, "-m", "merino_edge", "serve", bundle, "--port", "0", *words]
    with log.open("wb") as stream:
        server = subprocess.Popen(command, stderr=stream)
    while server.poll() is None:
        match = re.search(r"http://127\.0\.0\.1:(\d+)/", log.read_text("utf-8"))
        if match:
            return server, int(match.group(1))
        time.sleep(0.05)
    raise BoardError("the server did not start: " + log.read_text("utf-8")[-500:].strip())


def measure(options: argparse.Namespace) -> LoadReport:
    """Start, drive, stop, count."""
    with tempfile.TemporaryDirectory() as folder:
        return _measure(options, Path(folder) / "log")


def _measure(options: argparse.Namespace, log: Path) -> LoadReport:
    manifest = Bundle.open(options.bundle).manifest
    words = options.server_options.split()
    conditions = Conditions(
        bundle=manifest.name,
        n_params=manifest.n_params,
        precision=manifest.precision,
        clients=options.clients,
        seconds=options.seconds,
        max_tokens=options.max_tokens,
        hang_ups=options.hang_ups,
        server_options=words,
    )
    found = provenance(("numpy", "tokenizers"))
    server, port = start_server(options.bundle, words, log)
    try:
        tally, fds_start, first = Tally(), n_fds(server.pid), resident_bytes(server.pid)
        begun_s, cpu_before_s = time.perf_counter(), cpu_s(server.pid)
        samples = asyncio.run(drive(server.pid, port, conditions, tally))
        took_s, used_s = time.perf_counter() - begun_s, cpu_s(server.pid) - cpu_before_s
        time.sleep(2.0)  # for the server to see that the clients left
        memory = _memory(samples, first, fds_start, server.pid)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)
    return LoadReport(
        provenance=found,
        conditions=conditions,
        n_complete=tally.n_complete,
        n_hung_up=tally.n_hung_up,
        errors=dict(tally.errors),
        ttft_ms=percentiles(tally.ttft_ms),
        itl_ms=percentiles(tally.itl_ms),
        tok_per_s=round(tally.n_tokens / took_s, 1),
        server_cpu_share=round(used_s / took_s, 3),
        memory=memory,
    )


def _memory(samples: list[Sample], first: tuple[int, int], fds_start: int, pid: int) -> Memory:
    """From all looks, and one at a process that has no clients any more."""
    half = samples[len(samples) // 2 :]
    rise, error = slope([(sample.at_s, sample.all_bytes) for sample in half])
    own_rise, own_error = slope([(sample.at_s, sample.own_bytes) for sample in half])
    end = resident_bytes(pid)
    return Memory(
        start_bytes=sum(first),
        half_bytes=half[0].all_bytes,
        end_bytes=sum(end),
        most_bytes=max(sample.all_bytes for sample in samples),
        slope_bytes_per_min=round(rise, 1),
        slope_error_bytes_per_min=None if error is None else round(error, 1),
        n_samples=len(half),
        fds_start=fds_start,
        fds_end=n_fds(pid),
        own_slope_bytes_per_min=round(own_rise, 1),
        own_slope_error_bytes_per_min=None if own_error is None else round(own_error, 1),
        own_end_bytes=end[0],
    )


def markdown(report: LoadReport) -> str:
    """The report for people."""
    c, m = report.conditions, report.memory
    about = (
        f"{c.clients} clients for {c.seconds:.0f} s, {c.max_tokens} tokens an answer, "
        f"{100 * c.hang_ups:.0f} % of them left midway; {c.bundle}, {c.precision}; "
        + headline(report.provenance).replace(", one core", "")
    )
    errors = ", ".join(f"{kind}: {n}" for kind, n in report.errors.items()) or "none"
    mib = 2.0**20
    rows = [
        ("complete answers", str(report.n_complete)),
        ("left by their client", str(report.n_hung_up)),
        ("errors", errors),
        ("tokens/s, all together", f"{report.tok_per_s:.1f}"),
        ("first token, p50 / p99, ms", _pair(report.ttft_ms)),
        ("between tokens, p50 / p99, ms", _pair(report.itl_ms)),
        ("processor time of the server, cores", f"{report.server_cpu_share:.2f}"),
        (
            "memory: start, half time, end, MiB",
            f"{m.start_bytes / mib:.1f}, {m.half_bytes / mib:.1f}, {m.end_bytes / mib:.1f}",
        ),
        (
            "slope over the second half, KiB a minute",
            _slope_text(m.slope_bytes_per_min, m.slope_error_bytes_per_min),
        ),
        (
            "of that, without pages of files",
            _slope_text(m.own_slope_bytes_per_min, m.own_slope_error_bytes_per_min),
        ),
        ("descriptors: start, end", f"{m.fds_start}, {m.fds_end}"),
    ]
    return about + "\n\n" + table(("", ""), rows)


def _slope_text(bytes_per_min: float | None, error: float | None) -> str:
    if bytes_per_min is None or error is None:
        return "not known"
    return f"{bytes_per_min / 1024:.1f} +- {error / 1024:.1f}"


def _pair(values: dict[str, float]) -> str:
    return f"{values['p50']:.1f} / {values['p99']:.1f}" if values else "none"


def main() -> None:
    """The script."""
    parser = new_parser(__doc__, results_folder(__file__) / "load.json")
    parser.add_argument("bundle", help="what is served")
    parser.add_argument("--clients", type=positive_int, default=32, help="(32)")
    parser.add_argument("--seconds", type=positive_float, default=300.0, help="(300)")
    parser.add_argument("--max-tokens", type=positive_int, default=32, help="(32)")
    parser.add_argument("--hang-ups", type=float, default=0.05, help="share that leaves (0.05)")
    parser.add_argument("--server-options", default="", metavar="WORDS", help="for serve")
    run_script(parser, SCHEMA, measure, markdown)


if __name__ == "__main__":
    main()
