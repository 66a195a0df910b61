"""A rerun measures what is missing, once, and tells what it could not measure."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from repository import ROOT

BENCHMARKS = ROOT / "benchmarks"
CONDITIONS = {"date": "2026-01-02", "load": 0.1, "versions": {}, "machine": {"cpu": "one"}}
# Writes a line for each time that it ran, then its report: what the second argument says.
SCRIPT = """\
import pathlib, sys
pathlib.Path(sys.argv[1]).open("a").write("ran\\n")
pathlib.Path(sys.argv[-1]).write_text(sys.argv[2])
print("almost done")
"""
COPY = "import shutil, sys\nshutil.copy(sys.argv[1], sys.argv[2])\n"


@pytest.fixture
def rerun(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    return importlib.import_module("rerun")


class Bench:
    """A table of real scripts, run in a folder of its own."""

    def __init__(self, rerun, folder):
        self.rerun, self.folder = rerun, folder
        self.scripts = folder / "scripts"
        self.scripts.mkdir()
        self.stages = []

    def script(self, text=SCRIPT, name="script.py"):
        path = self.scripts / name
        path.write_text(text)
        return str(path)

    def add(self, name, *words, folder="tried", product=None, **fields):
        product = product or f"{name}.json"
        stage = importlib.import_module("rerun_stages").Stage
        self.stages.append(stage(name, 1.0, words, product, folder, **fields))

    def add_counting(self, name, report=None, **fields):
        """A stage that writes a report and counts its runs."""
        text = json.dumps({"provenance": CONDITIONS, "of": name} if report is None else report)
        words = (str(self.folder / f"{name}.runs"), text.replace("{", "{{").replace("}", "}}"))
        self.add(name, self.script(), *words, "{out}", **fields)

    def runs(self, name):
        path = self.folder / f"{name}.runs"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def run(self, *words):
        places = ["--work", str(self.folder / "work"), "--results", str(self.folder / "results")]
        return self.rerun.main([*places, *words], self.stages)

    def result(self, name):
        return json.loads((self.folder / "results" / "tried" / f"{name}.json").read_text())

    def rows(self):
        report = json.loads((self.folder / "results" / "rerun.json").read_text())
        return {row["stage"]: row for row in report["rows"]}


@pytest.fixture
def bench(rerun, tmp_path):
    return Bench(rerun, tmp_path)


def test_reports_land_below_results_with_what_each_took(bench, capsys):
    bench.add_counting("first")
    bench.add_counting("second")
    assert bench.run() == 0
    assert bench.result("second")["of"] == "second"
    row = bench.rows()["first"]
    assert row["result"] == "tried/first.json"
    assert row["seconds"] > 0
    assert 0 <= row["others_share"] <= 1
    assert row["cpu"]
    assert "| first " in capsys.readouterr().out


def test_a_second_call_measures_nothing_and_puts_reports_back(bench):
    bench.add_counting("first")
    bench.run()
    (bench.folder / "results" / "tried" / "first.json").write_text("{}")
    assert bench.run() == 0
    assert bench.runs("first") == 1
    assert bench.result("first")["of"] == "first"


def test_fresh_measures_again_only_what_is_named(bench):
    bench.add_counting("first")
    bench.add_counting("second")
    bench.run()
    assert bench.run("--fresh", "--only", "second") == 0
    assert (bench.runs("first"), bench.runs("second")) == (1, 2)
    assert set(bench.rows()) == {"first", "second"}


@pytest.mark.parametrize("what", ["script", "words", "sibling"])
def test_other_code_or_another_command_is_measured_again(bench, what):
    bench.add_counting("first")
    bench.run()
    bench.rerun.sys.modules["rerun_work"]._code.cache_clear()  # a process asks once
    if what == "script":
        bench.script(SCRIPT + "# changed\n")
    elif what == "sibling":
        bench.script("A = 1\n", "sibling.py")
    else:
        bench.stages[0] = bench.stages[0]._replace(omp_threads=1)
    bench.run()
    assert bench.runs("first") == 2
    assert len(list((bench.folder / "work" / "first").iterdir())) == 1


def test_a_stage_that_fails_is_told_and_the_others_go_on(bench, capsys):
    bench.add("bad", bench.script("raise SystemExit('no compiler here')", "bad.py"), "{out}")
    bench.add_counting("good")
    assert bench.run() == 1
    said = capsys.readouterr()
    assert "no compiler here" in said.out
    assert "bad: failed" in said.err
    assert bench.result("good")["of"] == "good"
    assert set(bench.rows()) == {"good"}


@pytest.mark.parametrize("gone", ["date", "load", "versions", "machine"])
def test_a_report_without_its_conditions_is_none(bench, gone, capsys):
    conditions = {key: value for key, value in CONDITIONS.items() if key != gone}
    bench.add_counting("first", {"provenance": conditions})
    assert bench.run() == 1
    assert f"does not tell: {gone}" in capsys.readouterr().out
    assert not (bench.folder / "results").exists()


def test_what_a_stage_opens_is_made_first_and_once(bench):
    bench.add("input", bench.script(), str(bench.folder / "input.runs"), "text", "{out}", folder="")
    bench.add("same", bench.script(COPY, "copy.py"), "{input}", "{out}", folder="")
    copy = (
        "import sys, json\n"
        "print(open(sys.argv[1]).read())\n"
        f"json.dump({{'provenance': {CONDITIONS!r}, 'read': open(sys.argv[1]).read()}},"
        " open(sys.argv[2], 'w'))\n"
    )
    for name in ("one", "two"):
        bench.add(name, bench.script(copy, "other.py"), "{same}", "{out}")
    assert bench.run() == 0
    assert bench.result("two")["read"] == "text"
    assert bench.runs("input") == 1
    assert list(bench.rows()) == ["input", "same", "one", "two"]
    assert bench.rows()["input"]["result"] == ""


def test_without_its_input_a_stage_is_left_out(bench, capsys):
    bench.add("input", bench.script("raise SystemExit(3)", "bad.py"), "{out}", folder="")
    bench.add_counting("other")
    bench.add("needy", bench.script(), str(bench.folder / "needy.runs"), "{input}", "{out}")
    assert bench.run() == 1
    assert "it needs input" in capsys.readouterr().out
    assert bench.runs("other") == 1
    assert bench.runs("needy") == 0


def test_what_the_machine_lacks_is_named_with_the_way_to_get_it(bench, capsys):
    bench.add("race", bench.script(), str(bench.folder / "race.runs"), "{peers_python}", "{out}")
    assert bench.run("--peers", "nowhere/python") == 1
    assert "benchmarks/peers/README.md" in capsys.readouterr().out
    assert bench.run("--list", "--peers", "nowhere/python") == 0
    assert "benchmarks/peers/README.md" in capsys.readouterr().out
    assert bench.runs("race") == 0


def test_of_several_interpreters_the_one_with_peers_is_taken(bench, monkeypatch):
    for name, package in (("without", "numpy"), ("with", "llama_cpp")):
        (bench.folder / name / "bin").mkdir(parents=True)
        (bench.folder / name / "bin" / "python").touch()
        (bench.folder / name / "lib/python3.11/site-packages" / package).mkdir(parents=True)
    pythons = [str(bench.folder / name / "bin" / "python") for name in ("without", "with")]
    monkeypatch.setenv("MERINO_PEERS_PYTHON", os.pathsep.join(pythons))
    assert importlib.import_module("rerun_stages").WANTS["peers_python"].find({}) == pythons[1]


def test_a_stage_that_hangs_is_stopped(bench, monkeypatch, capsys):
    monkeypatch.setattr(bench.rerun, "LEAST_PATIENCE_MIN", 0.01)
    monkeypatch.setattr(bench.rerun, "PATIENCE", 0.0)
    bench.add("slow", bench.script("import time\ntime.sleep(60)", "slow.py"), "{out}")
    bench.add_counting("good")
    begun = time.monotonic()
    assert bench.run() == 1
    assert time.monotonic() - begun < 30
    assert "it was not done after" in capsys.readouterr().out
    assert bench.runs("good") == 1


def test_a_name_that_there_is_not_is_named(bench, capsys):
    bench.add_counting("first")
    assert bench.run("--only", "firts") == 2
    assert "no stage 'firts'" in capsys.readouterr().err


# Finds what it left when it was stopped, or else starts a process of its own and waits.
RESUMABLE = """\
import pathlib, subprocess, sys, time
left = pathlib.Path(sys.argv[1]) / "left"
if not left.exists():
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    left.write_text(str(other.pid))
    time.sleep(120)
