"""What the tests of updates share."""

import pytest
from update_store import packed


@pytest.fixture(scope="session")
def archives(tmp_path_factory):
    """Version -> an archive of the golden bundle; to be read only."""
    folder = tmp_path_factory.mktemp("archives")
    return {v: packed(folder / (v + ".mebundle"), v) for v in ("1", "2", "3")}
