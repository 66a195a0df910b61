"""``build BUNDLE``: make the engine of a bundle on the machine that will run it, and try it.

The one idea: building takes minutes on a board, so it can be done ahead, watched, and asked again:
an engine that fits and has proved itself is not built twice. A bundle that runs without one is as
good as built, which is what a unit at a board's start needs to hear.
"""

import argparse
import sys
from typing import Any, Dict

from merino_edge.cli.output import Progress, human_bytes, print_json
from merino_edge.formats.bundle import Bundle


def build_engine(bundle: Bundle, args: argparse.Namespace) -> int:
    """Find or build, verify, and print the card; or say that there is nothing to build.

    Raises:
        MerinoError: As ``runtime.make_engine``.
    """
    if bundle.manifest.engine is None:
        return _nothing_to_build(bundle, args.json)
    from merino_edge.runtime import make_engine
    from merino_edge.runtime.engine.workshop import MakeOptions, close_workshop, open_workshop

    progress = Progress("build", args.quiet, plain_every_s=2.0)
    bundle.verify_checksums()
    options = MakeOptions(args.workspace, args.force)
    shop = open_workshop(bundle, options=options)
    try:
        progress.done("{} for {}".format(_library(shop), _device(shop)))
        found = None if args.force else shop.cache.find(shop.key)
        is_new = found is None
        if found is None:
            found = make_engine.build_engine(
                shop, options, progress.done, lambda beat: progress.update(str(beat))
            )
        result = engine_facts(_tried(shop, found, progress), is_new)
    finally:
        close_workshop(shop)
    progress.done("done")
    _print(result, args.json)
    return 0


def _nothing_to_build(bundle: Bundle, as_json: bool) -> int:
    reason = "nothing to build: a bundle for '{}' needs no engine.".format(bundle.manifest.target)
    if as_json:
        print_json({"engine": None, "reason": reason})
    else:
        sys.stdout.write(reason + "\n")
    return 0


def engine_facts(found: Any, is_new: bool) -> Dict[str, Any]:
    """What is worth telling about an engine, for people and for scripts."""
    from merino_edge.formats.jsonio import encode

    record, key = found.record, found.record.key
    return {
        "engine": found.plan_path,
        "size_bytes": record.plan_bytes,
        "for": "{} {} on {} (compute capability {}), CUDA {}".format(
            key.backend, key.tensorrt, key.gpu_name, key.compute_capability, key.cuda
        ),
        "build": "{:.0f} s, {} at most, {} tactics skipped for memory{}".format(
            record.build_s,
            human_bytes(record.peak_rss_bytes),
            record.n_skipped_tactics,
            "" if is_new else " (built before)",
        ),
        "verified": _verified(record.verified),
        "record": encode(record),
    }


def _tried(shop: Any, found: Any, progress: Progress) -> Any:
    """An engine that was built where there was no device is tried where there is one."""
    from merino_edge.runtime import make_engine

    if shop.cuda is None or found.record.verified is not None:
        return found
    make_engine.open_verified(shop, found, progress.done).close()
    return shop.cache.find(shop.key)


def _verified(trial: Any) -> str:
    if trial is None:
        return "no: there is no GPU here to run it on"
    error = trial.max_logit_error
    return "{} of {} golden texts{}, {}".format(
        trial.n_golden_right,
        trial.n_golden,
        "" if error is None else ", logits within {:.1e} of numpy".format(error),
        trial.against,
    )


def _library(shop: Any) -> str:
    return "{} {}".format(shop.library.kind, shop.library.version_text)


def _device(shop: Any) -> str:
    return "any card (there is no GPU here)" if shop.cuda is None else str(shop.cuda.device_name)


def _print(result: Dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    size = result["size_bytes"]
    lines = [("engine", result["engine"]), ("size", human_bytes(size))]
    lines += [(name, result[name]) for name in ("for", "build", "verified")]
    warnings = result["record"]["warnings"]
    if warnings:
        lines.append(("warnings", "{}; the first: {}".format(len(warnings), warnings[0])))
    sys.stdout.write("".join("{:<11} {}\n".format(name, text) for name, text in lines))
