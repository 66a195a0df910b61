"""Do the activations of a half-precision bundle fit into half precision? Asked with real text.

The one idea: run the float32 twin of the graph over the text, in the chunks and with the cache that
the runtime uses, and keep the largest absolute value that each node ever gave. What exceeds 65504
would be infinite on a GPU; it is named, with the token at which that first happened. To find the
token, the chunk is fed again token by token.

What this does not see: a product that adds up in half precision (a Tegra X1's may) can overflow,
or lose small terms, on the way to a result that fits. Small values that become zero are not
reported either: softmax makes them by the thousand, and rightly so.
"""

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from merino_edge.errors import ParityError, UsageError
from merino_edge.export.float32_twin import Watched, make_twin
from merino_edge.formats.bundle import Bundle
from merino_edge.model.checkpoint import FP16_MAX
from merino_edge.runtime.backends.ort import OrtBackend
from merino_edge.runtime.session import DEFAULT_CHUNK
from merino_edge.runtime.tokenizer import Tokenizer

SCHEMA = "merino-edge.ranges/1"
WARNING_SHARE = 0.25  # of 65504: one measured text leaves a factor of four for all others
_LAYER = re.compile(r"/blocks\.(\d+)/(\d+)/")
Progress = Callable[[str], None]


@dataclass(frozen=True)
class TensorRange:
    """How large one half-precision value became.

    Attributes:
        tensor: Its name in the graph.
        node: The node that makes it.
        operator: The node's kind.
        layer: Which layer application, counted from 0; None outside the layers.
        max_abs: Largest absolute value; None if one was infinite or not a number even in float32.
        position: Index of the first token at which it did not fit; None if it always fits.
    """

    tensor: str
    node: str
    operator: str
    layer: int | None
    max_abs: float | None
    position: int | None = None

    @property
    def share(self) -> float:
        """Of 65504, where half precision ends; infinite for what is not finite."""
        return float("inf") if self.max_abs is None else self.max_abs / FP16_MAX

    @property
    def verdict(self) -> str:
        """Beyond 65504 an "error", beyond a quarter of it a "warning", otherwise "ok"."""
        return "error" if self.share > 1 else "warning" if self.share > WARNING_SHARE else "ok"

    def __str__(self) -> str:
        size = "not finite" if self.max_abs is None else f"{self.max_abs:.6g}"
        at = "" if self.position is None else f", first at token {self.position}"
        return f"{self.verdict:<7} {size:>10} {self.share:8.2%} of 65504  {self.node}{at}"


@dataclass(frozen=True)
class RangeReport:
    """The largest values of every half-precision activation over one text.

    Attributes:
        bundle_id: What was checked.
        n_tokens: How long the text was.
        ranges: In the order of the graph, so that the first error is the cause of later ones.
    """

    bundle_id: str
    n_tokens: int
    ranges: tuple[TensorRange, ...]

    def worst(self, n: int) -> list[TensorRange]:
        """The n largest, largest first."""
        return sorted(self.ranges, key=lambda found: -found.share)[:n]

    @property
    def errors(self) -> list[TensorRange]:
        """What does not fit, in the order of the graph."""
        return [found for found in self.ranges if found.verdict == "error"]

    @property
    def warnings(self) -> list[TensorRange]:
        """What fits by less than a factor of four."""
        return [found for found in self.ranges if found.verdict == "warning"]

    def text(self, n: int = 5) -> str:
        """The n largest values, a line each; and all that do not fit, in the order of the graph."""
        largest = [found for found in self.worst(n) if found.verdict != "error"]
        return "\n".join(str(found) for found in [*self.errors, *largest])

    def require_fit(self) -> None:
        """Do nothing if every activation fits.

        Raises:
            ParityError: Names the first node that does not, its value and the token.
        """
        if not self.errors:
            return
        first = self.errors[0]
        size = "is not finite" if first.max_abs is None else f"reaches {first.max_abs:.6g}"
        raise ParityError(
            f"node '{first.node}' {size} at token {first.position}; half precision ends at 65504.",
            max_abs_diff=first.max_abs,
            tolerance=FP16_MAX,
            step=first.position,
            note=f"{len(self.errors)} of {len(self.ranges)} activations do not fit.",
            hint="build with --precision fp32, or for a target that has a wider type.",
        )


