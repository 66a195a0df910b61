"""A folder of shards is what its manifest says, or is refused with the file's name."""

import json
import pathlib
import shutil

import pytest

from merino_edge.errors import ChecksumError, FormatError, SchemaVersionError
from merino_edge.training.token_folder import TOKENIZER, open_tokens
from merino_edge.training.tokenise import TokenisingConfig, tokenise
from merino_edge.training.tokenizer import train_bpe

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "tokens.json"
CONFIG = TokenisingConfig(val_fraction=0.3, part_bytes=600)


def write_corpus(folder):
    """A file and some records, written out here so that the golden manifest is of these bytes."""
    folder.mkdir()
    lines = [
        f"Sheep {n} grazes on hill {n * n}, and nobody counts to {n + 7}.\n" for n in range(12)
    ]
    (folder / "book.txt").write_text("".join(lines))
    texts = [f"Record {n}: {n * 37 % 101} lambs, {n * 53 % 97} ewes." for n in range(30)]
    texts += [texts[3], " \n"]
    records = (json.dumps({"text": text, "id": n}) + "\n" for n, text in enumerate(texts))
    (folder / "records.jsonl").write_text("".join(records))
    return str(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(train_bpe([], 257))  # bytes only, so the same whatever trains it
    tokenise([write_corpus(folder / "corpus")], str(folder / "tokens"), str(tokenizer), CONFIG)
    return folder / "tokens"


@pytest.fixture
def tokens(made, tmp_path):
    return pathlib.Path(shutil.copytree(made, tmp_path / "tokens"))


def test_the_manifest_is_the_golden_one(made):
    """Bless with: cp of the new one, after reading the difference; old folders must still open."""
    assert (made / "tokens.json").read_text() == GOLDEN.read_text()


def test_the_counts_are_those_of_the_corpus(made):
    manifest = open_tokens(str(made), verify=True).manifest
    assert (manifest.n_documents, manifest.n_copies, manifest.n_blank) == (31, 1, 1)
    assert manifest.train_texts + manifest.val_texts == 32  # the book was cut
    assert manifest.vocab_size == 257
    assert len(manifest.train) == 3


def test_a_folder_of_before_there_were_checksums_opens(tokens):
    manifest = json.loads((tokens / "tokens.json").read_text())
    old = ["schema", "dtype", "corpus_sha256", "tokenizer_sha256", "val_fraction"]
    document = {key: manifest[key] for key in [*old, "train", "val", "train_bytes", "val_bytes"]}
    for side in ("train", "val"):
        document[side] = [{"name": s["name"], "n_tokens": s["n_tokens"]} for s in manifest[side]]
    (tokens / "tokens.json").write_text(json.dumps(document))
    assert len(open_tokens(str(tokens), verify=True).train) > 0


def test_a_cut_shard_is_refused_at_once(tokens):
    shard = tokens / "train-0001.bin"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(FormatError, match=r"train-0001\.bin: \d+ bytes, expected \d+"):
        open_tokens(str(tokens))


@pytest.mark.parametrize("name", ["train-0000.bin", "val-0000.bin", TOKENIZER])
def test_an_edited_file_is_found_by_its_checksum(tokens, name):
    data = bytearray((tokens / name).read_bytes())
    data[7] ^= 1
    (tokens / name).write_bytes(data)
    open_tokens(str(tokens))
    with pytest.raises(ChecksumError, match=name.replace(".", r"\.") + ": changed since") as raised:
        open_tokens(str(tokens), verify=True)
    assert raised.value.hint.startswith("make the folder again")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dtype": "float32"}, FormatError, "dtype: 'float32' is neither uint16 nor uint32"),
        ({"val": []}, FormatError, "val: there are no tokens"),
        ({"train": [{"name": "../x", "n_tokens": 1}]}, FormatError, "leaves the folder"),
        ({"schema": "merino-edge.tokens/2"}, SchemaVersionError, "is not the"),
        ({"colour": 1}, FormatError, "colour: unknown field"),
    ],
)
def test_a_bad_manifest_is_told(tokens, change, error, message):
    document = json.loads((tokens / "tokens.json").read_text())
    (tokens / "tokens.json").write_text(json.dumps({**document, **change}))
    with pytest.raises(error, match=message):
        open_tokens(str(tokens))


def test_an_empty_shard_is_told(tokens):
    document = json.loads((tokens / "tokens.json").read_text())
    document["train"] = [{"name": "train-0000.bin", "n_tokens": 0}]
    (tokens / "tokens.json").write_text(json.dumps(document))
    with pytest.raises(FormatError, match="train: there are no tokens"):
        open_tokens(str(tokens))
