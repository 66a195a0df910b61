"""How much text a token carries, by the size of the vocabulary: measured, for a search space.

The one idea: a larger vocabulary makes each token dearer (embedding and head grow with it) and
the text shorter in tokens. Which of the two wins is a question of milliseconds per *text*, and the
search can only ask it if it knows the bytes per token of each size. So a byte-level BPE of each
size is learned on one text, as `merino-edge train` learns it, and another text is tokenised with
it: UTF-8 bytes divided by tokens.

The figures hold for text like the measured one. Give both texts of the kind that your model will
write; a vocabulary learned on encyclopaedias is worse at source code. The texts themselves are not
kept, only their checksums.

Results go to a JSON file, and the lines for a space file in TOML to stdout.

Example:
  python benchmarks/search/vocabulary.py --train wiki.train.txt --measure wiki.valid.txt
"""

import datetime
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import tokenizers
from tokenizers import Tokenizer

sys.path.append(str(Path(__file__).resolve().parents[1] / "common"))  # where ``reports`` lies

from reports import check_folder, new_parser, results_folder

from merino_edge.cli.output import Progress
from merino_edge.core.choices import check_vocabularies
from merino_edge.core.space import Vocabulary
from merino_edge.errors import MerinoError
from merino_edge.formats import jsonio
from merino_edge.training.corpus import read_text
from merino_edge.training.shards import sha256_of_text
from merino_edge.training.tokenizer import train_bpe

SCHEMA = "merino-edge.vocabularies/1"
SIZES = (2048, 4096, 8192, 16384, 32768)


class TextFacts(NamedTuple):
    """Which text it was.

    Attributes:
        name: The file's, without its folder.
        n_bytes: In UTF-8, line ends as line feeds.
        sha256: Of these bytes.
    """

    name: str
    n_bytes: int
    sha256: str


class VocabularyReport(NamedTuple):
    """What the JSON file holds.

    Attributes:
        date: Of the measurement.
        tokenizers_version: The library that learned and counted.
        train: What the vocabularies were learned on.
        measured: What was tokenised with them.
        vocabularies: The figures.
    """

    date: str
    tokenizers_version: str
    train: TextFacts
    measured: TextFacts
    vocabularies: tuple[Vocabulary, ...]


def measure(train_text: str, measured_text: str, size: int) -> Vocabulary:
    """Learn ``size`` tokens on one text, and count those of the other.

    Raises:
        SpecError: The training text is too short to give that many.
    """
    tokenizer = Tokenizer.from_str(train_bpe([train_text], size))
    n_tokens = len(tokenizer.encode(measured_text, add_special_tokens=False).ids)
    return Vocabulary(size, round(len(measured_text.encode("utf-8")) / n_tokens, 4))


def measure_all(
    train_path: str, measured_path: str, sizes: Sequence[int], progress: Progress
) -> VocabularyReport:
    """Measure every size on the two files.

    Raises:
        FormatError: A file is not UTF-8.
        SpecError: The training text is too short, or the figures make no space.
    """
    texts = [read_text(path) for path in (train_path, measured_path)]
    found = []
    for size in sizes:
        progress.update(f"{size} tokens")
        found.append(measure(*texts, size))
    check_vocabularies(sizes, [each.bytes_per_token for each in found], sizes[0])
    facts = [
        TextFacts(os.path.basename(path), len(text.encode("utf-8")), sha256_of_text(text))
        for path, text in zip((train_path, measured_path), texts, strict=True)
    ]
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    return VocabularyReport(today, tokenizers.__version__, *facts, tuple(found))


def toml_lines(vocabularies: Sequence[Vocabulary]) -> str:
    """The choice as it stands in a space file."""
    rows = [
        f"    {{ size = {each.size}, bytes_per_token = {each.bytes_per_token} }},"
        for each in vocabularies
    ]
    return "\n".join(["vocabularies = [", *rows, "]"])


def main() -> None:
    """Measure, save, and print what to paste."""
    parser = new_parser(__doc__, results_folder(__file__) / "vocabulary.json")
    parser.add_argument("--train", required=True, metavar="FILE", help="text to learn on")
    parser.add_argument("--measure", required=True, metavar="FILE", help="text to tokenise")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=SIZES, metavar="N", help="ascending (2048 to 32768)"
    )
    options = parser.parse_args()
    progress = Progress("vocabulary")
    try:
        check_folder(options.output)
        report = measure_all(options.train, options.measure, options.sizes, progress)
    except (MerinoError, OSError) as error:
        parser.exit(getattr(error, "exit_code", 1), f"error: {error}\n")
    jsonio.write_record(options.output, SCHEMA, report)
    progress.done(f"written to {options.output}")
    print(toml_lines(report.vocabularies))


if __name__ == "__main__":
    main()
