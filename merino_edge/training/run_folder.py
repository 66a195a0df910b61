"""The folder of an unfinished run: what is needed to continue it, and nothing half-written.

The one idea: ``state.json`` is the commit. A state's arrays go to files named after their step,
then ``state.json`` is replaced in one move, then files that it does not name are removed.
Whatever happens in between (a full disk, a power cut), the last ``state.json`` and the files it
names are whole. Nothing is pickled.

::

    checkpoint.run/
      run.json                     what the run is: architecture, settings, corpus, tokenizer
      tokenizer.json, tokens/      made once
      metrics.jsonl                a line a step
      state.json                   step, and which files below belong to it
      weights-000200.safetensors   of the last step, and of the best one if that is another
      moments-000200.safetensors   of the optimiser

When the checkpoint stands, only run.json and metrics.jsonl are left.
"""

import os
import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from merino_edge.errors import FormatError, UsageError
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture
from merino_edge.formats.bundle import refuse_existing
from merino_edge.model.checkpoint import map_tensors, write_tensors

RUN_SCHEMA, RUN = "merino-edge.run/1", "run.json"
STATE_SCHEMA, STATE = "merino-edge.train-state/1", "state.json"
METRICS = "metrics.jsonl"


class _Identity(NamedTuple):
    architecture: Architecture
    config: dict[str, Any]
    corpus_sha256: str
    tokenizer: str
    teacher: str = ""


class RunIdentity(_Identity):
    """What decides where a run arrives.

    Attributes:
        architecture: The decoder.
        config: ``TrainConfig.bound_fields()``.
        corpus_sha256: Of the texts, in order.
        tokenizer: SHA-256 of the given file, or "bpe" if one is trained on the corpus.
        teacher: SHA-256 over the teacher's architecture and weights, "" without one.
    """

    __slots__ = ()
    LATER_FIELDS = ("teacher",)  # runs from before keep their run_id

    @property
    def run_id(self) -> str:
        """Twelve hexadecimal digits: SHA-256 over the canonical JSON."""
        return jsonio.digest(jsonio.encode(self))[:12]


class Best(NamedTuple):
    """The best validation so far, and its weights."""

    step: int
    val_loss: float
    weights: str


class Scaling(NamedTuple):
    """Where the scaling of a float16 loss stands (torch's GradScaler).

    Attributes:
        scale: Factor of the loss.
        growth_tracker: Good steps since it last changed.
        n_skipped: Steps so far whose gradients overflowed; the optimiser did not see them.
    """

    scale: float
    growth_tracker: int
    n_skipped: int


class RunState(NamedTuple):
    """What ``state.json`` holds.

    Attributes:
        step: Optimiser steps done.
        elapsed_s: Seconds of training so far, interruptions left out.
        weights, moments: Files of this step.
        best: None before the first validation.
        scaling: None unless the precision is float16.
    """

    step: int
    elapsed_s: float
    weights: str
    moments: str
    best: Best | None = None
    scaling: Scaling | None = None


class RunFolder:
    """A run's folder.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: str):
        self.path = path

    @classmethod
    def begin(cls, path: str, identity: RunIdentity, resume: bool, force: bool) -> "RunFolder":
        """Make the folder, or take up the one that is there.

        Raises:
            UsageError: A run is there and neither ``resume`` nor ``force`` was asked for, or it is
                another run; the first field that differs is named with both values.
        """
        folder = cls(path)
        refuse_existing(path, RUN, force=True)
        if force and not resume:
            shutil.rmtree(path, ignore_errors=True)
        if not os.path.isfile(folder.file(RUN)):
            os.makedirs(path, exist_ok=True)
            jsonio.write_record(folder.file(RUN), RUN_SCHEMA, identity)
            return folder
        state = folder.state()
        if state and not resume:
            raise UsageError(
                f"an unfinished run stands in '{path}', at step {state.step}.",
                hint="add --resume to continue it, or --force to start again.",
            )
        folder._settle_identity(identity, has_state=state is not None)
        return folder

    def _settle_identity(self, identity: RunIdentity, has_state: bool) -> None:
        """Same run: go on. Another, with nothing trained yet: make it this one. Else: refuse."""
        earlier = jsonio.read_record(self.file(RUN), RUN_SCHEMA, RunIdentity)
        difference = _first_difference(jsonio.encode(identity), jsonio.encode(earlier))
        if difference and has_state:
            name, now, then = difference
            raise UsageError(
                f"{name} is {now!r} now, the run in '{self.path}' was started with {then!r}.",
                hint="use the options it was started with, or --force to start again.",
            )
        if difference:
            shutil.rmtree(self.path)
            os.makedirs(self.path)
            jsonio.write_record(self.file(RUN), RUN_SCHEMA, identity)

    def file(self, name: str) -> str:
        """Path of a file in the folder."""
        return os.path.join(self.path, name)

    def state(self) -> RunState | None:
        """The last committed state, or None.

        Raises:
            FormatError: ``state.json`` is damaged, or a file that it names is missing.
        """
        if not os.path.isfile(self.file(STATE)):
            return None
        state = jsonio.read_record(self.file(STATE), STATE_SCHEMA, RunState)
        for name in _files_of(state):
            if os.path.basename(name) != name or not os.path.isfile(self.file(name)):
                raise FormatError("names a file that is not there.", self.file(STATE), name)
        return state

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of one file, mapped."""
        return map_tensors(self.file(name))

    def commit(
        self,
        step: int,
        elapsed_s: float,
        best: Best | None,
        weights: Mapping[str, np.ndarray],
        moments: Mapping[str, np.ndarray],
        scaling: Scaling | None = None,
    ) -> RunState:
        """Save a state; the earlier one stays until the new one is whole.

        Raises:
            OSError: The disk is full; the earlier state is untouched.
        """
        moments_name = f"moments-{step:06d}.safetensors"
        state = RunState(step, elapsed_s, weights_name(step), moments_name, best, scaling)
        try:
            for name, tensors in ((state.weights, weights), (state.moments, moments)):
                write_tensors(self.file(name), tensors)
            jsonio.write_record(self.file(STATE), STATE_SCHEMA, state)
        finally:
            self._remove_unnamed()
        return state

    def _remove_unnamed(self) -> None:
        state = self.state()
        named = _files_of(state) if state else []
        for name in os.listdir(self.path):
            if name.endswith(".safetensors") and name not in named:
                os.unlink(self.file(name))

    def finish(self) -> None:
        """Keep the record of the run and its metrics; remove what only a running one needs."""
        if not os.path.isdir(self.path):
            return
        for name in sorted(os.listdir(self.path), key=lambda name: name != STATE):
            if os.path.isdir(self.file(name)):
                shutil.rmtree(self.file(name))
            elif name not in (RUN, METRICS):
                os.unlink(self.file(name))


def weights_name(step: int) -> str:
    """File of a step's weights."""
    return f"weights-{step:06d}.safetensors"


def _files_of(state: RunState) -> list[str]:
    return [state.weights, state.moments] + ([state.best.weights] if state.best else [])


def _first_difference(now: Any, then: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """(field, value now, value then) of the first leaf that differs; None where it is not said."""
    if isinstance(now, dict) and isinstance(then, dict):
        for key in [*now, *(key for key in then if key not in now)]:
            inner = f"{name}.{key}" if name else key
            found = _first_difference(now.get(key), then.get(key), inner)
            if found:
                return found
        return None
    return None if now == then else (name.removeprefix("config."), now, then)
