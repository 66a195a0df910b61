"""What the trainings say about the proxies: rank correlations, a fit, and the ablations.

The one idea: three questions, each with an interval. *Overall*: does the proxy order all members
as their losses do? *Within bands*: does it still, among members of equal FLOPs or parameters, where
size cannot help it? *Fitted*: do the constants that suit one half of every band suit the other
half? Correlations are with the negative loss, so 1 is best; intervals are 95 % percentile
bootstraps over members (within each band), with a fixed seed.

Example:
  python benchmarks/search/study/analyse.py --torch
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from plan import RESULTS, Plan, PlannedRun
from plan import SCHEMA as PLAN_SCHEMA
from proxies import Proxy, all_proxies, depth_to_width, entropy
from reports import new_parser
from scipy.stats import kendalltau, rankdata

from merino_edge.core import counting
from merino_edge.core.entropy import EntropyConfig
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture, describe

N_BOOTSTRAP = 500
SEED = 0


class Member(NamedTuple):
    """A trained architecture of a band."""

    group: str
    architecture: Architecture
    loss: float


def read_members(plan: Plan, losses: dict[tuple[str, int], float]) -> list[Member]:
    """The trained members of all bands."""
    return [
        Member(run.group, run.architecture, losses[key_of(run)])
        for run in plan.runs
        if is_banded(run) and key_of(run) in losses
    ]


def is_banded(run: PlannedRun) -> bool:
    """It was drawn for a band, not for an ablation."""
    return run.group.removeprefix("even ").split()[0] in ("flops", "params")


def key_of(run: PlannedRun) -> tuple[str, int]:
    """What ``runs.jsonl`` calls it."""
    return run.architecture.arch_id, run.seed


def read_losses(path: Path) -> dict[tuple[str, int], float]:
    """Validation losses by run."""
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return {(record["arch_id"], record["seed"]): record["val_loss"] for record in records}


# --- correlations -----------------------------------------------------------------------------


def spearman(values: np.ndarray, goals: np.ndarray) -> float:
    """Rank correlation; 0 where one of them is constant, for then nothing is ordered."""
    if np.ptp(values) == 0.0 or np.ptp(goals) == 0.0:
        return 0.0
    return float(np.corrcoef(rankdata(values), rankdata(goals))[0, 1])


def kendall(values: np.ndarray, goals: np.ndarray) -> float:
    """Kendall's tau-b, likewise."""
    if np.ptp(values) == 0.0 or np.ptp(goals) == 0.0:
        return 0.0
    return float(kendalltau(values, goals).statistic)


def overall(measure: Callable[..., float], values: np.ndarray, members: "Sample") -> float:
    """Over all members."""
    return measure(values, members.goals)


def within_bands(measure: Callable[..., float], values: np.ndarray, members: "Sample") -> float:
    """Mean over the bands."""
    return float(np.mean([measure(values[rows], members.goals[rows]) for rows in members.bands]))


def given_size(measure: Callable[..., float], values: np.ndarray, members: "Sample") -> float:
    """Of what parameters and FLOPs leave unexplained: ranks, less a linear fit to their ranks."""
    sizes = np.column_stack([members.sizes, np.ones(len(values))])

    def rest(column: np.ndarray) -> np.ndarray:
        ranks = rankdata(column)
        return ranks - sizes @ np.linalg.lstsq(sizes, ranks, rcond=None)[0]

    return measure(np.round(rest(values), 9), np.round(rest(members.goals), 9))


class Sample(NamedTuple):
    """n members as arrays.

    Attributes:
        goals: (n,), negative losses.
        sizes: (n, 2), ranks of parameters and FLOPs.
        bands: Rows of each band.
        rows: (n,), which members they are.
    """

    goals: np.ndarray
    sizes: np.ndarray
    bands: list[np.ndarray]
    rows: np.ndarray

    @classmethod
    def of(cls, members: Sequence[Member], rows: Iterable[int], seq_len: int) -> "Sample":
        """Some of the members, in any order and number."""
        rows = np.array(list(rows))
        chosen = [members[row] for row in rows]
        bands = defaultdict(list)
        for index, member in enumerate(chosen):
            bands[member.group].append(index)
        counts = [
            [counting.n_params(m.architecture), counting.prefill_flops(m.architecture, seq_len)]
            for m in chosen
        ]
        return cls(
            goals=-np.array([member.loss for member in chosen]),
            sizes=np.column_stack([rankdata(column) for column in np.array(counts).T]),
            bands=[np.array(rows) for rows in bands.values()],
            rows=rows,
        )


