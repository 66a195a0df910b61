"""Time one decoder beside another whose time is known: how finalists of a search are measured.

The one idea: a ratio holds where milliseconds drift. A decoder and its like are timed in turns, and
what the like takes as a rule, by its row in a table, makes milliseconds of their ratio.

Not known here: which decoder is like which; ``pipeline.measured_search`` chooses.
"""

import math
import os
import shutil
import tempfile
from typing import List, NamedTuple, Tuple

import numpy as np

from merino_edge.formats.bundle import Bundle
from merino_edge.formats.latency_table import DECODE, LatencyRow, Workload
from merino_edge.formats.measurement import t95
from merino_edge.runtime.anchor import Anchor, time_length
from merino_edge.runtime.profiler import OpenSession
from merino_edge.runtime.session import GenerationSession

N_OPENINGS, N_LOOKS = 7, 5  # of a finalist, and at each of them

Look = Tuple[float, float]  # milliseconds of a decoder, and of another beside it


class Timed(NamedTuple):
    """What one workload took at the usual speed of a decoder of a table.

    Attributes:
        ms: Median of the rounds.
        half_ms: Half the 95 % interval of that median.
        raw_ms: Median as the clock saw it.
        n: Rounds.
    """

    ms: float
    half_ms: float
    raw_ms: float
    n: int

    @property
    def high_ms(self) -> float:
        """Upper end of the interval."""
        return self.ms + self.half_ms


def time_beside(
    bundle: str,
    beside: str,
    row: LatencyRow,
    length: int,
    seed: int,
    open_session: OpenSession,
    n_openings: int = N_OPENINGS,
) -> Timed:
    """Time the tokens of one decoder beside one whose row a table has.

    The closer the two are, the more what befalls the machine befalls both, and their ratio stays.
    Where weights and cache come to lie in memory makes a decoder a little faster or slower until it
    is opened anew. So both are copied and opened several times, and the interval is that of the
    openings, not of one opening's tokens.

    Args:
        bundle: The decoder's folder.
        beside: That of the other.
        row: What a token of the other takes as a rule, and at which length.
        length: Tokens in the cache.
        seed: Of the token ids.
        open_session: Makes sessions, in the table's setting.
        n_openings: How often.
    """
    looks = []  # type: List[List[Look]]
    for index in range(n_openings):
        with tempfile.TemporaryDirectory() as folder:
            fresh, other = _copied(bundle, folder), _copied(beside, folder)
            with open_session(other) as known, open_session(fresh) as session:
                if not index:
                    Anchor(known, seed).settle()
                looks.append(_looks(session, length, known, Workload.of_label(row.workload), seed))
    ratios = [float(np.median([ms / other_ms for ms, other_ms in each])) for each in looks]
    raw = [float(np.median([ms for ms, _ in each])) for each in looks]
    return timed_of(ratios, raw, row.latency_ms.p50)


def _looks(
    session: GenerationSession, length: int, known: GenerationSession, load: Workload, seed: int
) -> List[Look]:
    """What a token took, and what one of the other took before and after it, several times."""

    def other_ms() -> float:
        return time_length(known, load.length, seed)[load.label]

    label, found, before = Workload(DECODE, length).label, [], other_ms()
    for _ in range(N_LOOKS):
        ms, after = time_length(session, length, seed)[label], other_ms()
        found.append((ms, (before + after) / 2.0))
        before = after
    return found


def timed_of(ratios: List[float], raw_ms: List[float], usual_ms: float) -> Timed:
    """What several openings come to.

    Args:
        ratios: What it took over what the other took beside it, of each opening.
        raw_ms: What it took.
        usual_ms: What the other takes as a rule.
    """
    ms = usual_ms * float(np.median(ratios))
    return Timed(ms, ms * _half_of_openings(ratios), float(np.median(raw_ms)), len(ratios))


def _copied(bundle: str, folder: str) -> Bundle:
    """A bundle in other pages of memory."""
    path = os.path.join(folder, os.path.basename(os.path.normpath(bundle)))
    shutil.copytree(bundle, path)
    return Bundle.open(path)


def _half_of_openings(ratios: List[float]) -> float:
    """Half the 95 % interval of the median of a few, as a share of it, by all of their spread."""
    logs = np.log(ratios)
    spread = float(np.std(logs, ddof=1))
    return 1.2533 * t95(len(ratios) - 1) * spread / math.sqrt(len(ratios))
