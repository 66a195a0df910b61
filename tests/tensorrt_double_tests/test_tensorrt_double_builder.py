"""What the builder refuses, what it is free to do, and what a plan and a timing cache are."""

import hashlib

import pytest
from tensorrt_double import make, read_plan
from tiny_networks import Build, constrain, new_logger, tiny_build, tiny_model, write

WEAK = ("8.0.1", "8.2.1", "8.6.1", "10.3")


def parsed_build(trt, folder, flags=None):
    build = Build(trt, flags)
    assert build.parser.parse_from_file(write(tiny_model(), folder))
    return build


def refused(build, words):
    plan = build.plan()
    return plan is None and any(words in text for text in build.logger.errors())


def test_a_plan_is_a_buffer_with_a_size_and_nothing_else(trt, tmp_path):
    plan = tiny_build(trt, tmp_path).plan()
    assert plan.nbytes == len(bytes(plan)) == memoryview(plan).nbytes
    assert hashlib.sha256(plan).hexdigest() == hashlib.sha256(bytes(plan)).hexdigest()
    (tmp_path / "a.plan").write_bytes(plan)
    with pytest.raises(TypeError):
        len(plan)
    with pytest.raises(TypeError):
        plan[0]
    with pytest.raises(AttributeError):
        plan.decode()


def test_a_dynamic_network_needs_a_profile(trt, tmp_path):
    assert refused(parsed_build(trt, tmp_path), "no optimization profile has been defined")


def test_every_dynamic_input_needs_a_shape(trt, tmp_path):
    build = parsed_build(trt, tmp_path)
    profile = build.builder.create_optimization_profile()
    profile.set_shape("x", (1, 4), (1, 4), (1, 4))
    build.config.add_optimization_profile(profile)
    assert refused(build, "idx: dynamic input is missing dimensions in profile 0")


def test_a_profile_may_not_contradict_a_fixed_dimension(trt, tmp_path):
    build = parsed_build(trt, tmp_path)
    build.add_profile(x=[(1, 5), (1, 5), (1, 5)])
    assert refused(build, "x: for dimension number")


def test_dimensions_that_share_a_name_must_share_a_value(trt, tmp_path):
    build = parsed_build(trt, tmp_path)
    build.add_profile(8, idx=[(1,), (4,), (8,)])
    assert refused(build, "kOPT values for profile 0 violate shape constraints")
    assert any("named dimensions" in text for text in build.logger.errors())


def test_a_profile_for_an_unknown_input_is_refused(trt, tmp_path):
    build = parsed_build(trt, tmp_path)
    build.add_profile(typo=[(1,), (1,), (1,)])
    assert refused(build, "typo")


def test_a_zero_dimension_is_refused(trt):
    profile = Build(trt).builder.create_optimization_profile()
    with pytest.raises(RuntimeError, match="min is inconsistent"):
        profile.set_shape("past", (0, 2), (4, 2), (8, 2))


def test_a_profile_in_disorder_is_not_added(trt):
    build = Build(trt)
    assert build.add_profile(past=[(4, 2), (2, 2), (16, 2)]) == -1
    assert build.config.num_optimization_profiles == 0
    assert any("MIN<=OPT<=MAX" in text for text in build.logger.errors())


@pytest.mark.parametrize("version", ["8.0.1", "8.2.1"])
def test_the_default_workspace_of_8_2_is_zero_and_not_enough(version, tmp_path):
    trt = make(version)
    assert trt.Builder(new_logger(trt)).create_builder_config().max_workspace_size == 0
    build = tiny_build(trt, tmp_path)
    build.set_workspace(0)
    assert refused(build, "insufficient workspace")


def test_later_versions_start_with_the_memory_of_the_device(tmp_path):
    trt = make("8.6.1")
    config = trt.Builder(new_logger(trt)).create_builder_config()
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) > 1 << 30


@pytest.mark.parametrize("version", WEAK)
def test_half_tensors_without_the_half_flag_are_refused(version, tmp_path):
    build = tiny_build(make(version), tmp_path)
    build.config.clear_flag(build.trt.BuilderFlag.FP16)
    assert refused(build, "fp16 is not configured")


