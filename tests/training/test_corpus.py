"""A corpus is the same texts in the same order, or a clear refusal."""

import gzip
import lzma

import pytest

from merino_edge.errors import FormatError, UsageError
from merino_edge.training.corpus import corpus_files, read_documents, summarise, without_gutenberg

MODERN = """The Project Gutenberg eBook of Sheep

*** START OF THE PROJECT GUTENBERG EBOOK SHEEP, OR
THE WOOLLY YEARS ***

The merino grazed.

*** END OF THE PROJECT GUTENBERG EBOOK SHEEP ***
Licence, licence, licence.
"""
OLD = """***The Project Gutenberg Etext of Sheep***
*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*

The merino grazed.

End of The Project Gutenberg Etext of Sheep
"""


def write(folder, **texts):
    for name, text in texts.items():
        (folder / f"{name}.txt").write_bytes(text.encode("utf-8"))
    return str(folder)


@pytest.mark.parametrize("text", [MODERN, OLD], ids=["modern", "1990s"])
def test_only_the_book_is_left_of_a_gutenberg_file(text):
    assert without_gutenberg(text) == "The merino grazed.\n"


def test_a_gutenberg_file_without_a_footer_keeps_its_end():
    assert without_gutenberg(OLD.split("End of")[0]) == "The merino grazed.\n"


def test_a_text_that_only_mentions_gutenberg_is_untouched():
    text = "See Project Gutenberg for the end of this.\n*** a row of stars ***\n"
    assert without_gutenberg(text) == text


def test_packed_and_plain_files_are_documents_alike(tmp_path):
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "b.txt.xz").write_bytes(lzma.compress(b"two\n"))
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"three\r\n"))
    (tmp_path / "ignored.md").write_text("not a text by its name\n")
    assert [d.text for d in read_documents([str(tmp_path)])] == ["one\n", "two\n", "three\n"]


def test_exact_copies_are_left_out_and_files_named_twice_are_read_once(tmp_path):
    folder = write(tmp_path, a="same\n", b="same\n", c="other\n")
    assert [d.text for d in read_documents([folder, folder + "/*.txt"])] == ["same\n", "other\n"]


def test_the_order_follows_the_paths_and_the_names(tmp_path):
    folder = write(tmp_path, b="2", a="1", c="3")
    files = corpus_files([folder + "/c.txt", folder])
    assert [file[-5:] for file in files] == ["c.txt", "a.txt", "b.txt"]


def test_the_checksum_depends_on_the_texts_and_not_on_where_they_are(tmp_path):
    for name in ("here", "there", "else"):
        (tmp_path / name).mkdir()
    here = summarise([write(tmp_path / "here", a="one\n", b="two\n")])
    assert here == summarise([write(tmp_path / "there", x="one\n", y="two\n")])
    assert here.sha256 != summarise([write(tmp_path / "else", a="two\n", b="one\n")]).sha256
    assert (here.n_documents, here.n_bytes) == (2, 8)


def test_a_text_that_is_not_utf8_names_the_file_and_the_byte(tmp_path):
    (tmp_path / "latin.txt").write_bytes("caf\u00e9".encode("latin-1"))
    with pytest.raises(FormatError, match=r"latin\.txt: not UTF-8 at byte 3 \(0xe9\)"):
        summarise([str(tmp_path)])


@pytest.mark.parametrize("suffix", ["xz", "gz"])
def test_a_damaged_archive_is_refused(tmp_path, suffix):
    whole = (lzma if suffix == "xz" else gzip).compress(b"a long enough text\n" * 50)
    (tmp_path / f"cut.txt.{suffix}").write_bytes(whole[:-20])
    with pytest.raises(FormatError, match=r"the archive is damaged"):
        summarise([str(tmp_path)])


def test_a_corpus_without_a_letter_is_empty(tmp_path):
    with pytest.raises(FormatError, match="the corpus is empty"):
        summarise([write(tmp_path, a="", b=" \n\t")])


def test_a_path_that_names_nothing_is_told(tmp_path):
    with pytest.raises(UsageError, match="names no text"):
        corpus_files([str(tmp_path / "*.txt")])
