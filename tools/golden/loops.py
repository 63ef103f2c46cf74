#!/usr/bin/env python3
"""Whole runs of diffusers 0.42.1's StableDiffusionXLPipeline on tiny_sdxl: prompts in, latents of every step out.

  build/golden-venv/bin/python tools/golden/loops.py

Writes tests/data/golden/loop_{scheduler}.safetensors: noise [B, C, h, w] before init_noise_sigma, latents/{step} after
each step, image uint8 [B, H, W, 3]. Prompts, negative prompt, guidance, steps and whether FreeU is on stand in the
file's metadata.
"""

import json

import torch
from diffusers import StableDiffusionXLPipeline

from consistent_attention import FREEU, SCHEDULERS
from reference import GOLDEN, normal, tiny_sdxl, write

PROMPTS = ["a cat, sitting on the beach", "a robot with a top hat, waving in the city"]
NEGATIVE = "night, far away"
STEPS, GUIDANCE, WIDTH, HEIGHT = 6, 5.0, 48, 64


def run(model, sampler, freeu):
    config = model.folder / "scheduler" / "scheduler_config.json"
    scheduler = SCHEDULERS[sampler](json.loads(config.read_text()))
    pipeline = StableDiffusionXLPipeline(
        vae=model.vae, text_encoder=model.text_encoders[0], text_encoder_2=model.text_encoders[1],
        tokenizer=model.tokenizers[0], tokenizer_2=model.tokenizers[1], unet=model.unet, scheduler=scheduler,
        force_zeros_for_empty_prompt=True)
    pipeline.set_progress_bar_config(disable=True)
    if freeu:
        pipeline.enable_freeu(**FREEU)
    factor = model.vae_factor
    noise = normal(torch.Generator().manual_seed(3), len(PROMPTS), model.unet.config.in_channels, HEIGHT // factor,
                   WIDTH // factor)
    tensors = {"noise": noise}

    def keep(_, step, timestep, values):
        tensors[f"latents/{step}"] = values["latents"]
        return values

    images = pipeline(
        PROMPTS, negative_prompt=[NEGATIVE] * len(PROMPTS), latents=noise, num_inference_steps=STEPS,
        guidance_scale=GUIDANCE, height=HEIGHT, width=WIDTH, output_type="np", callback_on_step_end=keep).images
    tensors["image"] = torch.from_numpy((images * 255).round().astype("uint8"))
    pipeline.disable_freeu()
    write(GOLDEN / f"loop_{sampler}.safetensors", tensors, {
        "prompts": PROMPTS, "negative_prompt": NEGATIVE, "steps": str(STEPS), "guidance_scale": str(GUIDANCE),
        "width": str(WIDTH), "height": str(HEIGHT), "freeu": "on" if freeu else "off"})


if __name__ == "__main__":
    tiny = tiny_sdxl()
    for name, with_freeu in (("ddim", True), ("euler", False), ("dpmpp_2m_karras", False)):
        run(tiny, name, with_freeu)
