"""A whole run: search, train, export, each skipped when its inputs have not changed.

The results stand in one folder: ``arch.json``, ``checkpoint-*/``, ``bundle/``. Training can be
interrupted and goes on where it stopped. The stages know nothing of one another: they meet here.
"""

import os
from collections.abc import Callable
from dataclasses import fields

from merino_edge.core import space as spaces
from merino_edge.core import targets
from merino_edge.core.space import SearchSpace
from merino_edge.errors import SpecError
from merino_edge.export.bundler import Source
from merino_edge.formats.architecture import Architecture, describe, read_architecture
from merino_edge.formats.bundle import Bundle, sha256_of
from merino_edge.model.checkpoint import Checkpoint
from merino_edge.pipeline.build import BuildOptions, build_for_target, default_context_len
from merino_edge.pipeline.run_config import RunConfig
from merino_edge.pipeline.workspace import Workspace, digest
from merino_edge.search.run import Progress, run_search
from merino_edge.training.config import TrainConfig
from merino_edge.training.corpus import summarise
from merino_edge.training.trainer import train

ARCHITECTURE, BUNDLE = "arch.json", "bundle"
DEFAULT_STEPS = 1000

Say = Callable[[str], None]


def open_space(name_or_path: str) -> SearchSpace:
    """A preset, or a space from a JSON or TOML file."""
    if name_or_path in spaces.PRESETS or not os.path.exists(name_or_path):
        return spaces.get(name_or_path)
    return spaces.from_file(name_or_path)


def run_pipeline(config: RunConfig, base: str, on_note: Say, on_progress: Say) -> Bundle:
    """Search, train and export as a run file says.

    Args:
        config: The run.
        base: Folder that relative paths start from.
        on_note: Told what begins, ends or is skipped: lines to keep.
        on_progress: Told what goes on: lines to overwrite.

    Raises:
        MerinoError: What the stages raise.
    """
    workspace = Workspace(os.path.normpath(os.path.join(base, config.output)), on_note)
    architecture = _search(workspace, config, on_note, on_progress)
    checkpoint = _train(workspace, config, architecture, base, on_progress)
    _export(workspace, config, checkpoint, on_progress)
    return Bundle.open(workspace.path(BUNDLE))


def _search(
    workspace: Workspace, config: RunConfig, on_note: Say, on_progress: Say
) -> Architecture:
    target = targets.get(config.target)
    space = open_space(config.space or target.default_space)
    budget = target.default_budget if config.budget.is_unlimited else config.budget
    result_path = workspace.path(ARCHITECTURE)

    def make() -> None:
        def report(progress: Progress) -> None:
            on_progress(f"search: {progress}")

        run_search(space, budget, config.search, target, report).save(result_path)

    inputs = {"space": space, "budget": budget, "search": config.search, "target": target.name}
    workspace.stage("search", ARCHITECTURE, inputs, make)
    architecture = read_architecture(result_path)
    on_note(f"architecture: {describe(architecture)}")
    return architecture


def _train(
    workspace: Workspace,
    config: RunConfig,
    architecture: Architecture,
    base: str,
    on_progress: Say,
) -> Checkpoint:
    """Training keeps its own books: it knows a finished run, and continues an interrupted one.

    The checkpoint is named for what decides it, so a changed setting or text trains beside the
    earlier result and never over it.
    """
    corpus = [os.path.join(base, path) for path in config.corpus]  # absolute ones stay
    settings = _train_config(config, architecture)
    inputs = [architecture, settings.bound_fields(), summarise(corpus).sha256]
    return train(
        architecture,
        corpus,
        settings,
        workspace.path(f"checkpoint-{digest(inputs)[:8]}"),
        on_progress=lambda moment: on_progress(f"train: {moment}"),
    )


def _train_config(config: RunConfig, architecture: Architecture) -> TrainConfig:
    """Refuse a misspelt setting by name, as the other tables do."""
    settings = {"n_steps": DEFAULT_STEPS, **(config.train or {})}
    known = {field.name for field in fields(TrainConfig)}
    for name in settings:
        if name not in known:
            raise SpecError(f"train.{name}: there is no such setting.")
    return TrainConfig.for_model(architecture, **settings)


def _export(
    workspace: Workspace, config: RunConfig, checkpoint: Checkpoint, on_progress: Say
) -> None:
    architecture = checkpoint.architecture
    context_len = config.context_len or default_context_len(architecture)
    inputs = {
        "weights": sha256_of(checkpoint.weights_path),
        "tokenizer": sha256_of(checkpoint.tokenizer_path),
        "target": config.target,
        "context_len": context_len,
    }

    def make() -> None:
        source = Source.from_checkpoint(checkpoint, name=f"merino-{architecture.arch_id}")
        output = workspace.path(BUNDLE)
        options = BuildOptions(context_len=context_len)
        build_for_target(source, config.target, output, options, True, on_progress)

    workspace.stage("export", BUNDLE, inputs, make)
