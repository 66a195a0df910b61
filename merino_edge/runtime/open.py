"""A bundle's path to a session: which backend runs it, and why.

The one idea: "auto" takes the best backend that works here and says in one line which and why;
a backend asked for by name is that one or an error, never silently another. A backend is imported
when it is chosen, so opening a bundle loads no library that it does not use.
"""

from typing import Callable, Optional

from merino_edge.errors import FormatError, MissingDependencyError, UsageError
from merino_edge.formats.bundle import Bundle, optional_file
from merino_edge.runtime.backend import Backend
from merino_edge.runtime.session import GenerationSession
from merino_edge.runtime.tokenizer import Tokenizer

BACKENDS = ("auto", "ort", "reference")
Note = Callable[[str], None]


def load(
    path: str,
    backend: str = "auto",
    threads: Optional[int] = None,
    on_note: Optional[Note] = None,
) -> GenerationSession:
    """Open a bundle, ready to generate.

    Args:
        path: The bundle's folder.
        backend: "auto", "ort" or "reference".
        threads: CPU threads; None for all cores.
        on_note: Called with one line about each choice that was made.

    Raises:
        FormatError: Not a bundle, or its tokenizer and weights do not belong together.
        MissingDependencyError: The backend that was asked for is not installed.
        UsageError: There is no such backend.
    """
    bundle = Bundle.open(path)
    note = on_note or _silent
    tokenizer = _open_tokenizer(bundle, note)
    return GenerationSession(
        _open_backend(bundle, backend, threads, note), tokenizer, bundle.manifest
    )


def _open_backend(bundle: Bundle, name: str, threads: Optional[int], note: Note) -> Backend:
    if name not in BACKENDS:
        raise UsageError("there is no backend '{}'; choose {}.".format(name, ", ".join(BACKENDS)))
    if name == "ort":
        return _ort(bundle, threads)
    if name == "reference":
        return _reference(bundle, threads, note)
    if optional_file(bundle, "onnx") is None:
        note("backend reference (slow): the bundle holds no ONNX graph.")
        return _reference(bundle, threads, note)
    try:
        opened = _ort(bundle, threads)
    except MissingDependencyError as error:
        note("backend reference (slow): {} hint: {}".format(error.message, error.hint))
        return _reference(bundle, threads, note)
    note("backend ort: {}.".format(opened.description))
    return opened


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


def _silent(text: str) -> None:
    pass
