"""The same seed and the same commands give the same bytes, in whatever process they run."""

import json
import os
import subprocess
import sys


def begun(seed, hash_seed):
    return subprocess.Popen(
        [sys.executable, "-m", "bagbot.tests.simulator.scripted_session", str(seed)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONHASHSEED": str(hash_seed), "PYTHONASYNCIODEBUG": ""},
    )


def result_of(process):
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()[-2_000:]
    return json.loads(out.splitlines()[-1])


def test_two_processes_send_the_same_bytes_and_another_seed_sends_others():
    processes = [begun(7, 1), begun(7, 2), begun(8, 1)]
    first, second, other = map(result_of, processes)
    assert first == second
    assert min(first["counts"].values()) > 100
    for channel, digest in first["digests"].items():
        assert other["digests"][channel] != digest
