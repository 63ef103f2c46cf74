#!/usr/bin/env python3
"""Holds what the planner predicts against what a device takes, and times a story under caps.

    tools/bench/memory_sweep.py sweep --storyctl BIN/storyctl --model FOLDER [--device cpu] [--sizes 128,256] [--json FILE]
    tools/bench/memory_sweep.py caps  --storyctl BIN/storyctl --model FOLDER [--device cpu] [--caps none,7.5,4.0,2.5]

`sweep` renders stories over sizes, frames, identity frames, number formats and caps on memory, one engine a story, and
prints for every group the predicted and the measured peak, what libraries hold apart. Exit code 1 where a prediction is
under the measured peak, or over it by more than a tenth and 10 MB (what libraries' workspaces differ between shapes).

`caps` draws the same story (identity frames and as many that read them) with each cap on memory, in GB, and prints
seconds (loading apart) and their ratio to no cap. A cap is what plans may reach: the reserve that a planner keeps is put
on top. The model's files should lie in the page cache: run it twice, or just after they were written.

On a GPU box: make the model with tools/bench/sdxl_cuda.py, then --device cuda:0 --sizes 768,1024 --dtypes fp16.
"""
import argparse
import itertools
import json
import pathlib
import platform
import subprocess
import sys
import tempfile

MOST_OVER = 1.10
WORKSPACE_MB = 10
TRIES_OF_CAPS = (1.001, 1.1, 1.3)  # of the least that would do


def write_story(folder, identity_frames, readers):
    path = folder / f"story-{identity_frames}-{readers}.txt"
    scenes = ("sitting on the beach", "running in the snow", "reading a book in the forest", "waving in the city")
    panels = [f"[Bo] {scenes[i % len(scenes)]}" for i in range(identity_frames + readers)]
    path.write_text("[Bo] a bear in a red shirt\n\n" + "\n".join(panels) + "\n")
    return path


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder, self.runs, self.files = args, folder, 0, 0

    def reserve(self, gigabytes):
        """What a planner keeps of a device with so much."""
        backend = self.args.device.split(":")[0]
        size = f"{gigabytes * 1e3:.3f}MB"
        plan = self.storyctl("plan", self.story(1, 0), "--device", f"{backend},{size},free={size}", "--settings",
                             self.settings(dict(steps=1)), any_code=True)
        device = plan["devices"][0]
        return (device["free_bytes"] - device["budget_bytes"]) / 1e9

    def least(self, story, settings):
        """Of memory for a group, in GB, with which nothing is refused."""
        backend = self.args.device.split(":")[0]
        plan = self.storyctl("plan", story, "--device", f"{backend},1000GB,free=1MB", "--settings",
                             self.settings(settings), any_code=True)
        refusals = [group["refusal"]["needed_bytes"] for group in plan["devices"][0]["groups"] if "refusal" in group]
        return max(refusals) / 1e9

    def story(self, identity_frames, readers):
        return write_story(self.folder, identity_frames, readers)

    def settings(self, values):
        self.files += 1
        path = self.folder / f"settings-{self.files}.json"
        path.write_text(json.dumps(values))
        return path

    def storyctl(self, command, story, *more, any_code=False):
        line = [self.args.storyctl, command, story, "--model", self.args.model, "--json", *more]
        done = subprocess.run([str(part) for part in line], capture_output=True, text=True)
        if done.returncode != 0 and not any_code:
            sys.exit(f"{' '.join(str(part) for part in line)}\nended with {done.returncode}:\n{done.stderr[-4000:]}")
        return json.loads(done.stdout)

    def render(self, story, settings, cap, lift=False):
        """The groups of one render, cap in GB or None. `lift`: plans keep to it, the device is not held to them."""
        self.runs += 1
        more = ["--out", self.folder / f"out-{self.runs}", "--device", self.args.device, "--settings",
                self.settings(settings)]
        if lift:
            more.append("--lift-cap")
        if self.args.threads:
            more += ["--threads", self.args.threads]
        if cap is not None:
            more += ["--limit-memory-gb", f"{cap + self.reserve(cap):.9f}"]
        return self.storyctl("render", story, *more)["plans"]