pathlib.Path(sys.argv[2]).write_text('{"provenance": %s}')
"""
DRIVER = """\
import sys
sys.path.insert(0, {benchmarks!r})
import rerun
from rerun_stages import Stage
words = [{script!r}, "{{scratch}}", "{{out}}"]
stages = [Stage("long", 1.0, tuple(words), "long.json", "tried")]
sys.exit(rerun.main(["--work", {work!r}, "--results", {results!r}], stages))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_is_stopped_stops_all_and_goes_on_in_the_same_place(bench, number):
    places = {name: str(bench.folder / name) for name in ("work", "results")}
    script = bench.script(RESUMABLE % json.dumps(CONDITIONS), "resumable.py")
    driver = bench.script(
        DRIVER.format(benchmarks=str(BENCHMARKS), script=script, **places), "driver.py"
    )
    words = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, driver], env=env, **words)
    left = _wait_for(bench.folder / "work", "left")
    second = subprocess.run([sys.executable, driver], env=env, **words)
    assert second.returncode == 2
    assert "another rerun is at work" in second.stderr
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in said
    assert not _is_alive(int(left.read_text()))
    assert subprocess.run([sys.executable, driver], env=env, **words).returncode == 0
    assert bench.result("long") == {"provenance": CONDITIONS}


def _wait_for(folder, name):
    for _ in range(600):
        found = [path for path in folder.rglob(name) if path.read_text()]
        if found:
            return found[0]
        time.sleep(0.1)
    raise TimeoutError(name)


