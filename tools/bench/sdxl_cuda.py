#!/usr/bin/env python3
"""Times storyfarm beside diffusers on one CUDA card, SDXL's true shape, random weights, fp16.

    tools/bench/sdxl_cuda.py --speed BIN/sdxl_speed --work FOLDER [--size 1024] [--steps 50] [--compile] [--json FILE]

Needs Python with torch (CUDA), diffusers and transformers of tools/versions.env. Makes the model once in FOLDER (7 GB),
then runs in turn: diffusers as it comes; with --compile also compiled and channels last (2 minutes of compiling);
storyfarm's UNet and VAE by themselves; whole pictures, alone, together and with identity. Prints tables; ratios are of
times in this one run, a card's matmul rate is that of 8192 x 8192 in this run.
"""
import argparse
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import time
import warnings

import sdxl_shape
import speed_tables

PROMPTS = ["a cat walking in the forest", "a cat sitting on the beach", "a cat reading a book in a room"]


def run_diffusers(folder, size, steps, compiled):
    import torch
    from diffusers import DDIMScheduler, StableDiffusionXLPipeline
    pipe = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=torch.float16, add_watermarker=False).to("cuda")
    pipe.vae.to(torch.bfloat16)
    pipe.vae.config.force_upcast = False
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False, set_alpha_to_one=False)
    pipe.set_progress_bar_config(disable=True)
    call = dict(height=size, width=size, guidance_scale=5.0)

    def draw(number, count):
        latents = pipe(PROMPTS[number], num_inference_steps=count, output_type="latent",
                       generator=torch.Generator("cuda").manual_seed(number), **call).images
        return pipe.vae.decode((latents / pipe.vae.config.scaling_factor).to(torch.bfloat16)).sample

    start = time.perf_counter()
    if compiled:
        pipe.unet.to(memory_format=torch.channels_last)
        pipe.vae.to(memory_format=torch.channels_last)
        pipe.unet = torch.compile(pipe.unet, fullgraph=True)
        pipe.vae.decode = torch.compile(pipe.vae.decode, fullgraph=True)
    with torch.inference_mode():
        draw(0, 3)
        torch.cuda.synchronize()
        first = time.perf_counter() - start
        torch.cuda.reset_peak_memory_stats()
        seconds = []
        for number in range(len(PROMPTS)):
            start = time.perf_counter()
            draw(number, steps)
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_reserved()
    del pipe
    torch.cuda.empty_cache()
    return dict(seconds=statistics.median(seconds), all=seconds, first_call=first, peak_bytes=peak)


def run_speed(args, model, *more):
    command = [args.speed, str(model), "--device", "cuda:0", "--size", str(args.size), "--steps", str(args.steps),
               "--graphs", *more]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", required=True)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--compile", action="store_true")
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
    model = args.work / "sdxl-random"
    sdxl_shape.write_model(model)
    report = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "diffusers": diffusers.__version__,
              "size": args.size, "steps": args.steps}

    def keep(part, measured):
        # At once: who is cut short has the parts before.
        report[part] = measured
        if args.json:
            args.json.write_text(json.dumps(report, indent=1))

    keep("parts", run_speed(args, model, "--profile", "--vae", "--tiles", "--gates", "--fidelity", "--int8"))
    # Banks lie in memory: what is compared is devices, not this machine's disk.
    scratch = ["--scratch", "/dev/shm"] if pathlib.Path("/dev/shm").is_dir() else []
    keep("pictures", run_speed(args, model, "--pictures", *scratch))
    keep("diffusers eager", run_diffusers(model, args.size, args.steps, compiled=False))
    if args.compile:
        keep("diffusers compiled", run_diffusers(model, args.size, args.steps, compiled=True))
    print(speed_tables.write(report))


if __name__ == "__main__":
    main()
