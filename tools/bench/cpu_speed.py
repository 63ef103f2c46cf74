#!/usr/bin/env python3
"""Times storyfarm beside diffusers on the processor: the same tiny model, size, steps, guidance and threads, fp32, in turn.

    build/golden-venv/bin/python tools/bench/cpu_speed.py --bin build/dev/bin [--model deploy/examples/demo-model]
                                 [--size 128] [--steps 20] [--threads 2] [--rounds 5] [--json FILE]

Needs Python with torch, diffusers and transformers of tools/versions.env, and sdxl_speed and storyctl in BIN. Each round
has first the one and then the other, so that what else the machine does hits both; the medians of all rounds count.
Loading and
encoding the prompt are left out. Exit code 1 with --check where a ratio is above 1.
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import speed_tables

ROOT = pathlib.Path(__file__).resolve().parents[2]
CALLS = 5  # of UNet and VAE a round
PROMPT = "an orange cat with a green shirt, standing in the forest"
PARTS = ("UNet call, two passes", "VAE decode", "whole picture")


class Diffusers:
    def __init__(self, args):
        import torch
        from diffusers import DDIMScheduler, StableDiffusionXLPipeline
        torch.set_num_threads(args.threads)
        self.torch, self.args = torch, args
        self.pipe = StableDiffusionXLPipeline.from_pretrained(args.model, torch_dtype=torch.float32, add_watermarker=False)
        self.pipe.scheduler = DDIMScheduler.from_config(self.pipe.scheduler.config, clip_sample=False, set_alpha_to_one=False)
        self.pipe.set_progress_bar_config(disable=True)

    def median(self, work):
        work()
        times = []
        for _ in range(CALLS):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    def round(self, number):
        torch, unet, edge = self.torch, self.pipe.unet, self.args.size // self.pipe.vae_scale_factor
        with torch.inference_mode():
            latents = torch.randn(2, unet.config.in_channels, edge, edge)
            text = torch.randn(2, 77, unet.config.cross_attention_dim)
            pooled = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
            added = {"text_embeds": torch.randn(2, pooled), "time_ids": torch.full((2, 6), float(self.args.size))}
            of_unet = self.median(lambda: unet(latents, 500, text, added_cond_kwargs=added).sample)
            of_vae = self.median(lambda: self.pipe.vae.decode(latents[:1]).sample)
            texts = dict(zip(("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds",
                              "negative_pooled_prompt_embeds"), self.pipe.encode_prompt(PROMPT)))
            start = time.perf_counter()
            self.pipe(**texts, num_inference_steps=self.args.steps, height=self.args.size, width=self.args.size,
                      guidance_scale=5.0, generator=torch.Generator().manual_seed(number), output_type="pt")
            return dict(zip(PARTS, (of_unet, of_vae, time.perf_counter() - start)))


class Storyfarm:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder

    def run(self, *words):
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, words))}\nended with {done.returncode}:\n{done.stderr[-4000:]}")
        return json.loads(done.stdout)

    def round(self, number):
        args = self.args
        # It counts in SDXL's own pixels, eight a latent.
        blocks = json.loads((args.model / "vae/config.json").read_text())["block_out_channels"]
        edge = args.size // 2 ** (len(blocks) - 1)
        parts = self.run(args.bin / "sdxl_speed", args.model, "--device", "cpu", "--dtype", "fp32", "--batch", 2, "--size",
                         8 * edge, "--threads", args.threads, "--calls", CALLS, "--matmul", 256, "--vae")
        story = self.folder / "story.json"
        story.write_text(json.dumps({
            # The first one is small, so that it is drawn by itself, and warms what the second one takes.
            "title": "two", "panels": [{"text": f"[NC] {PROMPT}", "caption": "", "size": [args.size // 2, args.size // 2]},
                                       {"text": f"[NC] {PROMPT}", "caption": ""}],
            "settings": dict(width=args.size, height=args.size, steps=args.steps, seed=number, guidance_scale=5,
                             scheduler="ddim", consistency="off", freeu="off", dtype="fp32")}))
        drawn = self.run(args.bin / "storyctl", "render", story, "--model", args.model, "--out", self.folder / f"out-{number}",
                         "--device", "cpu", "--threads", args.threads, "--json")
        picture = drawn["panels"][1]["render_ms"] / 1e3
        return dict(zip(PARTS, (parts["unet"][0]["ms"] / 1e3, parts["vae"]["ms"] / 1e3, picture)))


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, type=pathlib.Path)
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "deploy/examples/demo-model")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    import diffusers
    import torch
    import transformers
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = Diffusers(args), Storyfarm(args, pathlib.Path(folder))
        for number in range(args.rounds):
            rounds.append({"storyfarm": ours.round(number), "diffusers": theirs.round(number)})
            print(f"# {json.dumps(rounds[-1])}", flush=True)
    medians = {who: {part: statistics.median(each[who][part] for each in rounds) for part in PARTS}
               for who in ("storyfarm", "diffusers")}
    ratios = {part: medians["storyfarm"][part] / medians["diffusers"][part] for part in PARTS}
    report = {"processor": processor(), "cores": os.cpu_count(), "torch": torch.__version__,
              "diffusers": diffusers.__version__, "size": args.size, "steps": args.steps, "threads": args.threads,
              "rounds": rounds, "medians": medians, "ratios": ratios}
    print(f"\n{report['processor']}, {args.threads} of {report['cores']} cores, torch {torch.__version__}, diffusers "
          f"{diffusers.__version__}; {args.size} x {args.size}, {args.steps} steps, guidance 5, fp32, {args.rounds} rounds\n")
    print(speed_tables.write_cpu(report))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))
    return 1 if args.check and max(ratios.values()) > 1 else 0


if __name__ == "__main__":
    sys.exit(main())
