"""Train the contestants on the same tokens by the same recipe, and judge them by the same texts.

The one idea: everything but the architecture is equal (tokens, their order, steps, tokenizer,
optimiser), and the peak of the learning rate, which does not suit all alike, is tried for each on a
shorter run. Every training is a call of ``merino-edge train``, every score one of ``merino-edge
eval``, so whoever repeats a line by hand gets its figures. A finished training is a line in
WORK/runs.jsonl and is not repeated: stop the script at any time, and call it again. Where WORK is
lost, or the contest goes on elsewhere, ``--earlier`` takes the trainings of a report.

It does not know how long is enough: what a few million tokens show may turn with more of them.

Example:
  merino-edge tokenize --corpus texts/ --vocab-size 4096 -o tokens/
  python benchmarks/quality/contest.py --data tokens/ --texts data/ --work work/ --tokens 30M
"""

import argparse
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

from contest_report import SCHEMA, TEXTS, Report, Run, markdown
from entrants import SCHEMA as CONTESTANTS_SCHEMA
from entrants import Contestant, Contestants
from reports import new_parser, provenance, results_folder, run_script

from merino_edge.cli.options import count, positive_int
from merino_edge.cli.output import Progress, human_count
from merino_edge.errors import FormatError, MerinoError, UsageError
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import write_architecture
from merino_edge.training.config import TrainConfig, learning_rate_for
from merino_edge.training.token_folder import open_tokens

FACTORS = "0.5,1,2"  # x the rate that the trainer takes by width


class Job(NamedTuple):
    """A training to be done."""

    contestant: Contestant
    seed: int
    n_tokens: int
    learning_rate: float
    scored: bool


def main() -> None:
    """Train, score, save, print."""
    parser = new_parser(__doc__, results_folder(__file__) / "contest.json")
    who = str(results_folder(__file__) / "contestants.json")
    parser.add_argument("--contestants", default=who, metavar="FILE")
    parser.add_argument("--data", required=True, metavar="TOKENS", help="of merino-edge tokenize")
    parser.add_argument("--texts", required=True, metavar="DIR", help="for merino-edge eval --data")
    parser.add_argument("--work", required=True, metavar="DIR", help="checkpoints and runs.jsonl")
    parser.add_argument("--tokens", type=count, default=30_000_000, metavar="N", help="(30M)")
    parser.add_argument("--trial-tokens", type=count, default=1_000_000, metavar="N", help="(1M)")
    parser.add_argument(
        "--factors",
        default=FACTORS,
        metavar="X,X",
        help=f"rates to try, x the trainer's own; of one alone nothing is tried ({FACTORS})",
    )
    parser.add_argument("--seeds", type=positive_int, default=1, metavar="N", help="(1)")
    parser.add_argument("--workers", type=positive_int, default=2, help="trainings at once (2)")
    parser.add_argument("--precision", default="bfloat16", help="(bfloat16)")
    words = "a report whose trainings, on the same tokens, count as done"
    parser.add_argument("--earlier", metavar="CONTEST.json", help=words)
    run_script(parser, SCHEMA, make, markdown)


def make(options: argparse.Namespace) -> Report:
    """The report for the options of the command line."""
    begun = provenance(("torch", "tokenizers", "numpy"))
    shared = conditions(options)
    who: Contestants = jsonio.read_record(options.contestants, CONTESTANTS_SCHEMA, Contestants)
    contest = Contest(options)
    if len(contest.factors) > 1:
        contest.carry_out(
            Job(c, 0, options.trial_tokens, rate, False)
            for c in who.contestants
            for rate in contest.rates(c)
        )
    contest.carry_out(
        Job(c, seed, options.tokens, contest.best_rate(c, options.trial_tokens), True)
        for seed in range(options.seeds)
        for c in who.contestants
    )
    names = ("tokens", "trial_tokens", "factors", "seeds")
    settings = {name: getattr(options, name) for name in names} | shared
    return Report(begun, settings, contest.runs())


def conditions(options: argparse.Namespace) -> dict[str, Any]:
    """What two trainings must share to be compared: the tokens, by their checksums, and the sums.

    Raises:
        FormatError: The tokens are none.
    """
    manifest = open_tokens(options.data).manifest
    names = ("corpus_sha256", "tokenizer_sha256", "val_fraction")
    return {name: getattr(manifest, name) for name in names} | {"precision": options.precision}


def earlier_runs(options: argparse.Namespace) -> list[Run]:
    """The trainings of ``--earlier``.

    Raises:
        UsageError: They are of other tokens, or of another precision.
    """
    if not options.earlier:
        return []
    report = jsonio.read_record(options.earlier, SCHEMA, Report)
    for name, value in conditions(options).items():
        theirs = report.settings.get(name)
        if theirs != value:
            raise UsageError(
                f"'{options.earlier}' is another contest: its {name} is {theirs}, here {value}.",
                hint="a contest goes on with the same tokens and precision; leave out --earlier.",
            )
    return report.runs


