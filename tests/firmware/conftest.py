"""A tiny native bundle with its table of pieces, and a server of it on a socket."""

import pytest
from doubles import speaking_bundle

from merino_edge.runtime.serving.pool import open_sessions
from merino_edge.runtime.serving.socket_service import serving_socket


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    return speaking_bundle(tmp_path_factory.mktemp("firmware") / "bundle", seed=3)


@pytest.fixture(scope="session")
def served(bundle, native_library, tmp_path_factory):
    """The path of a socket behind which the bundle is."""
    path = str(tmp_path_factory.mktemp("served") / "socket")
    with serving_socket(open_sessions(bundle, 2, "native", threads=1), path):
        yield path
