"""Our own session on a bundle, on the backend that is asked for."""

from collections.abc import Sequence

from adapters import seam
from merino_edge.runtime.open import load


class Runtime(seam.Runtime):
    """A bundle on ``native`` or ``ort``.

    Args:
        path: The bundle.
        threads: CPU threads.
        backend: Its name.
    """

    def __init__(self, path: str, threads: int, backend: str):
        self._session = load(path, backend, threads)
        self._backend = self._session.backend
        best = self._backend.n_best
        self._choose = self._choose_inside if best else self._choose_outside

    def prefill(self, ids: Sequence[int]) -> int:
        """As the session does it."""
        return int(self._backend.prefill(ids).argmax())

    def decode(self, token_id: int) -> int:
        """One step."""
        return self._choose(token_id)

    def reset(self) -> None:
        """At once: the cache stays where it is."""
        self._backend.reset()

    def describe(self) -> str:
        """The backend's own line."""
        return self._backend.description

    def _choose_inside(self, token_id: int) -> int:
        return int(self._backend.decode_best(token_id)[0][0])

    def _choose_outside(self, token_id: int) -> int:
        return int(self._backend.decode(token_id).argmax())
