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
from typing import NamedTuple

from merino_edge.formats.architecture import Architecture
from merino_edge.formats.bundle import refuse_existing
from merino_edge.formats.manifest import GenerationDefaults
from merino_edge.model.checkpoint import (
    INFO,
    Checkpoint,
    CheckpointInfo,
    load_checkpoint,
    save_checkpoint,
)
from merino_edge.model.transformer import load_model, new_model
from merino_edge.training.arrays import weights_of
from merino_edge.training.config import TrainConfig
from merino_edge.training.data import Batches
from merino_edge.training.evaluate import evaluate
from merino_edge.training.loop import OpenLog, TrainingLoop
from merino_edge.training.machine import Machine, torch_threads
from merino_edge.training.material import Source, open_material, refuse_short, source_of
from merino_edge.training.metrics_log import Log
from merino_edge.training.progress import OnProgress, TrainProgress
from merino_edge.training.run_folder import Best, RunFolder, RunIdentity
from merino_edge.training.step import Stepper
from merino_edge.training.teacher import Teacher
from merino_edge.training.tensorboard_log import TensorBoardLog
from merino_edge.training.tokenizer import read_tokenizer
from merino_edge.training.world import World, lost_process_named, world_of

RUN_ID = "run_id"  # in the checkpoint's provenance


class Extras(NamedTuple):
    """What few runs need.

    Attributes:
        data: A folder of tokens instead of texts.
        teacher: A checkpoint whose logits are learnt from, too.
        tensorboard: A folder for TensorBoard's event files.
    """

    data: str | None = None
    teacher: str | None = None
    tensorboard: str | None = None


NO_EXTRAS = Extras()


def train(
    architecture: Architecture,
    corpus_paths: Sequence[str],
    config: TrainConfig,
    output: str,
    tokenizer_path: str | None = None,
    on_progress: OnProgress = lambda progress: None,
    resume: bool = True,
    force: bool = False,
    extras: Extras = NO_EXTRAS,
) -> Checkpoint:
    """Train and write a checkpoint; does nothing if ``output`` is that checkpoint already.

    Args:
        architecture: The decoder.
        corpus_paths: Files, folders or patterns of text; empty with ``extras.data``.
        config: How to train.
        output: The checkpoint's folder; the run's own folder is ``<output>.run`` beside it.
        tokenizer_path: A tokenizer.json, or None for the teacher's, or to train one.
        on_progress: Told what goes on.
        resume: Continue an interrupted run of the same kind; start one where there is none. False
            refuses to touch an unfinished run.
        force: Start again, and replace what stands at ``output``.
        extras: Tokens, a teacher, TensorBoard.

    Returns:
        The checkpoint with the weights of the best validation.

    Under torchrun every process calls this, with the same arguments and the same disk.

    Raises:
        UsageError: Something else stands at ``output``, or an unfinished run that is not this one.
        SpecError: Settings, architecture, tokenizer and corpus do not fit each other.
        FormatError: A text is not UTF-8, a file is damaged, the corpus is empty.
        StoppedError: Someone asked to stop; ``resume`` continues.
        MerinoError: The loss is not a number any more, or another process of the run is gone.
        OSError: The disk is full.
    """
    config.check_against(architecture)
    machine = Machine(config)
    with world_of(machine.device) as world, lost_process_named():
        job = _Job(architecture, corpus_paths, config, tokenizer_path, on_progress, extras)
        folder = RunFolder(os.path.normpath(output) + ".run")
        if not world.agree(lambda: job.begin(folder, output, resume, force)):
            return load_checkpoint(output)
        best = job.train(folder, machine, world)
        return world.first(
            lambda: job.finish(best, folder, output, force), lambda: load_checkpoint(output)
        )


def _is_up_to_date(output: str, identity: RunIdentity) -> bool:
    if not os.path.isfile(os.path.join(output, INFO)):
        return False
    return load_checkpoint(output).info.provenance.get(RUN_ID) == identity.run_id