QUESTIONS = {"overall": overall, "within bands": within_bands, "given size": given_size}
MEASURES = {"spearman": spearman, "kendall": kendall}


def correlate(
    members: Sequence[Member], proxies: dict[str, np.ndarray], seq_len: int
) -> list[dict[str, Any]]:
    """Every proxy's correlations, each with its interval: rows for the table."""
    everyone = Sample.of(members, range(len(members)), seq_len)
    rng = np.random.default_rng(SEED)
    again = [Sample.of(members, _redrawn(everyone.bands, rng), seq_len) for _ in range(N_BOOTSTRAP)]
    rows = []
    for name, values in proxies.items():
        row: dict[str, Any] = {"proxy": name}
        for (question, ask), (label, measure) in product(QUESTIONS.items(), MEASURES.items()):
            found = ask(measure, values, everyone)
            drawn = [ask(measure, values[sample.rows], sample) for sample in again]
            low, high = np.percentile(drawn, [2.5, 97.5])
            row[f"{label} {question}"] = [round(float(x), 3) for x in (found, low, high)]
        rows.append(row)
    return rows


def _redrawn(bands: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Members of each band with replacement."""
    return np.concatenate([rng.choice(rows, len(rows)) for rows in bands])


# --- the fit ----------------------------------------------------------------------------------


class Constants(NamedTuple):
    """What is fitted."""

    alpha2: float
    eps: float
    gamma0: float
    form: str
    most_growth: float | None

    def proxy(self) -> Proxy:
        """The entropy with these constants, alpha1 = 1."""
        return entropy(EntropyConfig(1.0, *self))


def grid() -> list[Constants]:
    """All constants that are tried."""
    gammas = [1 / parts for parts in (32, 16, 12, 8, 6, 4, 3, 2)]
    found = []
    for alpha2, eps, growth in product(
        (0.5, 1.0, 2.0, 4.0), (0.3, 1.0, 3.0), (None, 1.0, 1.5, 2.0)
    ):
        found += [Constants(alpha2, eps, gamma0, "factor", growth) for gamma0 in gammas]
        found += [Constants(alpha2, eps, gamma0, "hard", growth) for gamma0 in gammas]
        found.append(Constants(alpha2, eps, gammas[0], "off", growth))
    return found


def fit(members: Sequence[Member], seq_len: int, n_splits: int = 20) -> dict[str, Any]:
    """Fit on half of every band, test on the other; the first split takes every second member.

    Every split's fit is judged by the mean of Spearman's rho overall and within bands.
    """
    everyone = Sample.of(members, range(len(members)), seq_len)
    candidates = grid()
    values = np.array([[c.proxy()(m.architecture) for m in members] for c in candidates])
    rng, rows = np.random.default_rng(SEED), []
    default = candidates.index(Constants(1.0, 1.0, 1 / 16, "factor", None))
    for split in range(n_splits):
        halves = _halves(everyone.bands, None if split == 0 else rng)
        train, test = (Sample.of(members, half, seq_len) for half in halves)
        scores = np.array([_merit(v[train.rows], train) for v in values])
        best = int(scores.argmax())
        rows.append(
            {
                "constants": candidates[best]._asdict(),
                "fitted": round(float(scores[best]), 3),
                "tested": round(_merit(values[best][test.rows], test), 3),
                "default tested": round(_merit(values[default][test.rows], test), 3),
            }
        )
    return {
        "splits": rows,
        "mean": {k: _mean(rows, k) for k in ("fitted", "tested", "default tested")},
    }


def _merit(values: np.ndarray, sample: Sample) -> float:
    return 0.5 * (overall(spearman, values, sample) + within_bands(spearman, values, sample))


def _mean(rows: Sequence[dict[str, Any]], name: str) -> float:
    return round(float(np.mean([row[name] for row in rows])), 3)


def _halves(
    bands: Sequence[np.ndarray], rng: np.random.Generator | None
) -> tuple[np.ndarray, np.ndarray]:
    orders = [rows if rng is None else rng.permutation(rows) for rows in bands]
    return np.concatenate([o[::2] for o in orders]), np.concatenate([o[1::2] for o in orders])


# --- the ablations ----------------------------------------------------------------------------


def ablations(plan: Plan, losses: dict[tuple[str, int], float]) -> list[dict[str, Any]]:
    """What the search chose under other objectives and in other spaces, and how that trained."""
    seq_len = plan.space.max_seq_len
    return [
        {
            "group": run.group,
            "shape": describe(run.architecture),
            "n_layers": run.architecture.n_layers,
            "gamma": round(depth_to_width(run.architecture), 4),
            "n_params": counting.n_params(run.architecture),
            "flops": counting.prefill_flops(run.architecture, seq_len),
            "val_loss": losses[key_of(run)],
        }
        for run in plan.runs
        if run.group.startswith(("gamma", "ratio")) and key_of(run) in losses
    ]


def twins(plan: Plan, losses: dict[tuple[str, int], float]) -> list[dict[str, Any]]:
    """Shared against unshared weights at equal shape."""
    members = {run.architecture.arch_id: run for run in plan.runs if is_banded(run)}
    rows = []
    for run in plan.runs:
        shared = members.get(run.of)
        both = run.group == "unshared twin" and shared is not None
        if both and {key_of(run), key_of(shared)} <= set(losses):
            rows.append(
                {
                    "shape": describe(shared.architecture),
                    "n_params shared": counting.n_params(shared.architecture),
                    "n_params unshared": counting.n_params(run.architecture),
                    "loss shared": losses[key_of(shared)],
                    "loss unshared": losses[key_of(run)],
                }
            )
    return rows


def noise(plan: Plan, losses: dict[tuple[str, int], float]) -> float | None:
    """Standard deviation of the loss over seeds, pooled over the repeated members."""
    by_member = defaultdict(list)
    repeated = {run.of for run in plan.runs if run.group == "repeat"}
    for (arch_id, _), loss in losses.items():
        if arch_id in repeated:
            by_member[arch_id].append(loss)
    variances = [np.var(found, ddof=1) for found in by_member.values() if len(found) > 1]
    return round(float(np.sqrt(np.mean(variances))), 4) if variances else None


# --- the command ------------------------------------------------------------------------------


def analyse(plan: Plan, losses: dict[tuple[str, int], float], with_torch: bool) -> dict[str, Any]:
    """All of it, as plain values."""
    seq_len = plan.space.max_seq_len
    members = read_members(plan, losses)
    functions = all_proxies(seq_len)
    if with_torch:
        from merino_edge.model.zero_shot import dss, synflow

        functions |= {"DSS": dss, "SynFlow": synflow}
    proxies = {
        name: np.array([proxy(m.architecture) for m in members], dtype=np.float64)
        for name, proxy in functions.items()
    }
    even = [row for row, member in enumerate(members) if member.group.startswith("even")]
    return {
        "n_members": len(members),
        "n_even": len(even),
        "noise_of_a_training": noise(plan, losses),
        "all": correlate(members, proxies, seq_len),
        "even": correlate(
            [members[row] for row in even], {n: v[even] for n, v in proxies.items()}, seq_len
        )
        if even
        else [],
        "fit": fit(members, seq_len),
        "twins": twins(plan, losses),
        "ablations": ablations(plan, losses),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: Spearman with intervals, Kendall without."""
    lines = [
        "| proxy | overall | within bands | given size | Kendall overall | within bands |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    for row in sorted(rows, key=lambda row: -row["spearman within bands"][0]):
        cells = ["{:.2f} [{:.2f}, {:.2f}]".format(*row[f"spearman {q}"]) for q in QUESTIONS]
        cells += [f"{row[f'kendall {q}'][0]:.2f}" for q in ("overall", "within bands")]
        lines.append("| " + " | ".join([row["proxy"], *cells]) + " |")
    return "\n".join(lines)


def tables() -> dict[str, str]:
    """Name of a mark -> what stands there, from the committed results."""
    results = jsonio.read_json(str(RESULTS / "results.json"))
    return {"study_all": table(results["all"]), "study_even": table(results["even"])}


def main() -> None:
    """Analyse and print."""
    parser = new_parser(__doc__, RESULTS / "results.json")
    parser.add_argument("--plan", default=str(RESULTS / "plan.json"), metavar="FILE")
    parser.add_argument("--runs", default=str(RESULTS / "runs.jsonl"), metavar="FILE")
    parser.add_argument("--torch", action="store_true", help="DSS and SynFlow too")
    options = parser.parse_args()
    plan: Plan = jsonio.read_record(options.plan, PLAN_SCHEMA, Plan)
    results = analyse(plan, read_losses(Path(options.runs)), options.torch)
    Path(options.output).write_text(jsonio.dumps(results), "utf-8")
    print(f"{results['n_members']} members, noise of a training {results['noise_of_a_training']}")
    print(table(results["all"]))
    print(f"\nonly the {results['n_even']} even members:\n{table(results['even'])}")
    print("\nfit:", json.dumps(results["fit"]["mean"]))


if __name__ == "__main__":
    main()
