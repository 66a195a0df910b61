"""The study at a glance: loss against a proxy, one colour and mark for each band.

The one idea: if a proxy is any good, the dots of each single colour fall from left to right.

Example:
  python benchmarks/search/study/plot.py
"""

from pathlib import Path

import matplotlib as mpl
from analyse import Member, read_losses, read_members
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from plan import RESULTS, SCHEMA, Plan
from proxies import Proxy, all_proxies
from reports import new_parser
from scipy.stats import rankdata

from merino_edge.formats import jsonio

SHOWN = ("FLOPs", "entropy (gamma0 1/16)", "entropy (gamma0 1/4)")
_MARKS = "osv^D*PX<>h"


def panel(axes: Axes, name: str, proxy: Proxy, members: list[Member]) -> None:
    """One scatter: ranks of the proxy, so that every proxy has the same room."""
    ranks = rankdata([proxy(member.architecture) for member in members])
    groups = list(dict.fromkeys(member.group for member in members))
    for index, group in enumerate(groups):
        rows = [row for row, member in enumerate(members) if member.group == group]
        losses = [members[row].loss for row in rows]
        colour = plt.get_cmap("tab20")(index)
        mark = _MARKS[index % len(_MARKS)]
        axes.scatter(ranks[rows], losses, 22, colour, marker=mark, label=group)
    axes.set_xlabel(f"rank of {name}")


def main() -> None:
    """Draw and save."""
    parser = new_parser(__doc__, RESULTS / "study.svg")
    parser.add_argument("--runs", default=str(RESULTS / "runs.jsonl"), metavar="FILE")
    options = parser.parse_args()
    plan: Plan = jsonio.read_record(str(RESULTS / "plan.json"), SCHEMA, Plan)
    members = read_members(plan, read_losses(Path(options.runs)))
    mpl.rcParams.update({"svg.hashsalt": "study", "svg.fonttype": "none", "font.size": 8})
    figure, axes = plt.subplots(1, len(SHOWN), figsize=(11, 3.6), sharey=True)
    proxies = all_proxies(plan.space.max_seq_len)
    for each, name in zip(axes, SHOWN, strict=True):
        panel(each, name, proxies[name], members)
    axes[0].set_ylabel("validation loss, nats per token")
    axes[-1].legend(fontsize=6, loc="upper right")
    figure.tight_layout()
    figure.savefig(options.output, metadata={"Date": None})


if __name__ == "__main__":
    main()
