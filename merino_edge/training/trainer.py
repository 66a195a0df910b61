"""``train(...)``: from an architecture and texts to a checkpoint, in one call that can be repeated.

The one idea: a run is named by what decides its outcome (architecture, settings, texts,
tokenizer). The name is written into the checkpoint, so the same call again finds that it is up to
date; and into the run's folder ``<output>.run``, so an interrupted one continues and never mixes
with another.

A given text is split once, each document's end held out. Without a tokenizer a byte-level BPE is
trained on the *training* side too (the held-out text takes no part), to exactly the
architecture's vocabulary.
"""

import os
from collections.abc import Sequence

from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.bundle import refuse_existing
from merino_edge.formats.manifest import GenerationDefaults
from merino_edge.model.checkpoint import (
    INFO,
    TOKENIZER,
    Checkpoint,
    CheckpointInfo,
    load_checkpoint,
    read_text,
    save_checkpoint,
)
from merino_edge.model.transformer import load_model
from merino_edge.training import tokenizer as tok
from merino_edge.training.config import TrainConfig
from merino_edge.training.corpus import CorpusSummary, read_documents, summarise
from merino_edge.training.data import Batches
from merino_edge.training.evaluate import evaluate
from merino_edge.training.loop import (
    TrainingLoop,
    torch_threads,
    weights_of,
)
from merino_edge.training.progress import OnProgress, TrainProgress
from merino_edge.training.run_folder import Best, RunFolder, RunIdentity
from merino_edge.training.shards import (
    MANIFEST,
    TokenData,
    open_tokens,
    sha256_of_text,
    split_document,
    write_tokens,
)

TOKENS = "tokens"
RUN_ID = "run_id"  # in the checkpoint's provenance


def train(
    architecture: Architecture,
    corpus_paths: Sequence[str],
    config: TrainConfig,
    output: str,
    tokenizer_path: str | None = None,
    on_progress: OnProgress = lambda progress: None,
    resume: bool = True,
    force: bool = False,
) -> Checkpoint:
    """Train and write a checkpoint; does nothing if ``output`` is that checkpoint already.

    Args:
        architecture: The decoder.
        corpus_paths: Files, folders or patterns of text.
        config: How to train.
        output: The checkpoint's folder; the run's own folder is ``<output>.run`` beside it.
        tokenizer_path: A tokenizer.json, or None to train one.
        on_progress: Told what goes on.
        resume: Continue an interrupted run of the same kind; start one where there is none. False
            refuses to touch an unfinished run.
        force: Start again, and replace what stands at ``output``.

    Returns:
        The checkpoint with the weights of the best validation.

    Raises:
        UsageError: Something else stands at ``output``, or an unfinished run that is not this one.
        SpecError: Settings, architecture, tokenizer and corpus do not fit each other.
        FormatError: A text is not UTF-8, a file is damaged, the corpus is empty.
        StoppedError: Someone asked to stop; ``resume`` continues.
        MerinoError: The loss is not a number any more.
        OSError: The disk is full.
    """
    config.check_against(architecture)
    on_progress(TrainProgress("corpus"))
    corpus = summarise(corpus_paths)
    given = tok.read_tokenizer(tokenizer_path, architecture.vocab_size) if tokenizer_path else None
    identity = RunIdentity(
        architecture,
        config.bound_fields(),
        corpus.sha256,
        sha256_of_text(given) if given else "bpe",
    )
    folder_path = os.path.normpath(output) + ".run"
    if not force and _is_up_to_date(output, identity):
        on_progress(TrainProgress("up to date"))
        return load_checkpoint(output)
    refuse_existing(output, INFO, force)
    folder = RunFolder.begin(folder_path, identity, resume, force)
    job = _Job(architecture, corpus_paths, corpus, config, folder, on_progress)
    checkpoint = job.finish(job.train(given), output, identity, force)
    folder.finish()
    return checkpoint


def _is_up_to_date(output: str, identity: RunIdentity) -> bool:
    if not os.path.isfile(os.path.join(output, INFO)):
        return False
    return load_checkpoint(output).info.provenance.get(RUN_ID) == identity.run_id


