"""The tables of the top README.md: the figures that people ask for, each with where it comes from.

The one idea: the front page shows rows and columns of the tables that the pages show, so that it
can neither say more than they do nor word a figure another way. Above each stand the machine, the
date, how busy it was, and the file. What was not measured yet is said to be so. ``pages.py``
finds the modules that are imported here, and puts the tables into the page.
"""

import json
from importlib import import_module
from types import ModuleType
from typing import Any

import accuracy_report
import analyse
import confirm_report
import contest_report
import entrant_times
import entrants
import eval_speed_report
import headline_report
import peers_report
import peers_tables
import presets_report
import pretrained
import speed_report
import tables_page
from reports import RESULTS, Provenance
from table_parts import Table, below, beside, columns, named, rows, tables_in, where

from merino_edge.formats import jsonio
from merino_edge.formats.measurement import DeviceInfo

HEADLINE_LEFT_OUT = ("native fp32", "ort int8", "ort int4", "prompt, native int4", "prompt, ort")
HEADLINE_BESIDE_OURS = (headline_report.REFERENCE, "pythia-70m", "smollm2-135m")
PROXIES = {
    "entropy (gamma0 1/16), growth to 2": "entropy, as `search` takes it",
    "shallowness": "layers, counted backwards",
    "first width": "width of the first block",
    "parameters": "parameters",
    "FLOPs": "FLOPs",
    "entropy, no effectiveness": "entropy alone",
    "DSS": "DSS",
}


def tables() -> dict[str, str]:
    """Name of a mark -> what stands there."""
    return {
        "headline": _headline(),
        "search": _search(),
        "study": _study(),
        "contest": _contest(),
        "peers": _peers(),
        "latency": _latency(),
        "work": _work(),
        "forms": _forms(),
        "coverage": _coverage(),
    }


def _read(kind: ModuleType, name: str, record: str = "Report") -> Any:
    return jsonio.read_record(str(RESULTS / name), kind.SCHEMA, getattr(kind, record))


def _source(how: str, found: Provenance, *names: str) -> str:
    return _said(how, found.machine, found.date, str(found.load), *names)


def _said(how: str, machine: DeviceInfo, date: str, load_before: str, *names: str) -> str:
    """One line: what kind of figures, where, when, how busy it was before, and the files."""
    place = f"{machine.cpu}, {machine.n_cores} cores"
    return f"{how}: {place}, {date}, load before {load_before}; {', '.join(map(_link, names))}."


def _link(name: str) -> str:
    return f"[`{name}`](benchmarks/results/{name})"


def _joined(*parts: Table | str) -> str:
    return "\n\n".join(str(part).strip("\n") for part in parts)


def _missing(name: str, command: str) -> str:
    return f"Not measured yet: `{command}` writes `{name}`."


def _headline() -> str:
    name = "headline/headline.json"
    if not (RESULTS / name).exists():
        return _missing(name, "make bench")
    report = _read(headline_report, name)
    found = headline_report.sections(report)
    (ratios,), (times,) = (tables_in(found[f"headline_{part}"]) for part in ("ratios", "times"))
    kept = [row for row in ratios.rows if not any(word in row[0] for word in HEADLINE_LEFT_OUT)]
    forms = where(where(times, "backend", "native"), "weights", "int8")
    shown = tuple(row for row in forms.rows if row[0] in {*ratios.header, *HEADLINE_BESIDE_OURS})
    how = f"Counted, built, predicted or measured, as each row says, with {report.threads} threads"
    return _joined(
        _source(how, report.provenance, name),
        ratios._replace(rows=tuple(kept)),
        f"Native decoder, int8, a prompt of {report.n_prompt} tokens, {report.n_gen} generated:",
        columns(forms._replace(rows=shown), "bundle", "peak memory", "a token, ms", "prompt, ms"),
    )


def _search() -> str:
    """The three budgets of the paper: what is found, whether it is the best, and the ratios."""
    name = "search/presets.json"
    report = _read(presets_report, name)
    shapes, searches, ratios = tables_in(presets_report.markdown(report))
    smaller = {
        "parameters": "OPT-350M's parameters / ours",
        "FLOPs, body": "FLOPs, body",
        "FLOPs, body and head": "with head",
    }
    found = beside(
        columns(shapes, "layers", "parameters"),
        columns(searches, certificate="the proof", evolution="search"),
        columns(ratios, **smaller),
    )
    return _joined(_source("Counted; seconds measured on one core", report.provenance, name), found)


def _study() -> str:
    name = "search/study/results.json"
    results = json.loads((RESULTS / name).read_text("utf-8"))
    (every,) = tables_in(analyse.table(results["all"]))
    shown = {"overall": "overall", "within bands": "at equal cost", "given size": "given size"}
    found = columns(rows(every, PROXIES), **shown)
    about = (
        f"Rank correlation with the negative loss of {results['n_members']} trained decoders (1 is "
        f"best), with 95 % intervals; the loss of one varies by {results['noise_of_a_training']} "
        f"nats from seed to seed; {_link(name)}, which rests on no machine's speed and names none."
    )
    return _joined(about, named(found, PROXIES))