@pytest.mark.parametrize("version", WEAK)
def test_float32_layers_are_left_to_the_builder_unless_constrained(version, tmp_path):
    build = tiny_build(make(version), tmp_path)
    # The scalar exponent is lifted by a helper layer, whose value is an operand of node 2.
    left = ["wide", "//operand 2 1", "power", "picked"]
    assert read_plan(build.plan())["left_to_builder"] == left
    constrain(build, "norm/pow")
    assert read_plan(build.plan())["left_to_builder"] == ["//operand 2 1", "picked"]
    constrain(build, "pick", "(Unnamed Layer* 2) [Shuffle]")
    assert read_plan(build.plan())["left_to_builder"] == []


def test_a_constraint_needs_the_precision_the_output_type_and_the_flag(tmp_path):
    build = tiny_build(make("8.2.1"), tmp_path)
    layer = build.network.get_layer(3)
    layer.precision = build.trt.float32
    layer.set_output_type(0, build.trt.float32)
    assert "power" in read_plan(build.plan())["left_to_builder"]
    build.config.set_flag(build.trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
    assert "power" in read_plan(build.plan())["left_to_builder"]
    build.config.set_flag(build.trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    assert "power" not in read_plan(build.plan())["left_to_builder"]
    layer.reset_output_type(0)
    assert "power" in read_plan(build.plan())["left_to_builder"]


def test_a_strongly_typed_network_refuses_the_half_flag_and_precisions(tmp_path):
    trt = make("10.3")
    strong = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    build = tiny_build(trt, tmp_path, strong)
    assert refused(build, "kFP16")
    build.config.clear_flag(trt.BuilderFlag.FP16)
    layer = build.network.get_layer(3)
    layer.precision = trt.float32
    assert not layer.precision_is_set
    assert any("strongly typed" in text for text in build.logger.errors())
    assert read_plan(build.plan())["left_to_builder"] == []


def test_eleven_is_always_strongly_typed(tmp_path):
    assert read_plan(tiny_build(make("11.0"), tmp_path).plan())["left_to_builder"] == []


def test_types_of_inputs_and_outputs_can_be_set_and_those_between_cannot(tmp_path):
    build = tiny_build(make("8.2.1"), tmp_path)
    build.network.get_output(0).dtype = build.trt.float32
    assert read_plan(build.plan())["outputs"][0]["dtype"] == "FLOAT"
    build.network.get_layer(0).get_output(0).dtype = build.trt.float32
    assert any("inner tensor" in text for text in build.logger.errors())


def test_an_empty_network_has_no_plan(trt):
    assert refused(Build(trt), "at least one output")


def test_planted_faults_fail_a_build_once(trt, tmp_path):
    build = tiny_build(trt, tmp_path)
    trt._faults.fail("build")
    assert refused(build, "OutOfMemory")
    assert build.plan() is not None


def test_tactic_sources_are_a_mask_of_the_versions_own(trt):
    config = Build(trt).config
    known = config.get_tactic_sources()
    assert config.set_tactic_sources(0)
    assert config.get_tactic_sources() == 0
    assert not config.set_tactic_sources(known + 1 << 8)


def test_a_timing_cache_grows_by_a_build_and_is_read_again(trt, tmp_path):
    build = tiny_build(trt, tmp_path)
    assert build.config.get_timing_cache() is None
    cache = build.config.create_timing_cache(b"")
    empty = bytes(cache.serialize())
    assert build.config.set_timing_cache(cache, ignore_mismatch=False)
    build.plan()
    full = bytes(build.config.get_timing_cache().serialize())
    assert len(full) > len(empty)
    again = tiny_build(trt, tmp_path).config.create_timing_cache(full)
    assert bytes(again.serialize()) == full


@pytest.mark.parametrize("damage", [b"nonsense", "cut", "other version"])
def test_a_useless_timing_cache_is_an_empty_one_and_a_warning(damage, tmp_path):
    build = Build(make("8.2.1"))
    cache = build.config.create_timing_cache(b"")
    cache._entries.add("product")
    full = bytes(cache.serialize())
    if damage == "other version":
        build = Build(make("8.6.1"))
    blob = {"cut": full[:-1], "other version": full}.get(damage, damage)
    made = build.config.create_timing_cache(blob)
    assert made._entries == set()
    assert any("timing cache" in text for kind, text in build.logger.lines if kind == "WARNING")


def test_a_timing_cache_of_another_gpu_is_refused_unless_told_to_ignore_that():
    there = Build(make("8.2.1", compute_capability=(7, 5))).config
    blob = bytes(there.create_timing_cache(b"").serialize())
    config = Build(make("8.2.1")).config
    cache = config.create_timing_cache(blob)
    assert not config.set_timing_cache(cache, False)
    assert config.set_timing_cache(cache, True)