class Contest:
    """The trainings of one folder of work.

    Attributes:
        factors: Of the rates that are tried.

    Raises:
        UsageError: The earlier report is of another contest.
    """

    def __init__(self, options: argparse.Namespace):
        self._options = options
        self._earlier = earlier_runs(options)
        self._work = Path(options.work)
        self._work.mkdir(parents=True, exist_ok=True)
        self._lines = self._work / "runs.jsonl"
        self._lock = threading.Lock()
        self.factors = [float(word) for word in options.factors.split(",")]
        self._progress = Progress("contest", plain_every_s=30)

    def runs(self) -> list[Run]:
        """Every training that is done."""
        lines = self._lines.read_text().splitlines() if self._lines.exists() else []
        own = [Run(**json.loads(line)) for line in lines]
        here = {run[:4] for run in own}
        return [run for run in self._earlier if run[:4] not in here] + own

    def rates(self, contestant: Contestant) -> list[float]:
        """The rates to try: factors of what the trainer takes by width."""
        usual = learning_rate_for(max(b.d_model for b in contestant.architecture.blocks))
        return [round(factor * usual, 6) for factor in self.factors]

    def best_rate(self, contestant: Contestant, n_tokens: int) -> float:
        """The rate whose trial ended lowest."""
        rates = self.rates(contestant)
        if len(rates) == 1:
            return rates[0]
        trials = {
            run.learning_rate: run.val_loss
            for run in self.runs()
            if (run.contestant, run.n_tokens) == (contestant.name, n_tokens) and not run.scores
        }
        return min(rates, key=lambda rate: trials[rate])

    def carry_out(self, jobs: Any) -> None:
        """Do what is missing, several at once."""
        done = {run[:4] for run in self.runs()}
        missing = [job for job in jobs if _key(job) not in done]
        with ThreadPoolExecutor(self._options.workers) as pool:
            for run in pool.map(self._train, missing):
                told = f"{run.contestant}, seed {run.seed}, {human_count(run.n_tokens)} tokens"
                self._progress.done(f"{told}, rate {run.learning_rate}: {run.val_loss:.4f}")

    def _train(self, job: Job) -> Run:
        name = job.contestant.name.replace(" ", "-").replace(",", "")
        folder = self._work / f"{name}-{job.seed}-{job.n_tokens}-{job.learning_rate}"
        architecture = self._work / f"{name}.json"
        write_architecture(str(architecture), job.contestant.architecture)
        facts = command("train", str(architecture), *self._settings(job), "-o", str(folder))
        scores = self._scores(folder) if job.scored else {}
        unit = facts["val_bits_per_byte"] / facts["val_loss"]
        run = Run(
            job.contestant.name,
            job.seed,
            job.n_tokens,
            job.learning_rate,
            facts["val_loss"],
            facts["val_bits_per_byte"],
            metrics(folder)[-1]["elapsed_s"],
            scores,
            curve(job.contestant, folder, unit) if job.scored else [],
        )
        with self._lock, self._lines.open("a") as stream:
            stream.write(json.dumps(run._asdict()) + "\n")
        return run

    def _scores(self, checkpoint: Path) -> dict[str, dict[str, float]]:
        texts = ("--tasks", ",".join(TEXTS), "--data", self._options.texts, "--threads", "1")
        found = command("eval", str(checkpoint), *texts)
        return {
            task["name"]: {name: each["value"] for name, each in task["metrics"].items()}
            for task in found["tasks"]
        }

    def _settings(self, job: Job) -> Iterator[str]:
        config = TrainConfig.for_model(job.contestant.architecture)
        n_steps = job.n_tokens // config.tokens_per_step
        values = {
            "--data": self._options.data,
            "--steps": n_steps,
            "--warmup-steps": max(10, n_steps // 50),
            "--learning-rate": job.learning_rate,
            "--seed": job.seed,
            "--precision": self._options.precision,
            "--threads": 1,
            "--eval-every": max(100, n_steps // 10),
            "--save-every": max(100, n_steps // 20),
        }
        for name, value in values.items():
            yield from (name, str(value))
        yield "--resume"


def command(*words: str) -> Any:
    """What a command of ours answers in JSON.

    Raises:
        MerinoError: It failed; in its own words.
    """
    argv = [sys.executable, "-m", "merino_edge", *words, "--json", "--quiet"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MerinoError(f"merino-edge {words[0]} ended with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def _key(job: Job) -> tuple[str, int, int, float]:
    return job.contestant.name, job.seed, job.n_tokens, job.learning_rate


def metrics(folder: Path) -> list[dict[str, Any]]:
    """What a training wrote down, step by step; interruptions are left out of its seconds.

    Raises:
        FormatError: There is nothing.
    """
    path = Path(f"{folder}.run") / "metrics.jsonl"
    if not path.exists():
        raise FormatError("a training left no metrics.", str(path))
    return [json.loads(line) for line in path.read_text().splitlines()]


def curve(contestant: Contestant, folder: Path, unit: float) -> list[list[float]]:
    """Tokens and held-out bits per byte; ``unit``: bits per byte of a nat per token."""
    tokens_per_step = TrainConfig.for_model(contestant.architecture).tokens_per_step
    return [
        [line["step"] * tokens_per_step, round(line["val_loss"] * unit, 5)]
        for line in metrics(folder)
        if line.get("val_loss") is not None
    ]


if __name__ == "__main__":
    main()
