"""A checkpoint or a bundle, opened for evaluation: what scores, its tokenizer, what it is.

The one idea: a checkpoint is computed by torch, a bundle by a session on the backend that it is
deployed with; behind the ``Scorer`` they are the same, so a figure of one is a figure of the other
if and only if they agree.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

from merino_edge.core.counting import n_params
from merino_edge.errors import FormatError, MissingDependencyError, SpecError, UsageError
from merino_edge.formats.architecture import describe
from merino_edge.formats.bundle import MANIFEST, Bundle, sha256_of
from merino_edge.formats.manifest import GenerationDefaults
from merino_edge.pipeline.evaluation.requests import Scorer
from merino_edge.pipeline.evaluation.results import ModelFacts
from merino_edge.runtime.tokenizer import Tokenizer

TORCH = "torch"
MOST_CONTEXT = 2048  # of a checkpoint, unless more is asked for: longer ones only cost memory
Note = Callable[[str], None]


@dataclass
class ScoredModel:
    """What evaluation needs of a model.

    Attributes:
        scorer: Answers requests.
        tokenizer: Text to ids and back.
        generation: First and last tokens.
        facts: For the report.
        close: Frees it.
    """

    scorer: Scorer
    tokenizer: Tokenizer
    generation: GenerationDefaults
    facts: ModelFacts
    close: Callable[[], None]

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, with the model's first token before it if it wants one."""
        ids = self.tokenizer.encode(text)
        bos = self.generation.bos_token_id
        return ids if bos is None or ids[:1] == [bos] else [bos, *ids]

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has nothing before it: the first token, or an end token.

        Raises:
            SpecError: The model names neither.
        """
        ends = self.generation.eos_token_ids
        if self.generation.bos_token_id is not None:
            return self.generation.bos_token_id
        if ends:
            return ends[0]
        raise SpecError(
            f"'{self.facts.name}' names no token to begin a text with, neither bos_token_id nor "
            "eos_token_ids.",
            note="a text's first token is predicted from such a token.",
            hint='name one under "generation" in the model\'s checkpoint.json or manifest.json.',
        )


def open_model(
    path: str,
    backend: str = "auto",
    threads: int | None = None,
    context_len: int | None = None,
    batch_tokens: int | None = None,
    on_note: Note = lambda text: None,
) -> ScoredModel:
    """Open what lies at ``path``.

    Args:
        path: A checkpoint's or a bundle's folder.
        backend: "torch" for a checkpoint, one of ``runtime.open.BACKENDS`` for a bundle; "auto".
        threads: CPU threads; None for all.
        context_len: Tokens to read at once; None for the bundle's, or the checkpoint's up to 2048.
        batch_tokens: Tokens that torch computes together.
        on_note: Told of choices that were made.

    Raises:
        UsageError: A backend that does not go with it, or a context that it does not have.
        FormatError: It is neither, or damaged.
    """
    if os.path.isfile(os.path.join(path, MANIFEST)):
        return _open_bundle(path, backend, threads, context_len, on_note)
    if not os.path.isfile(os.path.join(path, "checkpoint.json")):
        raise FormatError("neither a checkpoint nor a bundle.", path)
    return _open_checkpoint(path, backend, threads, context_len, batch_tokens)


def _open_checkpoint(
    path: str,
    backend: str,
    threads: int | None,
    context_len: int | None,
    batch_tokens: int | None,
) -> ScoredModel:
    if backend not in ("auto", TORCH):
        raise UsageError(
            f"a checkpoint is computed by torch, not by {backend}.",
            hint=f"merino-edge build --target host {path} -o bundle/, and evaluate the bundle.",
        )
    _prepare_torch(threads)
    from merino_edge.model.checkpoint import load_checkpoint
    from merino_edge.model.transformer import load_model
    from merino_edge.pipeline.evaluation.torch_scorer import BATCH_TOKENS, TorchScorer

    checkpoint = load_checkpoint(path)
    a = checkpoint.architecture
    length = _context(context_len, a.max_seq_len, min(a.max_seq_len, MOST_CONTEXT))
    model = load_model(a, checkpoint.tensors())
    scorer = TorchScorer(model, length, batch_tokens or BATCH_TOKENS)
    facts = ModelFacts(
        name=_name(path),
        kind="checkpoint",
        id=sha256_of(checkpoint.weights_path),
        architecture=describe(a),
        n_params=n_params(a),
        precision="fp32",
        computed_by=scorer.description,
        context_len=length,
        tokenizer_sha256=sha256_of(checkpoint.tokenizer_path),
    )
    tokenizer = Tokenizer.from_file(checkpoint.tokenizer_path)
    return ScoredModel(scorer, tokenizer, checkpoint.info.generation, facts, lambda: None)


def _prepare_torch(threads: int | None) -> None:
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError(
            "torch", "scoring a checkpoint", "pip install 'merino-edge[host]'"
        ) from error
    if threads is not None:
        torch.set_num_threads(threads)


def _open_bundle(
    path: str, backend: str, threads: int | None, context_len: int | None, on_note: Note
) -> ScoredModel:
    from merino_edge.pipeline.evaluation.session_scorer import SessionScorer
    from merino_edge.runtime.open import load

    if backend == TORCH:
        raise UsageError(
            "a bundle is computed by its backend, not by torch.",
            hint="evaluate the checkpoint that it was built from.",
        )
    bundle = Bundle.open(path)
    tokenizer_path = bundle.file("tokenizer")
    session = load(path, backend, threads, on_note)
    a = bundle.manifest.architecture
    length = _context(context_len, session.context_len, session.context_len)
    scorer = SessionScorer(session, length)
    facts = ModelFacts(
        name=_name(path),
        kind="bundle",
        id=bundle.bundle_id,
        architecture=describe(a),
        n_params=n_params(a),
        precision=bundle.manifest.precision,
        computed_by=scorer.description,
        context_len=length,
        tokenizer_sha256=bundle.manifest.files[os.path.relpath(tokenizer_path, path)].sha256,
    )
    tokenizer = session.tokenizer or Tokenizer.from_file(tokenizer_path)
    return ScoredModel(scorer, tokenizer, bundle.manifest.generation, facts, session.close)


def _context(asked: int | None, most: int, default: int) -> int:
    if asked is not None and asked > most:
        raise UsageError(f"--context {asked} was asked for, the model reads {most} tokens.")
    return asked or default


def _name(path: str) -> str:
    return os.path.basename(os.path.abspath(path))
