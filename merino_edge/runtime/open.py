"""A bundle's path to a session: which backend runs it, and why.

The one idea: "auto" takes the best backend that works here and says in one line which and why;
a backend asked for by name is that one or an error, never silently another. A backend is imported
when it is chosen, so opening a bundle loads no library that it does not use.
"""

import time
from typing import Callable, List, Optional

from merino_edge.errors import (
    CudaError,
    DeviceMemoryError,
    FormatError,
    MissingDependencyError,
    UsageError,
)
from merino_edge.formats.bundle import Bundle, optional_file
from merino_edge.runtime.backend import Backend
from merino_edge.runtime.session import GenerationSession
from merino_edge.runtime.tokenizer import Tokenizer

BACKENDS = ("auto", "tensorrt", "tensorrt-rtx", "native", "ort", "reference")
Note = Callable[[str], None]
NOTE_EVERY_S = 5.0


def load(
    path: str,
    backend: str = "auto",
    threads: Optional[int] = None,
    on_note: Optional[Note] = None,
) -> GenerationSession:
    """Open a bundle, ready to generate.

    Args:
        path: The bundle's folder.
        backend: One of ``BACKENDS``. TensorRT builds its engine if it was never built here, which
            takes minutes on a board.
        threads: CPU threads; None for all cores.
        on_note: Called with one line about each choice that was made.

    Raises:
        FormatError: Not a bundle, or its tokenizer and weights do not belong together.
        MissingDependencyError: The backend that was asked for is not installed.
        EngineError: The engine that was built does not fit this machine any more.
        DeviceMemoryError: It does not fit.
        UsageError: There is no such backend.
    """
    bundle = Bundle.open(path)
    note = on_note or _silent
    tokenizer = _open_tokenizer(bundle, note)
    try:
        opened = _open_backend(bundle, backend, threads, note)
    except MemoryError:
        raise _no_memory(bundle)
    return GenerationSession(opened, tokenizer, bundle.manifest)


def _open_backend(bundle: Bundle, name: str, threads: Optional[int], note: Note) -> Backend:
    if name not in BACKENDS:
        raise UsageError("there is no backend '{}'; choose {}.".format(name, ", ".join(BACKENDS)))
    if name == "auto":
        return _best(bundle, threads, note)
    if name == "native":
        return _native(bundle, threads)
    if name == "ort":
        return _ort(bundle, threads)
    if name == "reference":
        return _reference(bundle, threads, note)
    return _engine(bundle, name, note)


def _best(bundle: Bundle, threads: Optional[int], note: Note) -> Backend:
    """The first that works, of those the bundle is for."""
    openers: List[Callable[[], Backend]] = []
    if bundle.manifest.engine is not None:
        openers.append(lambda: _engine(bundle, None, note))
    if optional_file(bundle, "native") is not None:
        openers.append(lambda: _native(bundle, threads))
    if optional_file(bundle, "onnx") is not None:
        openers.append(lambda: _ort(bundle, threads))
    missed = []  # type: List[str]
    for opener in openers:
        try:
            opened = opener()
        except (MissingDependencyError, CudaError) as error:
            missed.append(error.message + (" hint: " + error.hint if error.hint else ""))
            continue
        chosen = "backend {}: {}.".format(opened.name, opened.description)
        note(" not the fastest backend: ".join([chosen] + missed))
        return opened
    note("backend reference (slow): " + " ".join(missed or ["the bundle holds no ONNX graph."]))
    return _reference(bundle, threads, note)


def _engine(bundle: Bundle, name: Optional[str], note: Note) -> Backend:
    from merino_edge.runtime.engine.workshop import engine_kind
    from merino_edge.runtime.make_engine import open_backend

    kind = engine_kind(bundle)
    if name not in (None, kind):
        raise UsageError(
            "a bundle for '{}' runs on {}, not on {}.".format(bundle.manifest.target, kind, name)
        )
    return open_backend(bundle, note, _every(NOTE_EVERY_S, note))


def _native(bundle: Bundle, threads: Optional[int]) -> Backend:
    from merino_edge.runtime.backends.native import NativeBackend

    return NativeBackend(bundle, threads)


def _ort(bundle: Bundle, threads: Optional[int]) -> Backend:
    from merino_edge.runtime.backends.ort import OrtBackend

    return OrtBackend(bundle, threads=threads)


def _reference(bundle: Bundle, threads: Optional[int], note: Note) -> Backend:
    from merino_edge.runtime.backends.reference import ReferenceBackend

    if threads is not None:
        note("the reference backend cannot limit numpy's threads; set OMP_NUM_THREADS instead.")
    return ReferenceBackend(bundle)


def _open_tokenizer(bundle: Bundle, note: Note) -> Optional[Tokenizer]:
    path = optional_file(bundle, "tokenizer")
    if path is None:
        note("the bundle holds no tokenizer: token ids only.")
        return None
    try:
        tokenizer = Tokenizer.from_file(path)
    except MissingDependencyError as error:
        note("token ids only: {}".format(error.message))
        return None
    vocab_size = bundle.manifest.architecture.vocab_size
    if tokenizer.vocab_size > vocab_size:
        raise FormatError(
            "the tokenizer has {} tokens, the weights only {}.".format(
                tokenizer.vocab_size, vocab_size
            ),
            path,
            hint="tokenizer and weights are of two models; build the bundle again.",
        )
    return tokenizer


def _no_memory(bundle: Bundle) -> DeviceMemoryError:
    from merino_edge.runtime.device_info import meminfo_bytes

    needed_bytes = bundle.size_bytes + bundle.manifest.session_cache.total_bytes
    return DeviceMemoryError(
        "'{}' does not fit: its files and its cache take more than there is.".format(bundle.path),
        needed_bytes,
        meminfo_bytes("/").get("MemAvailable", 0),
        hint="build the bundle with a shorter --context.",
    )


def _every(seconds: float, note: Note) -> Note:
    """The same, but not more often."""
    last = [float("-inf")]

    def rarely(text: str) -> None:
        if time.monotonic() - last[0] >= seconds:
            last[0] = time.monotonic()
            note(text)

    return rarely


def _silent(text: str) -> None:
    pass
