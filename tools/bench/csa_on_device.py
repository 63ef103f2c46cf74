#!/usr/bin/env python3
"""Replays the recorded runs of tests/data/golden/csa on a device and prints how far its latents are from the reference.

    tools/bench/csa_on_device.py --storyctl BIN/storyctl --device cuda:0 [--tolerance 1e-3]

The reference is an independent implementation in Python (tools/golden/consistent_attention.py), float32 on a CPU.
Needs Python with numpy and safetensors. Exit code 1 where a run is further away than the tolerance.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy
from safetensors.numpy import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
CASES = ROOT / "tests/data/golden/csa"


def replay(storyctl, device, case, folder):
    where = CASES / case["name"]
    latents = pathlib.Path(folder) / "latents.safetensors"
    settings = pathlib.Path(folder) / "settings.json"
    settings.write_text(json.dumps(json.loads((where / "settings.json").read_text()) | {"dtype": "fp32"}))
    command = [storyctl, "render", where / case["story"], "--model", ROOT / "tests/data" / case["model"],
               "--out", pathlib.Path(folder) / "out", "--settings", settings,
               "--draws", where / "draws.safetensors", "--latents", latents, "--device", device]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        return None, done.stderr[-2000:]
    actual, expected = load_file(latents), load_file(where / "expected.safetensors")
    if sorted(actual) != sorted(expected):
        return None, f"panels {sorted(actual)} instead of {sorted(expected)}"
    return max(float(numpy.abs(actual[name] - expected[name]).max()) for name in expected), ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--storyctl", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--tolerance", type=float, default=1e-3)
    args = parser.parse_args()
    failed = False
    print(f"{'run':28} {'largest difference':>20}")
    for case in json.loads((CASES / "cases.json").read_text()):
        with tempfile.TemporaryDirectory() as folder:
            difference, why = replay(args.storyctl, args.device, case, folder)
        bad = difference is None or difference > args.tolerance
        failed = failed or bad
        print(f"{case['name']:28} {'failed' if difference is None else format(difference, '.2e'):>20} {why}", flush=True)
    sys.exit(1 if failed else 0)


main()
