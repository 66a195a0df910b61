"""The page on what is known without a board: its tables, its claims, its commands."""

import argparse
import importlib
import re
import shlex
import sys

import pytest
from repository import ROOT

from merino_edge.cli.registry import COMMANDS
from merino_edge.formats import jsonio

FOLDER = ROOT / "benchmarks" / "tensorrt"
RESULTS = ROOT / "benchmarks" / "results" / "tensorrt"
PAGE = (FOLDER / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def scripts():
    pytest.importorskip("onnx")
    sys.path.append(str(FOLDER))
    names = ("layouts_report", "engine_bytes_report", "variants")
    return {name: importlib.import_module(name) for name in names}


@pytest.fixture
def layouts(scripts):
    module = scripts["layouts_report"]
    return jsonio.read_record(str(RESULTS / "layouts.json"), module.SCHEMA, module.Report)


@pytest.fixture
def engines(scripts):
    """Decoder -> way -> engine."""
    module = scripts["engine_bytes_report"]
    path = str(RESULTS / "engine_bytes.json")
    report = jsonio.read_record(path, module.SCHEMA, module.Report)
    return {model.name: {e.way: e for e in model.engines} for model in report.models}


@pytest.mark.onnx
def test_the_machine_was_quiet_and_every_layout_agreed(layouts):
    for model in layouts.models:
        assert model.conditions.warnings == []
        assert model.logits_difference < 1e-5
        assert all(engine.built.refusal is None for engine in model.engines)


@pytest.mark.onnx
def test_the_choice_follows_from_the_figures(layouts, scripts):
    shipped = scripts["variants"].SHIPPED
    for model in layouts.models:
        for position in layouts.setting.positions:
            times = {t.layout: t.step.p50 for t in model.times if t.position == position}
            assert times[shipped] < 1.06 * min(times.values())
        early = {t.layout: t.step.p50 for t in model.times if t.position == 16}
        assert all(early[shipped] < ms for name, ms in early.items() if name.endswith("static"))


@pytest.mark.onnx
def test_engine_bytes_are_what_the_page_promises(engines, scripts):
    fixed = scripts["engine_bytes_report"].FIXED
    merino, smollm2 = engines["MeRino-64M"], engines["SmolLM2-135M"]
    assert merino[fixed].ratio <= 1.10
    assert merino[fixed].twice == []
    assert merino["the graph looks tokens up"].twice == ["embed.weight"]
    assert merino["looks up, vocabulary a multiple of 8"].twice == []
    assert smollm2[fixed].twice == ["blocks.0.ffn.up.weight", "blocks.29.ffn.up.weight"]
    shipped = scripts["engine_bytes_report"].SHIPPED
    assert merino[shipped].ratio <= 1.10
    assert smollm2[shipped].twice == []
    assert smollm2[shipped].ratio < 1.11


def commands_of(page):
    """Every merino-edge command of the page, without redirections and pipes."""
    code = re.findall(r"`(merino-edge [^`]+)`", page)
    code += re.findall(r"^(merino-edge .+)$", page, re.MULTILINE)
    return sorted({re.split(r" [|>&]", line)[0].strip() for line in code})


@pytest.mark.parametrize("command", commands_of(PAGE))
def test_every_command_of_the_page_exists(command):
    _, name, *options = shlex.split(command)
    found = {each.name: each for each in COMMANDS}[name]
    module = importlib.import_module("merino_edge.cli.commands." + found.module)
    parser = argparse.ArgumentParser()
    module.configure(parser)
    parser.parse_args(options)  # SystemExit if it does not know one


def test_the_page_has_commands_to_check():
    assert len(commands_of(PAGE)) > 10


def test_files_and_folders_that_the_page_names_exist():
    paths = re.findall(r"`((?:tests|\.\.)/[\w./]+)`", PAGE)
    assert paths
    for path in paths:
        base = ROOT if path.startswith("tests") else FOLDER
        assert (base / path).exists(), path
