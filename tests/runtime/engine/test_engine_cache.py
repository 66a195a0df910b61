"""The cache gives back what fits, says what differs, and survives whatever interrupts it."""

import hashlib
import os
import pathlib

import pytest
from doubles import NANO_KEY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merino_edge.errors import ChecksumError, EngineError, FormatError
from merino_edge.formats import jsonio
from merino_edge.formats.engine_record import EngineRecord, Verification
from merino_edge.runtime.engine import cache as cache_module
from merino_edge.runtime.engine.cache import EngineCache, default_folder


@pytest.fixture
def cache(tmp_path):
    return EngineCache(str(tmp_path / "engines"))


def stored(cache, key=NANO_KEY, plan=b"a plan", name="tiny"):
    """An engine, taken in as a build would."""
    path = cache.incoming(key)
    pathlib.Path(path).write_bytes(plan)
    record = EngineRecord(
        key=key,
        bundle_id="0123456789ab",
        bundle_name=name,
        plan_file="",
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
        made_at="2026-01-31T12:00:00Z",
        build_s=1.5,
        peak_rss_bytes=1,
        available_before_bytes=1,
        lowest_available_bytes=1,
    )
    return cache.store(path, record)


def test_what_was_stored_is_found(cache):
    stored(cache)
    found = cache.find(NANO_KEY)
    assert pathlib.Path(found.plan_path).read_bytes() == b"a plan"
    assert found.record.key == NANO_KEY
    assert found.warnings == []


def test_an_empty_cache_finds_nothing_and_makes_no_folder(cache):
    assert cache.find(NANO_KEY) is None
    assert cache.list() == []
    assert not os.path.exists(cache.folder)


def test_another_patch_level_of_l4t_is_used_with_a_warning(cache):
    stored(cache)
    assert "32.7.1" in cache.find(NANO_KEY._replace(l4t="32.7.4")).warnings[0]


def test_another_release_of_l4t_is_not_used(cache):
    stored(cache)
    assert cache.find(NANO_KEY._replace(l4t="35.4.1")) is None
    with pytest.raises(EngineError, match=r"L4T: built with 32\.7\.1, here is 35\.4\.1"):
        cache.check(NANO_KEY._replace(l4t="35.4.1"), "bundle/")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("tensorrt", "8.0.1.6", "TensorRT: built with 8.2.1.8, here is 8.0.1.6"),
        ("compute_capability", "7.2", "compute capability: built with 5.3, here is 7.2"),
        (
            "weights_sha256",
            "f" * 64,
            "the weights: built with bbbbbbbbbbbb…, here is ffffffffffff…",
        ),
    ],
)
def test_a_mismatch_is_told_with_the_command_that_helps(cache, field, value, words):
    stored(cache)
    with pytest.raises(EngineError) as caught:
        cache.check(NANO_KEY._replace(**{field: value}), "my bundle")
    assert words in caught.value.message
    assert caught.value.hint == "merino-edge build 'my bundle'"
    assert caught.value.exit_code == 3


def test_a_changed_graph_is_told_by_the_name_of_its_bundle(cache):
    stored(cache)
    changed = NANO_KEY._replace(onnx_sha256="c" * 64)
    with pytest.raises(EngineError, match="the graph"):
        cache.check(changed, "bundle", bundle_name="tiny")
    with pytest.raises(EngineError, match="no engine was built here"):
        cache.check(changed, "bundle", bundle_name="another")


def test_the_nearest_mismatch_comes_first(cache):
    stored(cache, NANO_KEY._replace(tensorrt="8.0.1.6", cuda="10.0", gpu_name="NVIDIA Tegra X2"))
    stored(cache, NANO_KEY._replace(tensorrt="8.0.1.6"))
    counts = [len(each.reasons) for each in cache.mismatches(NANO_KEY)]
    assert counts == [1, 3]


def test_a_plan_that_was_cut_is_an_integrity_error(cache):
    path = stored(cache).plan_path
    os.truncate(path, 3)
    with pytest.raises(ChecksumError, match="3 bytes, its record says 6") as caught:
        cache.check(NANO_KEY, "bundle")
    assert caught.value.exit_code == 8
    assert caught.value.hint == "merino-edge build bundle --force"
    assert cache.list()[0].problem == "its plan was cut or changed"


def test_a_plan_that_was_changed_is_an_integrity_error(cache):
    pathlib.Path(stored(cache).plan_path).write_bytes(b"b plan")
    with pytest.raises(ChecksumError, match="sha256"):
        cache.find(NANO_KEY)


