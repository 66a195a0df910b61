"""Make tokenizers.json: small tokenizers of every supported rule, texts, and the ids they get.

The ids come from the current ``tokenizers``; tests/py36 asks version 0.12.1 for the same ones.
Run by ``make golden``.
"""

import json
import os
import random

from tokenizers import Tokenizer, decoders, models, trainers
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer

from merino_edge.formats import jsonio
from merino_edge.formats.tokenizer_file import portable
from merino_edge.model.importers.gguf_tokenizer import PRE_TOKENIZERS

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizers.json")
TEXTS = [
    "The shepherd counted 1234567 sheep in 2024, and 3.14159 ½ ٣ x2y more; it wasn't easy.",
    "We'll see, THEY'D say, I'M sure: don't 'quote' it's",
    "naïve café - 羊は丘で眠る Ω≈ç√ Привет мир שלום नमस्ते",
    "e\u0301 vs \u00e9, ﬁ ligature, Å",
    "🐑🏽 👨‍👩‍👧 \u00a0nbsp \u200bzero \u202erev\u202c",
    "def f(x):\n\treturn x ** 2  # two\r\n\r\n\n\n    indented(a[0], b={'k': 1})\n",
    "   leading, trailing   \n\t \n ",
    "<|end|>a<|end|> <|end|><user>b <user>",
    " ",
    "\n\n\n",
    "",
]
ALPHABET = "aAeEsStT019 .,'-_\t\n  ()éßЖ羊🐑½²<|end>"


def texts() -> list[str]:
    """The ones above, and forty that nobody would write."""
    rng = random.Random(20)
    return TEXTS + ["".join(rng.choices(ALPHABET, k=rng.randint(1, 40))) for _ in range(40)]


def trained(rule: str) -> dict:
    """A document whose words are split by ``rule``, with a special and a user's token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _load_rule(rule)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<|end|>"],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    tokenizer.add_tokens(["<user>"])
    return portable(json.loads(tokenizer.to_str()))


def _load_rule(rule: str) -> PreTokenizer:
    document = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": PRE_TOKENIZERS[rule],
        "model": {"type": "BPE", "vocab": {}, "merges": []},
    }
    return Tokenizer.from_str(json.dumps(document)).pre_tokenizer


def main() -> None:
    """Write the file."""
    cases = {}
    for rule in PRE_TOKENIZERS:
        document = trained(rule)
        tokenizer = Tokenizer.from_str(json.dumps(document))
        ids = [tokenizer.encode(text).ids for text in texts()]
        cases[rule] = {"document": document, "ids": ids}
    golden = {"texts": texts(), "cases": cases}
    text = json.dumps(golden, ensure_ascii=True, separators=(",", ":")) + "\n"
    jsonio.write_bytes_atomic(PATH, text.encode("ascii"))


if __name__ == "__main__":
    main()
