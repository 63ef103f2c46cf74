#!/usr/bin/env python3
"""Inputs and outputs of each part of SDXL as diffusers 0.42.1 and transformers 5.23 compute them in float32 on the CPU.

  build/golden-venv/bin/python tools/golden/components.py

Writes tests/data/golden/{text,unet,vae}_{model}.safetensors; tests/pipeline/sdxl/parity_test.cc reads them.
"""

import torch

from reference import GOLDEN, normal, tiny_options, tiny_sdxl, write

PROMPTS = [
    "a cat, standing in the forest",
    "",
    "wow!! a Bear with a red hat reading a book at night! " + "walking on the beach, " * 30,  # cut at 77 tokens
]
FREEU = dict(s1=0.6, s2=0.4, b1=1.1, b2=1.2)


def text(model):
    first_ids, second_ids = model.token_ids(PROMPTS)
    first = model.text_encoders[0](first_ids, output_hidden_states=True)
    second = model.text_encoders[1](second_ids, output_hidden_states=True)
    embeds, pooled = model.encode(PROMPTS)
    return {
        "first_ids": first_ids.int(), "second_ids": second_ids.int(),
        "first_penultimate": first.hidden_states[-2], "first_last": first.last_hidden_state,
        "first_pooled": first.pooler_output,
        "second_penultimate": second.hidden_states[-2], "second_last": second.last_hidden_state,
        "embeds": embeds, "pooled": pooled,
    }


def unet(model, generator):
    """Cases named by grid; the timestep and whether FreeU is on are in the file too."""
    config = model.unet.config
    tensors = {}
    # Square, odd on every level, a row of the coarsest grid one token high.
    cases = [("square", 16, 16, 981.0, False), ("odd", 13, 11, 500.0, False), ("fraction", 10, 14, 123.4375, False),
             ("freeu_square", 16, 16, 981.0, True), ("freeu_odd", 13, 11, 37.0, True),
             ("freeu_flat", 2 ** (len(config.block_out_channels) - 1), 15, 241.0, True)]
    pooled_size = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    for name, height, width, timestep, freeu in cases:
        latents = normal(generator, 2, config.in_channels, height, width)
        context = normal(generator, 2, 77, config.cross_attention_dim)
        pooled = normal(generator, 2, pooled_size)
        factor = model.vae_factor
        time_ids = model.time_ids(height * factor, width * factor, 2)
        if freeu:
            model.unet.enable_freeu(**FREEU)
        output = model.unet(latents, torch.tensor(timestep), context,
                            added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids}).sample
        model.unet.disable_freeu()
        for key, value in dict(latents=latents, context=context, pooled=pooled, time_ids=time_ids, output=output,
                               timestep=torch.tensor([timestep], dtype=torch.float64),
                               freeu=torch.tensor([freeu], dtype=torch.uint8)).items():
            tensors[f"{name}/{key}"] = value
    return tensors


def vae(model, generator):
    config, factor = model.vae.config, model.vae_factor
    shift = config.shift_factor or 0.0
    tensors = {}
    latents = normal(generator, 2, config.latent_channels, 12, 17) * 3 * config.scaling_factor
    to_decode = latents / config.scaling_factor + shift
    decoded = model.vae.decode(to_decode).sample
    tensors["latents"], tensors["decoded"] = latents, decoded
    rgb = (decoded / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()  # VaeImageProcessor.postprocess
    tensors["rgb"] = torch.from_numpy((rgb * 255).round().astype("uint8"))
    pictures = normal(generator, 1, 3, 8 * factor, 11 * factor).clamp(-1, 1)
    tensors["pictures"] = pictures
    tensors["encoded"] = (model.vae.encode(pictures).latent_dist.mean - shift) * config.scaling_factor
    return tensors


if __name__ == "__main__":
    for name, load, seed in (("tiny_sdxl", tiny_sdxl, 1), ("tiny_options", tiny_options, 2)):
        model = load()
        generator = torch.Generator().manual_seed(seed)
        write(GOLDEN / f"text_{name}.safetensors", text(model))
        write(GOLDEN / f"unet_{name}.safetensors", unet(model, generator))
        write(GOLDEN / f"vae_{name}.safetensors", vae(model, generator))