def test_a_plan_without_record_does_not_count(cache):
    stored(cache)
    os.unlink(os.path.join(cache.folder, NANO_KEY.engine_id + ".json"))
    assert cache.find(NANO_KEY) is None
    assert cache.list() == []


def test_a_record_without_plan_does_not_count_and_is_listed_as_such(cache):
    os.unlink(stored(cache).plan_path)
    assert cache.find(NANO_KEY) is None
    assert cache.list()[0].problem == "its plan is gone"


def test_a_record_may_not_name_a_plan_elsewhere(cache):
    stored(cache)
    path = os.path.join(cache.folder, NANO_KEY.engine_id + ".json")
    document = jsonio.read_json(path)
    document["plan_file"] = "../other.plan"
    jsonio.write_bytes_atomic(path, jsonio.dumps(document).encode())
    with pytest.raises(FormatError, match="plan_file"):
        cache.find(NANO_KEY)


def test_a_record_of_another_schema_is_listed_and_refused(cache):
    stored(cache)
    path = os.path.join(cache.folder, NANO_KEY.engine_id + ".json")
    text = pathlib.Path(path).read_text().replace("merino-edge.engine/1", "merino-edge.engine/9")
    pathlib.Path(path).write_text(text)
    assert cache.list()[0].problem == "written by another version of merino-edge"
    with pytest.raises(FormatError) as caught:
        cache.check(NANO_KEY, "bundle")
    assert caught.value.hint == "merino-edge build bundle --force"


def test_a_new_build_replaces_the_old_one_and_leaves_nothing(cache):
    stored(cache, plan=b"old")
    new = stored(cache, plan=b"new plan")
    assert cache.find(NANO_KEY).plan_path == new.plan_path
    names = sorted(os.listdir(cache.folder))
    assert names == [os.path.basename(new.plan_path), NANO_KEY.engine_id + ".json"]


def test_a_disk_that_fills_up_while_storing_keeps_the_old_engine(cache, monkeypatch):
    old = stored(cache, plan=b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.jsonio, "write_record", full)
    with pytest.raises(OSError, match="No space left"):
        stored(cache, plan=b"new plan")
    assert cache.find(NANO_KEY) == old
    assert len(os.listdir(cache.folder)) == 2


def test_a_plan_that_is_not_the_recorded_one_is_not_taken_in(cache):
    record = stored(cache).record
    path = cache.incoming(NANO_KEY)
    pathlib.Path(path).write_bytes(b"b plan")
    with pytest.raises(ChecksumError):
        cache.store(path, record)
    assert cache.find(NANO_KEY).record == record


def test_what_a_killed_build_left_is_swept_away_and_a_living_one_is_not(cache):
    mine = cache.incoming(NANO_KEY)
    dead = pathlib.Path(cache.folder, f".{NANO_KEY.engine_id}-{2**22 + 1}.incoming.part")
    alive = pathlib.Path(cache.folder, f".{NANO_KEY.engine_id}-{os.getppid()}.incoming")
    dead.write_bytes(b"half")
    alive.write_bytes(b"half")
    stored(cache)
    assert not dead.exists()
    assert not os.path.exists(mine)
    assert alive.exists()


def test_verification_is_kept_with_the_engine(cache):
    stored(cache)
    assert cache.list()[0].problem == "not verified yet"
    verification = Verification("2026-01-31T12:01:00Z", "golden tokens", 4, 4)
    cache.mark_verified(NANO_KEY, verification)
    assert cache.find(NANO_KEY).record.verified == verification
    assert cache.list()[0].problem is None


def test_a_removed_engine_is_gone_with_its_plan(cache):
    stored(cache)
    cache.remove(NANO_KEY)
    assert os.listdir(cache.folder) == []
    os.rmdir(cache.folder)
    cache.remove(NANO_KEY)


def test_the_folder_follows_the_environment():
    assert default_folder({"MERINO_EDGE_CACHE": "/a", "XDG_CACHE_HOME": "/b"}) == "/a"
    assert default_folder({"XDG_CACHE_HOME": "/b"}) == "/b/merino-edge/engines"
    assert default_folder({}).endswith("/.cache/merino-edge/engines")


@given(data=st.binary(max_size=200), place=st.integers(0, 5000))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_record_never_gives_another_engine(cache, data, place):
    stored(cache)
    path = pathlib.Path(cache.folder, NANO_KEY.engine_id + ".json")
    whole = path.read_bytes()
    path.write_bytes(whole[:place] + data + whole[place + len(data) :])
    try:
        found = cache.find(NANO_KEY)
    except FormatError:
        return
    assert found is None or pathlib.Path(found.plan_path).read_bytes() == b"a plan"
