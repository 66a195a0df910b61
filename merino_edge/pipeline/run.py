"""A whole run: search, train, export, each skipped when its inputs have not changed.

The results stand in one folder: ``arch.json``, ``checkpoint/``, ``bundle/``. Training can be
interrupted and goes on where it stopped. The stages know nothing of one another: they meet here.
"""

import os
import sys

from merino_edge.core import space as spaces
from merino_edge.core import targets
from merino_edge.core.space import SearchSpace
from merino_edge.export.bundler import Source
from merino_edge.formats.architecture import Architecture, describe, read_architecture
from merino_edge.formats.bundle import Bundle, sha256_of
from merino_edge.model.checkpoint import load_checkpoint
from merino_edge.pipeline.build import Progress, build_for_target, default_context_len
from merino_edge.pipeline.run_config import RunConfig
from merino_edge.pipeline.workspace import Workspace
from merino_edge.search.run import run_search
from merino_edge.training.config import TrainConfig
from merino_edge.training.trainer import train


def open_space(name_or_path: str) -> SearchSpace:
    """A preset, or a space from a JSON file."""
    if name_or_path in spaces.PRESETS or not os.path.exists(name_or_path):
        return spaces.get(name_or_path)
    return spaces.from_json_file(name_or_path)


def run_pipeline(config: RunConfig, base: str, quiet: bool = False) -> Bundle:
    """Search, train and export as a run file says.

    Args:
        config: The run.
        base: Folder that relative paths start from.
        quiet: No progress on stderr.
    """
    workspace = Workspace(os.path.join(base, config.output), _notes(quiet))
    architecture = _search(workspace, config)
    _train(workspace, config, architecture, base, quiet)
    _export(workspace, config, architecture, quiet)
    return Bundle.open(workspace.path("bundle"))


def _search(workspace: Workspace, config: RunConfig) -> Architecture:
    target = targets.get(config.target)
    space = open_space(config.space or target.default_space)
    budget = target.default_budget if config.budget.is_unlimited else config.budget
    result_path = workspace.path("arch.json")

    def make() -> None:
        result = run_search(space, budget, config.search, target)
        result.save(result_path)

    inputs = {"space": space, "budget": budget, "search": config.search, "target": target.name}
    workspace.stage("search", "arch.json", inputs, make)
    architecture = read_architecture(result_path)
    _notes(False)(f"search: {describe(architecture)}")
    return architecture


def _train(
    workspace: Workspace, config: RunConfig, architecture: Architecture, base: str, quiet: bool
) -> None:
    train_config = TrainConfig.for_model(architecture, **config.train)
    corpus = [path if os.path.isabs(path) else os.path.join(base, path) for path in config.corpus]
    train(architecture, corpus, train_config, workspace.path("checkpoint"))


def _export(
    workspace: Workspace, config: RunConfig, architecture: Architecture, quiet: bool
) -> None:
    checkpoint = load_checkpoint(workspace.path("checkpoint"))
    inputs = {
        "weights": sha256_of(checkpoint.weights_path),
        "tokenizer": sha256_of(checkpoint.tokenizer_path),
        "target": config.target,
        "context_len": config.context_len or default_context_len(architecture),
    }

    def make() -> None:
        build_for_target(
            Source.from_checkpoint(checkpoint),
            config.target,
            config.context_len,
            workspace.path("bundle"),
            force=True,
        )

    workspace.stage("export", "bundle", inputs, make)


def _notes(quiet: bool) -> Progress:
    def note(text: str) -> None:
        if not quiet:
            sys.stderr.write(f"[run] {text}\n")

    return note
