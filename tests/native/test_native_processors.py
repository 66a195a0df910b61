"""The processors that a process may use: affinity, and the quotas of recorded cgroup trees."""

import ctypes as c
import os
import subprocess
import sys

import pytest

NO_LIMIT = 2**32 - 1


def processors_of_quota(library, root):
    library.me_quota_processors.restype = c.c_uint32
    return library.me_quota_processors(os.fsencode(root))


def tree(root, groups, **files):
    """A machine's files as one process sees them: its groups, and what the control files say.

    A key is the path below /sys/fs/cgroup, with __ for / and dots as they are.
    """
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys" / "fs" / "cgroup" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V1 = "12:cpuset:/\n4:cpu,cpuacct:/docker/3f0c\n3:memory:/docker/3f0c\n0::/system.slice\n"
# name: (/proc/self/cgroup, control files, processors)
TREES = {
    "a machine without limits": ("0::/user.slice/session-2.scope\n", {}, NO_LIMIT),
    "no quota is 'max'": ("0::/a\n", {"a__cpu.max": "max 100000\n"}, NO_LIMIT),
    "docker --cpus 1.5, its own namespace": ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
    "half a processor is one": ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
    "two whole ones are two": ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
    "the group above is tighter": (
        "0::/kubepods/pod7/app\n",
        {
            "kubepods__cpu.max": "1600000 100000\n",
            "kubepods__pod7__cpu.max": "100000 50000\n",
            "kubepods__pod7__app__cpu.max": "400000 100000\n",
        },
        2,
    ),
    "the host's path, which a container has not": (
        "0::/system.slice/docker-3f0c.scope\n", {"cpu.max": "300000 100000\n"}, 3,
    ),
    "version 1, mounted under both names": (
        V1,
        {
            "cpu,cpuacct__docker__3f0c__cpu.cfs_quota_us": "250000\n",
            "cpu,cpuacct__docker__3f0c__cpu.cfs_period_us": "100000\n",
        },
        3,
    ),
    "version 1 in a container, mounted as cpu": (
        V1, {"cpu__cpu.cfs_quota_us": "50000\n", "cpu__cpu.cfs_period_us": "50000\n"}, 1,
    ),
    "version 1 without a quota": (
        V1, {"cpu__cpu.cfs_quota_us": "-1\n", "cpu__cpu.cfs_period_us": "100000\n"}, NO_LIMIT,
    ),
    "a group of another controller": (
        "5:cpuacct:/a\n", {"cpu__a__cpu.cfs_quota_us": "1\n", "cpu__a__cpu.cfs_period_us": "1\n"},
        NO_LIMIT,
    ),
    "files that make no sense": (
        "rubbish\n7:cpu\n0::/a\n\n::\n", {"a__cpu.max": "", "cpu.max": "many 0\n"}, NO_LIMIT,
    ),
    "a period of nothing": ("0::/\n", {"cpu.max": "100000 0\n"}, NO_LIMIT),
    "a quota beyond any machine": ("0::/\n", {"cpu.max": f"{2**62} 1\n"}, NO_LIMIT),
    "a path longer than any": (f"0::/{'a' * 5000}\n", {}, NO_LIMIT),
}  # fmt: skip


@pytest.mark.parametrize("name", TREES)
def test_a_quota_is_a_number_of_processors(tmp_path, library, name):
    groups, files, expected = TREES[name]
    assert processors_of_quota(library, tree(tmp_path, groups, **files)) == expected


def test_a_machine_without_cgroups_has_no_quota(tmp_path, library):
    assert processors_of_quota(library, tmp_path) == NO_LIMIT
    assert processors_of_quota(library, "/nowhere" * 500) == NO_LIMIT


COUNT = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).me_usable_threads())"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
@pytest.mark.parametrize("n_allowed", [1, 2])
def test_an_affinity_binds(library, n_allowed):
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < n_allowed:
        pytest.skip(f"this machine lends {len(allowed)} processors")
    counted = subprocess.run(
        [sys.executable, "-c", COUNT, library._name],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, allowed[:n_allowed]),
    )
    assert int(counted.stdout) == min(n_allowed, processors_of_quota(library, ""))
