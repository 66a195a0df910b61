"""Which decoders to time, so that a few dozen tell the times of a space.

The one idea: a model of latency is a handful of prices (``latency_work.WORK``), so one is worth
timing if it does its kinds of work in another mixture than those chosen before. From a few hundred
drawn ones, with one block or all, small and large alike, the next one is always that which adds
most to what the equations determine (greedy D-optimal design). Decoders that judge the model are
members of the space, drawn evenly over its sizes, and none of them is fitted.

It knows no device: what is worth timing follows from the shapes.
"""

from collections.abc import Sequence

import numpy as np

from merino_edge.core import counting
from merino_edge.core.latency_fit import FEWEST_DECODERS
from merino_edge.core.latency_work import total_work
from merino_edge.core.space import SearchSpace
from merino_edge.errors import SpecError
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.latency_table import DECODE, FIT, HELD_OUT, PREFILL, Workload
from merino_edge.formats.probes import BURST

N_FIT, N_HELD_OUT = 40, 28
# Multiply-accumulates of a token in the largest that is timed; 64M/160G of the paper has 78 M in
# its body. Larger ones take so long that a table would be measured for hours.
MOST_MACS = 200_000_000
_POOL = 600
_DRAWS = 6000
_SMALL = 1e-3
_MIDDLE_CACHE = 4_000_000  # weights: some of the blocks that are drawn stay, some do not


def choose(
    space: SearchSpace, n_fit: int, n_held_out: int, seed: int
) -> tuple[dict[str, Architecture], dict[str, str]]:
    """Decoders to time.

    Args:
        space: What they stand for; of several vocabularies each has its share.
        n_fit: Decoders to fit to.
        n_held_out: Members to judge by.
        seed: Of the draw.

    Returns:
        ``arch_id`` -> architecture, and -> role.

    Raises:
        SpecError: Too few to fit; the space has too few members, or none small enough.
    """
    if n_fit < FEWEST_DECODERS:
        raise SpecError(f"{n_fit} decoders are too few to fit: at least {FEWEST_DECODERS}.")
    rng = np.random.default_rng(seed)
    members = _evenly(_drawn(space, rng, whole=True), _POOL)
    if len(members) < n_held_out + n_fit // 2:
        raise SpecError(
            f"the space '{space.name}' has {len(members)} different members of at most "
            f"{MOST_MACS / 1e6:.0f} M multiplications; {n_held_out} to judge by are too many.",
            hint="ask for fewer with --held-out, or take a larger --space.",
        )
    held_out = _evenly(members, n_held_out)
    names = {a.arch_id for a in held_out}
    pool = [a for a in members + _drawn(space, rng, whole=False)[:_POOL] if a.arch_id not in names]
    fitted = _most_telling(pool, n_fit, space)
    roles = {a.arch_id: HELD_OUT for a in held_out} | {a.arch_id: FIT for a in fitted}
    return {a.arch_id: a for a in held_out + fitted}, roles


def lengths_of(context_len: int) -> list[int]:
    """Tokens in the cache at which decoders are timed: early, in the middle, at the end.

    Raises:
        SpecError: The context is too short for a burst at each.
    """
    shortest = 2 * BURST
    if context_len < 4 * shortest:
        raise SpecError(f"a context of {context_len} is too short: at least {4 * shortest}.")
    return [max(shortest, context_len // 16), context_len // 3, context_len - BURST // 2]


def middling(architectures: Sequence[Architecture]) -> str:
    """``arch_id`` of the one in the middle, by its multiplications."""
    ordered = sorted(architectures, key=_macs)
    return ordered[len(ordered) // 2].arch_id


def _drawn(space: SearchSpace, rng: np.random.Generator, whole: bool) -> list[Architecture]:
    """Different decoders, small ones as likely as large ones, in random order.

    Args:
        space: Where from.
        rng: Of the draw.
        whole: Members; otherwise decoders of one of a member's blocks.
    """
    found: dict[Architecture, None] = {}
    alternatives = [member for member, _ in space.alternatives()]
    choices = np.array(space.n_choices)
    for i in range(_DRAWS):
        reach = np.ceil(choices * rng.random(3)).astype(int)  # of the first so many choices
        genome = rng.integers(0, reach, size=(space.n_blocks, 3))
        genome[:, 0].sort()
        a = alternatives[i % len(alternatives)].decode(genome)
        if not whole:
            a = a.replace(blocks=(a.blocks[rng.integers(len(a.blocks))],))
        if _macs(a) <= MOST_MACS:
            found[a] = None
    return list(found)


def _macs(a: Architecture) -> int:
    return counting.linear_macs_per_token(a) + counting.head_macs(a)


def _evenly(drawn: Sequence[Architecture], n: int) -> list[Architecture]:
    """At most n, evenly over the logarithm of their size."""
    if len(drawn) <= n:
        return list(drawn)
    left = sorted(drawn, key=_macs)
    sizes = np.log([_macs(a) for a in left])
    chosen: dict[int, None] = {}
    for size in np.linspace(sizes[0], sizes[-1], n):
        near = np.argsort(np.abs(sizes - size), kind="stable")
        chosen[int(next(i for i in near if int(i) not in chosen))] = None
    return [left[i] for i in sorted(chosen)]


def _most_telling(pool: Sequence[Architecture], n: int, space: SearchSpace) -> list[Architecture]:
    """Greedily, the decoder that adds most to the determinant of the normal equations."""
    loads = [Workload(DECODE, space.max_seq_len), Workload(PREFILL, space.max_seq_len)]
    work = np.array([[total_work(a, load, _MIDDLE_CACHE) for load in loads] for a in pool])
    scale = work.mean(axis=(0, 1))
    work = work / np.where(scale > 0.0, scale, 1.0)
    work = work / work.sum(axis=2, keepdims=True)  # relative errors count
    information = _SMALL * np.eye(work.shape[2])
    chosen: list[int] = []
    for _ in range(min(n, len(pool))):
        inverse = np.linalg.inv(information)
        gain = np.einsum("nij,jk,nik->n", work, inverse, work)
        gain[chosen] = -np.inf
        chosen.append(int(np.argmax(gain)))
        information += work[chosen[-1]].T @ work[chosen[-1]]
    return [pool[i] for i in chosen]
