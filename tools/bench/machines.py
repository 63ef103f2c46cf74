#!/usr/bin/env python3
"""What SDXL takes of machines that people own, as `storyctl plan` predicts it: the table in README.md.

    tools/bench/machines.py --storyctl BIN/storyctl [--write README.md]

Needs Python with torch, diffusers and transformers of tools/versions.env (build/golden-venv after `tools/setup --golden`):
it writes the headers of a model of SDXL's shape, no weights. Nothing is rendered; every figure is predicted. With
--write, replaces what stands between the two marks of that file.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import sdxl_shape

# Speeds that the seconds rest on: the makers' own, fp32 of Apple's GPUs, fp16 with fp32 sums (dense) of NVIDIA's.
MACHINES = [
    ("8 GB Mac, M1", "mps,8GiB,speed=2.6tflops", 2.6),
    ("16 GB Mac, M2", "mps,16GiB,speed=3.6tflops", 3.6),
    ("32 GB Mac, M1 Max", "mps,32GiB,speed=10.4tflops", 10.4),
    ("64 GB Mac, M2 Max", "mps,64GiB,speed=13.6tflops", 13.6),
    ("4 GB card, RTX 3050 laptop", "cuda,4GB,speed=14tflops", 14),
    ("8 GB card, RTX 3050", "cuda,8GB,speed=18.2tflops", 18.2),
    ("12 GB card, RTX 3060", "cuda,12GB,speed=25.5tflops", 25.5),
    ("24 GB card, RTX 4090", "cuda,24GB,speed=165tflops", 165),
]
SIZES = (768, 1024)
STEPS = 35
IDENTITY_FRAMES = 4
PANELS = 12
BEGIN, END = "<!-- machines.py -->", "<!-- /machines.py -->"


def story(folder):
    path = folder / "story.txt"
    path.write_text("[Bo] a bear with a red hat\n\n" + "".join(f"[Bo] does thing {i}\n" for i in range(PANELS)))
    return path


def plans(storyctl, folder, size):
    settings = folder / "settings.json"
    settings.write_text(json.dumps(dict(width=size, height=size, steps=STEPS, id_length=IDENTITY_FRAMES)))
    command = [storyctl, "plan", story(folder), "--model", folder / "sdxl", "--settings", settings, "--json"]
    for _, device, _ in MACHINES:
        command += ["--device", device]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if not done.stdout:
        sys.exit(done.stderr)
    return json.loads(done.stdout)["devices"]


def duration(seconds):
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def kept(plan):
    if plan["weights"] == "resident":
        return "all stay"
    return f"{plan['resident_weight_bytes'] / 1e9:.1f} of 5.1 GB stay"


def row(name, speed, size, device):
    if device["refused"]:
        return f"| {name} | {speed:g} | {size} | refused | | | |"
    writes, reads = device["groups"][0], device["groups"][1]
    plan = reads["plan"]
    return (f"| {name} | {speed:g} | {size} | {duration(writes['plan']['predicted_seconds'])} | "
            f"{duration(plan['predicted_seconds'] / reads['frames'])} | {plan['batch']} | "
            f"{device['predicted_peak_bytes'] / 1e9:.1f} GB | {kept(plan)} |")


def table(storyctl, folder):
    sdxl_shape.write_headers(folder / "sdxl")
    by_size = {size: plans(storyctl, folder, size) for size in SIZES}
    lines = [f"| machine | TFLOP/s, assumed | picture | {IDENTITY_FRAMES} identity frames | a panel that reads them | "
             "panels a call | peak | the UNet's weights |", "|---|---|---|---|---|---|---|---|"]
    for i, (name, _, speed) in enumerate(MACHINES):
        for size in SIZES:
            lines.append(row(name, speed, f"{size} x {size}", by_size[size][i]))
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storyctl", required=True)
    parser.add_argument("--write", type=pathlib.Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = table(args.storyctl, pathlib.Path(folder))
    print(text, end="")
    if args.write:
        page = args.write.read_text()
        before, rest = page.split(BEGIN)
        args.write.write_text(before + BEGIN + "\n" + text + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
