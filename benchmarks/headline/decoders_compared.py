"""Which decoders the headline compares, as architectures.

The one idea: MeRino's own figures are ratios to models that people know, so both sides are
described by the same record and go through the same exporter and runtime. Ours are the optima of
the paper's three budgets in the paper's space; the others are read from the published
configurations.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parent / "common"), str(HERE.parent / "search")]  # ``reports``, ``presets``

from presets import SCHEMA as PRESETS_SCHEMA  # noqa: E402
from presets import Report as Presets  # noqa: E402
from reports import RESULTS  # noqa: E402

from merino_edge.cli.output import human_count  # noqa: E402
from merino_edge.errors import UsageError  # noqa: E402
from merino_edge.formats import jsonio  # noqa: E402
from merino_edge.formats.architecture import Architecture  # noqa: E402
from merino_edge.model.importers.hf_config import Config  # noqa: E402
from merino_edge.model.importers.huggingface import architecture_from_config  # noqa: E402
from merino_edge.model.importers.presets import PRESETS  # noqa: E402

OURS = "merino-"
REFERENCE = "opt-350m"  # what the paper's headline is held against


def decoders() -> dict[str, Architecture]:
    """Name -> architecture: ours by size, then the published ones."""
    path = str(RESULTS / "search" / "presets.json")
    presets: Presets = jsonio.read_record(path, PRESETS_SCHEMA, Presets)
    ours = {}
    for preset in presets.ours:
        size = human_count(preset.budget.max_params or 0).lower()
        ours[OURS + size] = preset.architecture
    others = {
        name: architecture_from_config(Config(config, name))[1] for name, config in PRESETS.items()
    }
    return {**ours, **others}


def chosen(names: str) -> dict[str, Architecture]:
    """Those that are named, comma by comma; all for "".

    Raises:
        UsageError: There is no such decoder.
    """
    found = decoders()
    wanted = names.split(",") if names else list(found)
    unknown = [name for name in wanted if name not in found]
    if unknown:
        known = ", ".join(found)
        raise UsageError(f"there is no decoder '{unknown[0]}'.", hint=f"one of {known}.")
    return {name: found[name] for name in wanted}
