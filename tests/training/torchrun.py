"""Real processes: `python -m merino_edge train` by torchrun, or alone, on one thread each."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent.parent
SETTINGS = {"batch-size": 4, "seq-len": 32, "eval-every": 8, "save-every": 5, "threads": 1}
QUICK = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def launch(home, n_processes, *words, **environment):
    """`train arch.json` in a folder; returns the running process."""
    command = [sys.executable, "-m"]
    if n_processes > 1:
        command += [
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={n_processes}",
            "-m",
        ]
    return subprocess.Popen(
        [*command, "merino_edge", "train", "arch.json", *QUICK, "--quiet", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=home,
        env={**os.environ, **ENVIRONMENT, **environment},
    )


def finish(process):
    """(exit code, stderr) of a process; it is ended if it takes more than two minutes."""
    try:
        _, err = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, err


def curve(home, output):
    """(loss, gradient norm, validation loss, 0 without one) of every step."""
    lines = (home / f"{output}.run" / "metrics.jsonl").read_text().splitlines()
    return [(m["loss"], m["grad_norm"], m.get("val_loss", 0.0)) for m in map(json.loads, lines)]
