"""``import_model(path, ...)``: which kind of source a path is, and then the common walk."""

import os

from merino_edge.errors import FormatError, UsageError
from merino_edge.model.importers.gguf import GGUFModel
from merino_edge.model.importers.hf_config import CONFIG
from merino_edge.model.importers.hf_tokenizer import read_tokenizer
from merino_edge.model.importers.huggingface import HuggingFaceModel
from merino_edge.model.importers.parts import Progress, silent
from merino_edge.model.importers.presets import PRESETS
from merino_edge.model.importers.random_weights import RandomModel
from merino_edge.model.importers.walk import ImportReport, Source, import_source


def import_model(
    path: str,
    output: str,
    force: bool = False,
    on_progress: Progress = silent,
    tokenizer: str | None = None,
    random_seed: int | None = None,
) -> ImportReport:
    """Turn a model of somebody else into a checkpoint folder, whole or not at all.

    Args:
        path: A GGUF file or a Hugging Face folder; with ``random_seed`` a configuration or the
            name of a preset.
        output: The folder to make.
        force: Replace an earlier checkpoint there.
        on_progress: Called with a few words before each step.
        tokenizer: A tokenizer.json to use in place of the model's own.
        random_seed: Take only the shape, and draw the weights from this seed.

    Raises:
        FormatError: The source is damaged, or its parts do not belong together.
        UnsupportedError: It is something that this version cannot turn into a checkpoint.
        UsageError: Something stands at ``output`` already, or ``path`` is nothing of the kind.
        OSError: The disk is full.
    """

    def opened() -> Source:
        given = read_tokenizer(tokenizer) if tokenizer else None
        if random_seed is not None:
            return RandomModel(path, random_seed, given)
        _refuse_other_things(path)
        return (HuggingFaceModel if os.path.isdir(path) else GGUFModel)(path, given)

    return import_source(opened, output, force, on_progress)


def _refuse_other_things(path: str) -> None:
    if os.path.isdir(path) and not os.path.isfile(os.path.join(path, CONFIG)):
        gguf = sorted(name for name in os.listdir(path) if name.endswith(".gguf"))
        raise FormatError(
            f"the folder has no {CONFIG}, so it is no Hugging Face folder.",
            path,
            hint=f"merino-edge import {os.path.join(path, gguf[0])} -o DIR" if gguf else None,
        )
    if not os.path.exists(path) and path.lower() in PRESETS:
        raise UsageError(
            f"'{path}' is a preset: a shape without weights.",
            hint=f"merino-edge import {path} --random-weights -o DIR",
        )
    if os.path.basename(path) == CONFIG:
        raise UsageError(
            f"'{path}' is a shape without weights.",
            hint=f"name its folder, or: merino-edge import {path} --random-weights -o DIR",
        )
