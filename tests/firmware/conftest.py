"""A tiny native bundle with its table of pieces, and a server of it on a socket."""

import os

import pytest
from doubles import native_bundle

from merino_edge.formats.pieces_file import pieces_of_tokenizer, write_pieces
from merino_edge.runtime.serving.pool import open_sessions
from merino_edge.runtime.serving.socket_service import serving_socket


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    path = native_bundle(tmp_path_factory.mktemp("firmware") / "bundle", seed=3)
    with open(os.path.join(path, "tokenizer.json"), encoding="utf-8") as stream:
        pieces = pieces_of_tokenizer(stream.read())
    write_pieces(os.path.join(path, "pieces.bin"), pieces, [0])
    return path


@pytest.fixture(scope="session")
def served(bundle, native_library, tmp_path_factory):
    """The path of a socket behind which the bundle is."""
    path = str(tmp_path_factory.mktemp("served") / "socket")
    with serving_socket(open_sessions(bundle, 2, "native", threads=1), path):
        yield path
