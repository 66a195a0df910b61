"""Rails are found in both kernels' layouts, and what cannot be read is not zero."""

import sys

import pytest
from board_files import NANO_INPUT, NANO_RAILS, ORIN_RAILS, ORIN_RAILS_BY_DRIVER
from doubles import write_tree

from merino_edge.runtime import jtop_door
from merino_edge.runtime.rails import find_rails, input_rail, read_w, sysfs_source
from merino_edge.runtime.telemetry import open_source


def test_a_nano_shows_three_rails_in_milliwatts(tmp_path):
    root = write_tree(tmp_path, NANO_RAILS)
    rails = find_rails(root)
    assert [rail.name for rail in rails] == ["POM_5V_CPU", "POM_5V_GPU", "POM_5V_IN"]
    assert [read_w(root, rail) for rail in rails] == [0.42, 0.0, 2.52]
    assert input_rail(rails).name == "POM_5V_IN"


@pytest.mark.parametrize("files", [ORIN_RAILS, ORIN_RAILS_BY_DRIVER], ids=["device", "driver"])
def test_a_newer_board_shows_volts_and_amperes_and_sums_are_no_rails(tmp_path, files):
    root = write_tree(tmp_path, files)
    rails = find_rails(root)
    assert [rail.name for rail in rails] == ["VDD_CPU_GPU_CV", "VDD_IN"]
    assert [read_w(root, rail) for rail in rails] == [2.0, 6.0]
    assert sysfs_source(root).read_w() == 6.0


def test_a_chip_that_is_seen_on_two_ways_is_one(tmp_path):
    root = write_tree(tmp_path, {**ORIN_RAILS, **ORIN_RAILS_BY_DRIVER})
    assert len(find_rails(root)) == 2


def test_a_board_whose_input_is_not_measured_has_no_power_and_no_sum_is_made_up(tmp_path):
    parts = {name: text.replace("POM_5V_IN", "SYS5V") for name, text in NANO_RAILS.items()}
    root = write_tree(tmp_path, parts)
    assert len(find_rails(root)) == 3
    assert sysfs_source(root) is None


def test_a_machine_without_rails_has_no_power(tmp_path):
    assert find_rails(str(tmp_path)) == []
    assert open_source(str(tmp_path)) is None


@pytest.mark.parametrize("text", ["", "0\n", "-4\n", "n/a\n"])
def test_an_input_that_reads_nothing_is_not_measured(tmp_path, text):
    root = write_tree(tmp_path, NANO_RAILS)
    source = sysfs_source(root)
    assert source.read_w() == 2.52
    write_tree(tmp_path, {NANO_INPUT: text})
    assert source.read_w() is None


def test_a_rail_that_is_gone_is_not_measured(tmp_path):
    source = sysfs_source(write_tree(tmp_path, NANO_RAILS))
    (tmp_path / NANO_INPUT.lstrip("/")).unlink()
    assert source.read_w() is None


# jetson-stats cannot run here: it needs its service. This is the part of its 4.x surface in use.
JTOP = """
class jtop:
    def __init__(self, interval):
        self.power = {"rail": {}, "tot": {"power": 3100, "avg": 3000, "name": "POM_5V_IN"}}
        self.running = True

    def start(self):
        pass

    def ok(self, spin=False):
        if not self.running:
            raise RuntimeError("Lost connection with jtop server")
        return True

    def close(self):
        self.running = False
"""


@pytest.fixture
def jtop(tmp_path, monkeypatch):
    """Installs a package ``jtop`` with the given text."""

    def install(text):
        (tmp_path / "jtop.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))

    yield install
    sys.modules.pop("jtop", None)


def test_jtop_tells_the_power_until_its_service_is_gone(jtop):
    jtop(JTOP)
    source = jtop_door.open_jtop()
    assert (source.name, source.read_w()) == ("POM_5V_IN (jtop)", 3.1)
    source.close()
    assert source.read_w() is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def start(self):\n        pass", "def start(self):\n        raise PermissionError(13)"),
        (', "name": "POM_5V_IN"', ""),  # a sum of rails
        ("self.power", "self.watts"),  # another version's names
        ("class jtop", "import no_such_thing\nclass jtop"),
    ],
    ids=["not allowed", "a sum", "another version", "half installed"],
)
def test_a_jtop_that_does_not_tell_is_not_an_error(jtop, old, new):
    assert old in JTOP
    jtop(JTOP.replace(old, new))
    assert jtop_door.open_jtop() is None


def test_without_jtop_nothing_is_asked():
    assert "jtop" in sys.modules or jtop_door.open_jtop() is None
