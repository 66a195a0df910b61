"""Several sessions of one bundle, with the weights in memory once.

The one idea: the native decoder's model is a mapped file that any number of sessions may read, so a
further session costs its cache and no weights. Other backends load weights for each session, so
they get one: a board has no room for two.
"""

from typing import Any, Dict, List, Optional

from merino_edge.errors import UsageError
from merino_edge.formats.bundle import Bundle
from merino_edge.runtime.native_library import NativeLibrary
from merino_edge.runtime.open import Note, load
from merino_edge.runtime.session import GenerationSession

NATIVE_SESSIONS = 4


def open_sessions(
    path: str,
    n_sessions: Optional[int] = None,
    backend: str = "auto",
    threads: Optional[int] = None,
    on_note: Optional[Note] = None,
) -> List[GenerationSession]:
    """Open a bundle for several texts at a time.

    Args:
        path: The bundle's folder.
        n_sessions: How many; None for ``NATIVE_SESSIONS`` with the native backend, else one.
        backend: As for ``runtime.load``.
        threads: As there; each session has its own, which sleep while others have their turn.
        on_note: As there.

    Raises:
        UsageError: Several, with a backend that has no shared weights.
        MerinoError: As ``runtime.load``.
    """
    first = load(path, backend, threads, on_note)
    if first.backend.name != "native":
        if n_sessions not in (None, 1):
            first.close()
            raise UsageError(
                "{} sessions need the native backend, this is {}.".format(
                    n_sessions, first.backend.name
                ),
                hint="leave --sessions away, or build with: merino-edge build --precision int8",
            )
        return [first]
    first.close()
    return _native_sessions(path, n_sessions or NATIVE_SESSIONS, threads, first)


def _native_sessions(
    path: str, n_sessions: int, threads: Optional[int], like: GenerationSession
) -> List[GenerationSession]:
    from merino_edge.runtime.backends.native import NativeBackend

    bundle, library = Bundle.open(path), SharingLibrary()
    sessions: List[GenerationSession] = []
    try:
        for _ in range(n_sessions):
            backend = NativeBackend(bundle, threads, library)
            sessions.append(GenerationSession(backend, like.tokenizer, like.manifest))
    except BaseException:
        for session in sessions:
            session.close()
        raise
    return sessions


class SharingLibrary(NativeLibrary):
    """The native library, which maps a file once however many sessions open it.

    A file that is opened again while it is open is the same model; it is let go with the last.
    """

    def __init__(self, path: Optional[str] = None):
        super().__init__(path)
        self._models: Dict[str, Any] = {}
        self._n_users: Dict[int, int] = {}
        self._close_model = self.call.me_close
        self.call.me_close = self._leave  # of this handle of the library only

    def open_model(self, path: str) -> Any:
        """As the library's, or the one that is open."""
        if path not in self._models:
            self._models[path] = super().open_model(path)
        model = self._models[path]
        self._n_users[model.value] = self._n_users.get(model.value, 0) + 1
        return model

    def _leave(self, model: Any) -> None:
        self._n_users[model.value] -= 1
        if not self._n_users[model.value]:
            self._models = {k: m for k, m in self._models.items() if m.value != model.value}
            self._close_model(model)