def kept(plan):
    words = [plan["weights"]]
    if plan["int8_weights"]:
        words.append("int8")
    if plan["graphs"]:
        words.append("graphs")
    if plan["lock_step"]:
        words.append("lock step")
    if not plan["guidance_batched"]:
        words.append("halves in turn")
    return f"{' '.join(words)}, batch {plan['batch']}, tile {plan['vae_tile']}"


def sweep(bench, args):
    rows, bad = [], 0
    print("| size | dtype | frames | identity | cap GB | how | predicted MB | measured MB | over | libraries MB |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for size, dtype, (identity, readers) in itertools.product(args.sizes, args.dtypes, ((1, 1), (3, 2), (2, 4))):
        story = bench.story(identity, readers)
        settings = dict(width=size, height=size, steps=args.steps, id_length=identity, dtype=dtype)
        caps = [None] + [bench.least(story, settings) * times for times in TRIES_OF_CAPS]
        for cap, int8 in [(cap, False) for cap in caps] + [(caps[1], True)]:
            for plan in bench.render(story, settings | dict(int8_weights=int8), cap, lift=True):
                if "peak_bytes" not in plan:
                    continue  # ran out and was planned again
                predicted = (plan["predicted_peak_bytes"] - plan["framework_bytes"]) / 1e6
                measured = (plan["peak_bytes"] - plan["overhead_bytes"]) / 1e6
                over = predicted / measured
                good = measured <= predicted <= MOST_OVER * measured + WORKSPACE_MB
                bad += not good
                rows.append(dict(size=size, dtype=dtype, cap_gb=cap, over=over, plan=plan))
                print(f"| {size} | {dtype} | {identity} + {readers} | {identity} | {'' if cap is None else f'{cap:.3f}'} | "
                      f"{kept(plan)} | {predicted:.1f} | {measured:.1f} | {over:.3f} | "
                      f"{plan['overhead_bytes'] / 1e6:.1f} |", flush=True)
    overs = sorted(row["over"] for row in rows)
    print(f"\n{len(rows)} points; predicted over measured: {overs[0]:.3f} to {overs[-1]:.3f}, median "
          f"{overs[len(overs) // 2]:.3f}; {bad} outside 1 to {MOST_OVER} and {WORKSPACE_MB} MB")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    return 1 if bad else 0


def caps(bench, args):
    story = bench.story(args.frames, args.frames)
    size = args.sizes[-1]
    settings = dict(width=size, height=size, steps=args.steps, id_length=args.frames, token_rate=0.5, dtype=args.dtypes[0],
                    int8_weights=args.int8)
    print(f"{platform.platform()}, {args.device}; {args.frames} identity frames and {args.frames} that read them, "
          f"{size} x {size}, {args.steps} steps, {args.dtypes[0]}, int8 weights {'allowed' if args.int8 else 'never'}\n")
    print("| cap GB | seconds | of no cap | predicted peak MB | measured peak MB | weights |\n|---|---|---|---|---|---|")
    uncapped = None
    for text in args.caps:
        cap = None if text == "none" else float(text)
        groups = bench.render(story, settings, cap)
        seconds = sum(group.get("render_ms", 0) for group in groups) / 1e3
        uncapped = uncapped or seconds
        print(f"| {text} | {seconds:.2f} | {seconds / uncapped:.2f} | "
              f"{max(group['predicted_peak_bytes'] for group in groups) / 1e6:.0f} | "
              f"{max(group.get('peak_bytes', 0) for group in groups) / 1e6:.0f} | {kept(groups[-1])} |", flush=True)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("sweep", "caps"))
    parser.add_argument("--storyctl", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--sizes", type=lambda text: [int(part) for part in text.split(",")], default=[128, 192, 256, 320])
    parser.add_argument("--dtypes", type=lambda text: text.split(","), default=["fp32"])
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--frames", type=int, default=4, help="caps: identity frames, and as many that read them")
    parser.add_argument("--caps", type=lambda text: text.split(","), default=["none", "7.5", "4.0", "2.5"])
    parser.add_argument("--int8", action="store_true", help="caps: allow int8 weights")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, pathlib.Path(folder))
        sys.exit((sweep if args.what == "sweep" else caps)(bench, args))


if __name__ == "__main__":
    main()