def check_ranges(
    bundle: Bundle,
    text: str | Sequence[int],
    on_progress: Progress = lambda text: None,
    threads: int | None = None,
) -> RangeReport:
    """Run a text through the float32 twin and note how large each activation becomes.

    Args:
        bundle: In half precision.
        text: A text, or token ids; read in windows as long as the context, each begun afresh.
        on_progress: Told what is being done.
        threads: CPU threads; None for all cores.

    Raises:
        UsageError: The bundle is not in half precision, or the text is empty.
        FormatError: A text is given, and the bundle has no tokenizer.
        SessionError: A token is not in the vocabulary.
        OSError: No room for the twin, which takes four bytes a weight in the temporary folder.
    """
    ids = _token_ids(bundle, text)
    with tempfile.TemporaryDirectory(prefix="merino-edge-twin-") as folder:
        on_progress("writing the float32 twin")
        twin = make_twin(bundle, folder)
        backend = OrtBackend(twin.bundle, threads)
        try:
            survey = _Survey(backend, twin.watched)
            for start, chunk in _chunks(bundle, ids):
                on_progress(f"token {start} of {len(ids)}")
                survey.feed(start, chunk)
        finally:
            backend.close()
    return RangeReport(bundle.bundle_id, len(ids), tuple(survey.ranges(_layers(bundle))))


class _Survey:
    """Largest values so far, and where each first left the range."""

    def __init__(self, backend: OrtBackend, watched: Sequence[Watched]):
        self._backend = backend
        self._watched = watched
        self._largest = np.zeros(len(watched))
        self._first = np.full(len(watched), -1)
        backend.watch([value.probe for value in watched])

    def feed(self, start: int, ids: Sequence[int]) -> None:
        """Append a chunk, or begin afresh with it if a window begins with ``start``."""
        if start % self._backend.context_len == 0:
            self._backend.reset()
        values = self._values(ids)
        np.maximum(self._largest, values, out=self._largest)
        crossed = (values > FP16_MAX) & (self._first < 0)
        if crossed.any():
            self._first[crossed] = start + self._locate(ids)[crossed]

    def ranges(self, layers: dict[tuple[int, int], int]) -> Iterator[TensorRange]:
        """What was found, in the order of the graph."""
        for value, largest, first in zip(self._watched, self._largest, self._first, strict=True):
            place = _LAYER.match(value.node)
            layer = layers[int(place[1]), int(place[2])] if place else None
            max_abs = float(largest) if np.isfinite(largest) else None
            position = int(first) if first >= 0 else None
            yield TensorRange(value.tensor, value.node, value.operator, layer, max_abs, position)

    def _values(self, ids: Sequence[int]) -> np.ndarray:
        """Largest absolute value of each watched tensor in this call."""
        self._backend.prefill(ids, all_logits=True)
        return np.array(self._backend.watched(len(self._watched)))

    def _locate(self, ids: Sequence[int]) -> np.ndarray:
        """Feed the chunk again, token by token: the index at which each value first is too large.

        Sums come out in another order then, so one that only just did not fit may now; the place of
        its largest value is taken instead.
        """
        self._backend.position -= len(ids)
        rows = np.stack([self._values([token]) for token in ids])
        over = rows > FP16_MAX
        return np.where(over.any(axis=0), over, rows == rows.max(axis=0)).argmax(axis=0)


def _token_ids(bundle: Bundle, text: str | Sequence[int]) -> Sequence[int]:
    if isinstance(text, str):
        text = Tokenizer.from_file(bundle.file("tokenizer")).encode(text)
    if not len(text):
        raise UsageError("the text is empty.", hint="give a text of a few thousand words.")
    return text


def _chunks(bundle: Bundle, ids: Sequence[int]) -> Iterator[tuple[int, Sequence[int]]]:
    """(index of the first token, tokens): no chunk reaches across the end of a window."""
    context_len = bundle.manifest.kv_cache.context_len
    for window in range(0, len(ids), context_len):
        end = min(window + context_len, len(ids))
        for start in range(window, end, DEFAULT_CHUNK):
            yield start, ids[start : min(start + DEFAULT_CHUNK, end)]


def _layers(bundle: Bundle) -> dict[tuple[int, int], int]:
    """(block, application) -> which layer of the decoder."""
    places = bundle.manifest.architecture.layers()
    return {(index, application): i for i, (index, application, _) in enumerate(places)}
