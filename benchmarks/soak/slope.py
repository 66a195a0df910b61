"""Does it grow? A line through what was seen of a long life, with its uncertainty.

The one idea: samples that follow each other are alike, so an ordinary confidence interval would be
far too narrow. Therefore the means of ``N_BLOCKS`` equal stretches are taken, and the line is drawn
through those. What happens before the first ``WARM_UP`` of the life is left out: caches fill, and
code is run for the first time. Growth is "distinguishable from zero" if zero lies outside of the
95 % interval; the interval's upper end says what growth could still hide in the noise.
"""

import itertools
import statistics
from typing import NamedTuple

N_BLOCKS = 20
WARM_UP = 0.2
T_95 = 2.101  # Student's t, two-sided, N_BLOCKS - 2 degrees of freedom


class Sample(NamedTuple):
    """One look at a process: tokens so far, resident bytes, file descriptors."""

    n_tokens: int
    rss_bytes: int
    n_descriptors: int


class Growth(NamedTuple):
    """What the line says.

    Attributes:
        bytes_per_1000_tokens: Its slope.
        low: Lower end of the slope's 95 % interval, in the same unit.
        high: Upper end.
        is_zero_inside: Whether zero lies between them.
        first_bytes: Resident memory of the first sample after the warm-up.
        last_bytes: Of the last sample.
        most_bytes: Of all samples, those of the warm-up included.
        n_samples: After the warm-up.
        descriptors: The different numbers of file descriptors that were seen after it.
    """

    bytes_per_1000_tokens: float
    low: float
    high: float
    is_zero_inside: bool
    first_bytes: int
    last_bytes: int
    most_bytes: int
    n_samples: int
    descriptors: list[int]


def growth(samples: list[Sample]) -> Growth:
    """The line, from at least N_BLOCKS samples after the warm-up."""
    kept = [each for each in samples if each.n_tokens >= WARM_UP * samples[-1].n_tokens]
    assert len(kept) >= N_BLOCKS, f"{len(kept)} samples, {N_BLOCKS} are needed"
    x = _block_means([each.n_tokens / 1000 for each in kept])
    y = _block_means([float(each.rss_bytes) for each in kept])
    slope, half = _slope(x, y)
    return Growth(
        bytes_per_1000_tokens=round(slope, 3),
        low=round(slope - half, 3),
        high=round(slope + half, 3),
        is_zero_inside=slope - half <= 0 <= slope + half,
        first_bytes=kept[0].rss_bytes,
        last_bytes=kept[-1].rss_bytes,
        most_bytes=max(each.rss_bytes for each in samples),
        n_samples=len(kept),
        descriptors=sorted({each.n_descriptors for each in kept}),
    )


def _block_means(values: list[float]) -> list[float]:
    bounds = [len(values) * i // N_BLOCKS for i in range(N_BLOCKS + 1)]
    return [statistics.fmean(values[a:b]) for a, b in itertools.pairwise(bounds)]


def _slope(x: list[float], y: list[float]) -> tuple[float, float]:
    """Least squares: the slope, and half of its 95 % interval."""
    mean_x, mean_y = statistics.fmean(x), statistics.fmean(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    rest = sum((b - mean_y - slope * (a - mean_x)) ** 2 for a, b in zip(x, y, strict=True))
    return slope, T_95 * (rest / (len(x) - 2) / spread) ** 0.5