def _is_alive(pid):
    """Not yet collected by its new parent counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_table_is_sound_and_takes_less_than_an_hour(rerun):
    table = importlib.import_module("rerun_stages")
    names = [stage.name for stage in table.STAGES]
    assert len(set(names)) == len(names)
    assert sum(stage.minutes for stage in table.STAGES) < 60
    for i, stage in enumerate(table.STAGES):
        known = {"out", "scratch", *table.WANTS, *names[:i]}  # what is used stands before
        assert set(table.braces(stage)) <= known, stage.name
        assert stage.words[0] == "-m" or (ROOT / stage.words[0]).is_file(), stage.name


def test_the_committed_reports_of_all_stages_carry_their_conditions(rerun):
    lacking = importlib.import_module("rerun_report").lacking
    for stage in rerun.STAGES:
        path = BENCHMARKS / "results" / stage.result
        if stage.folder and path.exists():
            assert lacking(json.loads(path.read_text("utf-8"))) == [], stage.name


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.onnx
def test_every_script_knows_the_options_that_it_is_called_with(rerun):
    for stage in rerun.STAGES:
        n_words = 3 if stage.words[0] == "-m" else 1  # python -m merino_edge COMMAND
        argv = [sys.executable, *stage.words[:n_words], "--help"]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        shown = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True)
        assert shown.returncode == 0, shown.stderr
        options = [word for word in stage.words[n_words:] if word.startswith("-")]
        assert [option for option in options if option not in shown.stdout] == []