class _Job:
    """The steps of one run, and what they share."""

    _source: Source
    _identity: RunIdentity

    def __init__(
        self,
        architecture: Architecture,
        corpus_paths: Sequence[str],
        config: TrainConfig,
        tokenizer_path: str | None,
        on_progress: OnProgress,
        extras: Extras,
    ):
        self._architecture, self._config = architecture, config
        self._corpus_paths, self._extras = corpus_paths, extras
        self._on_progress = on_progress
        self._teacher = Teacher(extras.teacher) if extras.teacher else None
        if self._teacher and not extras.data:
            tokenizer_path = tokenizer_path or self._teacher.tokenizer_path
        self._tokenizer_path = tokenizer_path

    def begin(self, folder: RunFolder, output: str, resume: bool, force: bool) -> bool:
        """Settle which run this is and make its tokens; False if its result is there already."""
        self._on_progress(TrainProgress("corpus"))
        a, config, path = self._architecture, self._config, self._tokenizer_path
        given = read_tokenizer(path, a.vocab_size) if path else None
        source = source_of(a, config, self._corpus_paths, self._extras.data, given)
        teacher = self._teacher.sha256 if self._teacher else ""
        self._identity = RunIdentity(
            a, config.bound_fields(), source.corpus_sha256, source.tokenizer_id, teacher
        )
        self._source = source
        if not force and _is_up_to_date(output, self._identity):
            self._on_progress(TrainProgress("up to date"))
            return False
        refuse_existing(output, INFO, force)
        RunFolder.begin(folder.path, self._identity, resume, force)
        source.make(folder, self._on_progress)
        return True

    def train(self, folder: RunFolder, machine: Machine, world: World) -> Best:
        """Train to the last step, in every process."""
        a, config = self._architecture, self._config
        material = self._material = open_material(folder, self._extras.data)
        refuse_short(material.data, config.seq_len)
        if self._teacher:
            self._teacher.check_against(material.tokenizer_json, a.vocab_size, config)
            self._teacher.to(machine.device)
        train = material.data.train
        batches = Batches(train, config.windows_per_step, config.seq_len, config.seed)
        stepper = Stepper(new_model(a, config.seed), config, machine, world, self._teacher)
        loop = TrainingLoop(
            stepper,
            batches,
            material.data.val,
            config,
            folder,
            world,
            self._on_progress,
            self._more_logs(),
        )
        return loop.run()

    def _more_logs(self) -> list[OpenLog]:
        path = self._extras.tensorboard

        def events(last_step: int) -> Log:
            return TensorBoardLog(path or "", last_step)

        return [events] if path else []

    def finish(self, best: Best, folder: RunFolder, output: str, force: bool) -> Checkpoint:
        """Measure the best weights on all of the held-out text and write the checkpoint."""
        self._on_progress(TrainProgress("evaluate"))
        config, data = self._config, self._material.data
        model = load_model(self._architecture, folder.arrays(best.weights))
        with torch_threads(config.threads):
            found = evaluate(model, data.val, config.seq_len)
        info = CheckpointInfo(
            architecture=self._architecture,
            step=best.step,
            metrics={
                "val_loss": found.loss,
                "val_perplexity": found.perplexity,
                "val_bits_per_byte": found.bits_per_byte(data.val_tokens_per_byte),
                "val_tokens": float(found.n_tokens),
                "tokens_seen": float(best.step * config.tokens_per_step),
            },
            generation=GenerationDefaults(eos_token_ids=[self._material.end_of_text]),
            provenance=self._provenance(),
        )
        tokenizer_json = self._material.tokenizer_json
        checkpoint = save_checkpoint(output, info, weights_of(model), tokenizer_json, force)
        folder.finish()
        return checkpoint

    def _provenance(self) -> dict[str, str]:
        config = self._config
        facts = {
            RUN_ID: self._identity.run_id,
            **self._source.provenance(),
            "train_tokens": str(len(self._material.data.train)),
            "n_steps": str(config.n_steps),
            "batch_size": str(config.batch_size),
            "seq_len": str(config.seq_len),
            "seed": str(config.seed),
        }
        if config.accumulate > 1:
            facts["accumulate"] = str(config.accumulate)
        if self._teacher:
            facts["teacher_sha256"] = self._teacher.sha256
        return facts