class _Job:
    """The steps of one run, and what they share."""

    def __init__(
        self,
        architecture: Architecture,
        corpus_paths: Sequence[str],
        corpus: CorpusSummary,
        config: TrainConfig,
        folder: RunFolder,
        on_progress: OnProgress,
    ):
        self.architecture, self.config, self.folder = architecture, config, folder
        self.corpus_paths, self.corpus = corpus_paths, corpus
        self.on_progress = on_progress

    def train(self, given_tokenizer: str | None) -> Best:
        """Prepare what is missing, then train."""
        self.tokenizer_json = self._tokenizer(given_tokenizer)
        self.tokenizer = tok.parse_tokenizer(self.tokenizer_json, self.folder.file(TOKENIZER))
        self.end_of_text = tok.end_of_text_id(self.tokenizer, self.folder.file(TOKENIZER))
        self.data = self._tokens()
        config = self.config
        batches = Batches(self.data.train, config.batch_size, config.seq_len, config.seed)
        loop = TrainingLoop(
            self.architecture, batches, self.data.val, config, self.folder, self.on_progress
        )
        return loop.run()

    def _tokenizer(self, given: str | None) -> str:
        path = self.folder.file(TOKENIZER)
        if os.path.isfile(path):
            return read_text(path)
        self.on_progress(TrainProgress("tokenizer"))
        text = given or tok.train_bpe(self._training_texts(), self.architecture.vocab_size)
        jsonio.write_bytes_atomic(path, text.encode("utf-8"))
        return text

    def _training_texts(self):
        for document in read_documents(self.corpus_paths):
            yield split_document(document, self.config.val_fraction)[0]

    def _tokens(self) -> TokenData:
        """The shards of this corpus and this tokenizer, made unless they are there."""
        path = self.folder.file(TOKENS)
        checksums = (self.corpus.sha256, sha256_of_text(self.tokenizer_json))
        if os.path.isfile(os.path.join(path, MANIFEST)):
            data = open_tokens(path)
            if (data.manifest.corpus_sha256, data.manifest.tokenizer_sha256) == checksums:
                return data
        return write_tokens(
            path,
            read_documents(self.corpus_paths),
            self.tokenizer,
            self.end_of_text,
            self.config.val_fraction,
            checksums,
            lambda n: self.on_progress(TrainProgress("tokens", n, self.corpus.n_documents)),
        )

    def finish(self, best: Best, output: str, identity: RunIdentity, force: bool) -> Checkpoint:
        """Measure the best weights on all of the held-out text and write the checkpoint."""
        self.on_progress(TrainProgress("evaluate"))
        model = load_model(self.architecture, self.folder.arrays(best.weights))
        with torch_threads(self.config.threads):
            found = evaluate(model, self.data.val, self.config.seq_len)
        tokens_seen = best.step * self.config.tokens_per_step
        info = CheckpointInfo(
            architecture=self.architecture,
            step=best.step,
            metrics={
                "val_loss": found.loss,
                "val_perplexity": found.perplexity,
                "val_bits_per_byte": found.bits_per_byte(self.data.val_tokens_per_byte),
                "val_tokens": float(found.n_tokens),
                "tokens_seen": float(tokens_seen),
            },
            generation=GenerationDefaults(eos_token_ids=[self.end_of_text]),
            provenance=self._provenance(identity),
        )
        return save_checkpoint(output, info, weights_of(model), self.tokenizer_json, force)

    def _provenance(self, identity: RunIdentity) -> dict[str, str]:
        return {
            RUN_ID: identity.run_id,
            "corpus_sha256": self.corpus.sha256,
            "corpus_documents": str(self.corpus.n_documents),
            "corpus_bytes": str(self.corpus.n_bytes),
            "train_tokens": str(len(self.data.train)),
            "n_steps": str(self.config.n_steps),
            "batch_size": str(self.config.batch_size),
            "seq_len": str(self.config.seq_len),
            "seed": str(self.config.seed),
        }
