"""An engine's key says what a plan is tied to; two keys say in words why they differ."""

import pytest
from doubles import NANO_KEY

from merino_edge.errors import FormatError, SchemaVersionError
from merino_edge.formats import jsonio
from merino_edge.formats.engine_record import (
    SCHEMA,
    EngineRecord,
    Verification,
    differences,
    l4t_warning,
)
from merino_edge.formats.engine_spec import ShapeProfile

KEY = NANO_KEY._replace(builder_options={"workspace_bytes": "268435456"})
RECORD = EngineRecord(
    key=KEY,
    bundle_id="0123456789ab",
    bundle_name="tiny",
    plan_file="x.plan",
    plan_sha256="c" * 64,
    plan_bytes=1000,
    made_at="2026-01-31T12:00:00Z",
    build_s=61.5,
    peak_rss_bytes=10**9,
    available_before_bytes=2 * 10**9,
    lowest_available_bytes=10**8,
)
OTHERS = {
    "onnx_sha256": "d" * 64,
    "weights_sha256": "e" * 64,
    "backend": "tensorrt-rtx",
    "tensorrt": "8.0.1.6",
    "cuda": "11.4",
    "compute_capability": "7.2",
    "gpu_name": "NVIDIA Tegra Xavier",
    "precision": "fp32",
    "profiles": [ShapeProfile("decode", {"q_len": (1, 1, 2)})],
    "builder_options": {"workspace_bytes": "67108864"},
}


def test_a_record_reads_back_as_it_was_written(tmp_path):
    path = str(tmp_path / "record.json")
    verified = Verification("2026-01-31T12:01:00Z", "golden tokens", 4, 4, 0.01)
    record = RECORD._replace(verified=verified, warnings=["hot"])
    jsonio.write_record(path, SCHEMA, record)
    assert jsonio.read_record(path, SCHEMA, EngineRecord) == record


def test_another_schema_is_another_version(tmp_path):
    path = str(tmp_path / "record.json")
    jsonio.write_record(path, "merino-edge.engine/2", RECORD)
    with pytest.raises(SchemaVersionError):
        jsonio.read_record(path, SCHEMA, EngineRecord)


def test_an_unknown_field_is_refused_by_name(tmp_path):
    path = str(tmp_path / "record.json")
    document = {"schema": SCHEMA, **jsonio.encode(RECORD), "colour": "green"}
    jsonio.write_bytes_atomic(path, jsonio.dumps(document).encode())
    with pytest.raises(FormatError, match="colour"):
        jsonio.read_record(path, SCHEMA, EngineRecord)


def test_the_id_does_not_move_between_versions_of_python_or_ours():
    assert KEY.engine_id == "aced91eba5e3dde9"


@pytest.mark.parametrize("field", OTHERS)
def test_every_field_makes_another_engine_and_is_told(field):
    here = KEY._replace(**{field: OTHERS[field]})
    assert here.engine_id != KEY.engine_id
    assert len(differences(KEY, here)) == 1


def test_equal_keys_do_not_differ():
    assert differences(KEY, KEY._replace()) == []


def test_a_difference_is_told_with_both_values():
    here = KEY._replace(tensorrt="8.0.1.6", profiles=OTHERS["profiles"], builder_options={})
    assert differences(KEY, here) == [
        "TensorRT: built with 8.2.1.8, here is 8.0.1.6",
        "lengths (optimisation profiles): built with decode q_len 1..1, here is decode q_len 1..2",
        "builder option workspace_bytes: built with 268435456, here is unset",
    ]


@pytest.mark.parametrize("l4t", ["32.7.4", "32.7", None])
def test_a_patch_level_of_l4t_warns_only(l4t):
    here = KEY._replace(l4t=l4t)
    assert here.engine_id == KEY.engine_id
    assert differences(KEY, here) == []
    assert "32.7.1" in l4t_warning(KEY.l4t, l4t)


def test_the_same_l4t_does_not_warn():
    assert l4t_warning("32.7.1", "32.7.1") is None
    assert l4t_warning(None, None) is None


def test_another_release_of_l4t_is_a_difference():
    assert differences(KEY, KEY._replace(l4t="35.4.1")) == [
        "L4T: built with 32.7.1, here is 35.4.1"
    ]
    assert l4t_warning("32.7.1", "35.4.1") is None
