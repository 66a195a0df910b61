"""From weights, or an architecture that has none yet, to a bundle for a named target."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from merino_edge.core import targets
from merino_edge.errors import FormatError, UnsupportedError, UsageError
from merino_edge.export.bundler import Source, build_bundle
from merino_edge.export.parity import Parity
from merino_edge.export.recipe import RECIPES, Recipe, in_precision
from merino_edge.formats.architecture import Architecture, read_architecture
from merino_edge.formats.bundle import Bundle
from merino_edge.model.checkpoint import INFO, load_checkpoint

DEFAULT_CONTEXT_LEN = 512

Progress = Callable[[str], None]


def open_source(path: str, random_weights: bool, seed: int) -> Source:
    """Weights from a checkpoint folder, or random ones for an architecture file.

    Raises:
        UsageError: Weights are asked for that the path does not have, or the other way round.
        FormatError: What is there is damaged.
    """
    if os.path.isfile(path) and not random_weights:
        raise UsageError(
            f"'{path}' describes an architecture; there are no weights in it.",
            hint="train it (merino-edge train), or add --random-weights to measure its speed.",
        )
    if os.path.isdir(path) and random_weights:
        path = os.path.join(path, INFO)
    if random_weights:
        return Source.random(read_architecture(path), seed)
    if not os.path.exists(path):
        raise FormatError("the checkpoint does not exist.", path)
    return Source.from_checkpoint(load_checkpoint(path))


@dataclass(frozen=True)
class BuildOptions:
    """What a bundle may have otherwise than its target's recipe says; None for the recipe.

    Attributes:
        context_len: Tokens that the cache holds.
        precision: "fp16", "fp32", "int8", "int4" or "int4-all".
        n_best: Largest logits that an engine gives as outputs of their own.
    """

    context_len: int | None = None
    precision: str | None = None
    n_best: int = 0


def build_for_target(
    source: Source,
    target: str,
    output: str,
    options: BuildOptions | None = None,
    force: bool = False,
    on_progress: Progress = lambda text: None,
) -> tuple[Bundle, Parity]:
    """Build for a named target, with its context if none is asked for.

    Raises:
        UsageError: There is no such target.
        UnsupportedError: The target needs what this version does not make.
    """
    targets.get(target)
    options = options or BuildOptions()
    recipe = _recipe(target, options)
    length = options.context_len or default_context_len(source.architecture)
    return build_bundle(source, target, length, output, force, on_progress, recipe)


def _recipe(target: str, options: BuildOptions) -> Recipe:
    if target not in RECIPES:
        raise UnsupportedError(
            f"bundles for '{target}' cannot be built by this version.",
            note=f"it makes bundles for {', '.join(RECIPES)}.",
            hint="merino-edge build --target host CHECKPOINT -o bundle/",
        )
    recipe = RECIPES[target]
    if not recipe.chunk_len and options.n_best:
        raise UnsupportedError(
            f"target '{target}' has all logits only.",
            hint="--best is for nano, orin-nano and rtx.",
        )
    recipe = in_precision(recipe, options.precision or recipe.precision)
    return replace(recipe, n_best=options.n_best)


def default_context_len(a: Architecture) -> int:
    """The model's own length, at most 512: a cache is paid for in full, so the cap is low."""
    return min(a.max_seq_len, DEFAULT_CONTEXT_LEN)