def _contest() -> str:
    """The long one where there is one, else the pilot."""
    name, who, when = (f"quality/{n}.json" for n in ("contest", "contestants", "entrant_times"))
    if not (RESULTS / name).exists():
        name = "quality/contest-pilot.json"
    report, times = _read(contest_report, name), _read(entrant_times, when)
    (sizes,) = tables_in(entrants.markdown(_read(entrants, who, "Contestants")))
    scores, *_ = tables_in(contest_report.markdown(report))
    (speeds,) = tables_in(entrant_times.markdown(times))
    texts = {name: f"{name}, bits per byte" for name in contest_report.TEXTS}
    held_out = {"bits per byte: held out": "held-out text, bits per byte"}
    found = beside(
        columns(sizes, "stored", "executed"),
        columns(speeds, **{"a token, ms": f"a token, ms ({times.precision})"}),
        columns(scores, tokens="trained on", **held_out, **texts),
    )
    seeds = sorted({run.seed for run in report.runs if run.scores})
    trained = _source(f"Trained, seed {', '.join(map(str, seeds))}", report.provenance, who, name)
    return _joined(f"{trained} {_source('Timed', times.provenance, when)}", found)


def _peers() -> str:
    """Ours, and the peers that are the fastest of their class in something shown."""
    name = "peers/results.json"
    report = _read(peers_report, name)
    found = peers_tables.sections(report)
    how = f"Measured with {report.setting.threads} threads for everybody, in one run"
    day, busy = report.date[:10], str(report.load_before)
    doubts = [s for s in peers_tables.conditions(report).splitlines() if s.startswith("**")]
    races = [_race(found, model.name) for model in report.models]
    return _joined(_said(how, report.machine, day, busy, name), *doubts, *races)


def _race(found: dict[str, str], model: str) -> Table:
    (decode,), (others,) = (tables_in(found[f"{model}_{part}"]) for part in ("decode", "others"))
    near, far, near_ratio, far_ratio = (decode.header[place] for place in (1, 3, 5, 7))
    token = {near: f"a token, ms, {near}", near_ratio: "× fastest peer"}
    later = {far: far, far_ratio: "× fastest peer at it"}
    rate = {"prefill, tokens/s": "prompt, tokens/s"}
    every = beside(
        columns(decode, **token, **later),
        columns(others, "× fastest peer's rate", **rate, **{"peak memory, MB": "peak, MB"}),
    )
    kept = [row for row in every.rows if row[0].startswith("ours") or "fastest peer" in row]
    return Table((peers_tables.TITLES[model], *every.header[1:]), tuple(kept))


def _latency() -> str:
    """What each table foretold, beside simpler predictors, and the study that was made with one."""
    name, measured = "latency/confirm.json", tables_page.measured_tables()
    study, each = _read(confirm_report, name), list(measured.values())
    (errors,) = tables_in(tables_page.errors(measured))
    (others,) = tables_in(tables_page.others(measured))
    found = beside(
        columns(errors, "mean error", "worst", "inside the 90 % interval"),
        columns(others, **{"FLOPs": "mean error by FLOPs", "roofline, fitted": "by a roofline"}),
    )
    dates = ", ".join(sorted({table.begun[:10] for table in each}))
    loads = ", ".join(str(table.conditions.load_before) for table in each)
    files = [f"latency/{path.name}" for path in sorted((RESULTS / "latency").glob("table-*.json"))]
    (kept,) = [s for s in confirm_report.markdown(study).splitlines() if s.startswith("**")]
    return _joined(
        _said("Measured", each[0].device, dates, loads, *files),
        found,
        _source(f"Measured, {study.table.partition(', ')[2]}", study.provenance, name),
        kept,
    )


def _work() -> str:
    """Training and scoring, each against those who do the same."""
    first, second = "training/speed.json", "quality/eval_speed.json"
    trained, scored = _read(speed_report, first), _read(eval_speed_report, second)
    text = speed_report.markdown(trained)
    every = where(tables_in(eval_speed_report.markdown(scored))[0], "task", "all")
    ways = Table(("questions of all sets", *every.header[2:]), tuple(r[1:] for r in every.rows))
    return _joined(
        _source(f"Measured, {text.split('; ')[0]}", trained.provenance, first),
        *tables_in(text),
        _source(f"Measured, {scored.model}, {scored.threads} threads", scored.provenance, second),
        ways,
    )


def _forms() -> str:
    """What rounding costs one real model, by perplexity and by answers."""
    first, second = "native/accuracy.json", "quality/pretrained.json"
    exact, report = _read(accuracy_report, first), _read(pretrained, second)
    found, told = pretrained.sections(report), accuracy_report.markdown(exact)
    (texts,), (choices,) = (tables_in(found[f"pretrained_{part}"]) for part in ("texts", "choices"))
    other = named(rows(choices, ["all"]), {"all": "other answers than torch"})
    words = [f"{text}: a word" for text in pretrained.TEXTS]
    return _joined(
        _source(f"Measured, {told.split('; ')[0]}", exact.provenance, first),
        *tables_in(told),
        _source("Measured, as many windows as stand in brackets", report.provenance, second),
        below(rows(texts, words), other),
    )


def _coverage() -> str:
    """In one row; the module that words it needs coverage.py."""
    name = "coverage.json"
    if not (RESULTS / name).exists():
        return _missing(name, "make coverage")
    kind = import_module("coverage_table")
    report = _read(kind, name)
    packages = tables_in(kind.markdown(report))[0]
    shown = columns(rows(packages, ["all"]), "statements", "branches", "covered")
    return _joined(_source(f"Counted, {report.tests}", report.provenance, name), shown)
