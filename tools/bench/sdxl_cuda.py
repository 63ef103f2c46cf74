#!/usr/bin/env python3
"""Times storyfarm beside diffusers on one CUDA card, SDXL's true shape, random weights, fp16.

    tools/bench/sdxl_cuda.py --storyctl BIN/storyctl --work FOLDER [--size 1024] [--steps 50] [--panels 4] [--json FILE]

Needs Python with torch (CUDA), diffusers and transformers of tools/versions.env. Makes the model once in FOLDER
(7 GB), then runs in turn: diffusers one picture at a time, `storyctl render` with consistency off (the same pictures),
and with consistency on (identity frames, bank and read frames). Prints a table; ratios are of times in this one run.
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
import warnings

import sdxl_shape

PROMPTS = ["a cat walking in the forest", "a cat sitting on the beach", "a cat reading a book in a room",
           "a cat jumping in the snow", "a cat waving in the city", "a cat sleeping at night",
           "a cat running in the desert", "a cat dancing in the mountains"]


def run_diffusers(folder, size, steps, prompts):
    import torch
    from diffusers import DDIMScheduler, StableDiffusionXLPipeline
    pipe = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=torch.float16, add_watermarker=False).to("cuda")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False, set_alpha_to_one=False)
    pipe.set_progress_bar_config(disable=True)
    call = dict(height=size, width=size, guidance_scale=5.0, output_type="pt")
    pipe(prompts[0], num_inference_steps=2, **call)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for number, prompt in enumerate(prompts):
        start = time.perf_counter()
        pipe(prompt, num_inference_steps=steps, generator=torch.Generator("cuda").manual_seed(number), **call)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    del pipe
    torch.cuda.empty_cache()
    return seconds, peak


def run_storyctl(storyctl, folder, out, size, steps, prompts, consistency, id_length):
    out.mkdir(parents=True, exist_ok=True)
    story = out / "story.txt"
    lines = ["[Tom] a grey cat", ""] + [prompt.replace("a cat", "[Tom]") for prompt in prompts]
    story.write_text("\n".join(lines) + "\n")
    settings = out / "settings.json"
    settings.write_text(json.dumps(dict(
        width=size, height=size, steps=steps, guidance_scale=5, scheduler="ddim", seed=1, id_length=id_length,
        token_rate=0.5, consistency="on" if consistency else "off", freeu="off", dtype="fp16")))
    command = [storyctl, "render", str(story), "--model", str(folder), "--out", str(out / "pictures"), "--settings",
               str(settings), "--device", "cuda:0", "--latents", str(out / "latents.safetensors"), "--json"]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    wall = time.perf_counter() - start
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stderr[-4000:]}")
    (out / "render.json").write_text(done.stdout)
    return json.loads(done.stdout), wall, done.stderr


def check_latents(path, panels, size):
    import torch
    from safetensors.torch import load_file
    latents = load_file(path)
    assert sorted(latents) == sorted(f"latents/{p}" for p in range(panels)), sorted(latents)
    for name, value in latents.items():
        assert value.shape == (4, size // 8, size // 8), (name, value.shape)
        assert torch.isfinite(value).all(), name
        assert value.std() > 1e-3, name


def gib(count):
    return f"{count / 2**30:.2f}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--storyctl", required=True)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--panels", type=int, default=4)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    import diffusers
    import torch
    import transformers
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, diffusers {diffusers.__version__}, "
          f"{platform.platform()}", flush=True)
    prompts = PROMPTS[:args.panels]
    model = args.work / "sdxl-random"
    start = time.perf_counter()
    sdxl_shape.write_model(model)
    print(f"model made in {time.perf_counter() - start:.0f} s", flush=True)
    rows = []
    seconds, peak = run_diffusers(model, args.size, args.steps, prompts)
    base = statistics.median(seconds)
    rows.append(("diffusers eager, one at a time", base, sum(seconds), peak[0], peak[1]))
    print(f"diffusers: {[round(s, 2) for s in seconds]}", flush=True)
    details = {}
    for consistency, id_length in ((False, 1), (True, 2)):
        name = "consistency on, 2 identity frames" if consistency else "consistency off"
        out = args.work / ("on" if consistency else "off")
        report, wall, stderr = run_storyctl(args.storyctl, model, out, args.size, args.steps, prompts, consistency, id_length)
        check_latents(out / "latents.safetensors", args.panels, args.size)
        details[name] = dict(report=report, wall_seconds=wall)
        panels = report["panels"]
        milliseconds = [p["render_ms"] for p in panels]
        peak = report["peak_bytes"]
        rows.append((f"storyctl, {name}", statistics.median(milliseconds) / 1e3, sum(milliseconds) / 1e3, peak, None))
        print(f"storyctl, {name}: {[round(m / 1e3, 2) for m in milliseconds]}, wall with loading {wall:.1f} s", flush=True)
        print(stderr[-1500:], flush=True)
    print(f"\n{args.panels} panels of {args.size}x{args.size}, {args.steps} steps, guidance 5, fp16")
    print(f"{'':40} {'s a panel':>10} {'ratio':>6} {'s in all':>9} {'peak GiB':>9} {'reserved':>9}")
    for name, median, total, allocated, reserved in rows:
        print(f"{name:40} {median:10.2f} {median / base:6.2f} {total:9.2f} {gib(allocated):>9} "
              f"{gib(reserved) if reserved else '':>9}")
    if args.json:
        args.json.write_text(json.dumps(dict(
            device=torch.cuda.get_device_name(), torch=torch.__version__, diffusers=diffusers.__version__,
            size=args.size, steps=args.steps,
            rows=[dict(name=r[0], seconds_a_panel=r[1], seconds=r[2], peak_bytes=r[3], reserved_bytes=r[4]) for r in rows],
            details=details), indent=1))


if __name__ == "__main__":
    main()
