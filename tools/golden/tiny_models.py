#!/usr/bin/env python3
"""Makes the random-weight models that the tests run: tests/data/tiny_sdxl and tests/data/tiny_options.

  build/golden-venv/bin/python tools/golden/tiny_models.py

tiny_sdxl has SDXL's architecture with small channels and stores float32 in single files. tiny_options uses what other
checkpoints have: sharded files, fp16 variants, convolutions as projections, other block orders, float32 attention,
scale-shift norms, v prediction, eos_token_id 2. The tokenizers are the demo model's.
Needs diffusers 0.42.1, transformers 5.23, torch 2.11 (tools/setup --golden). The seed is fixed.
"""

import json
import math
import pathlib
import shutil

import torch
from diffusers import AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
DEMO = ROOT / "deploy" / "examples" / "demo-model"
START, END, VOCABULARY = 706, 707, 708
TOKENIZER_FILES = ("vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json")


def randomize(module, generator, gain=1.0):
    """Weights with variance gain^2 / fan-in and norms that are no identity, so that every tensor shows in the output."""
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                scale_of_norm = "norm" in name.lower() and name.endswith("weight")
                parameter.copy_(1 + 0.2 * noise if scale_of_norm else 0.1 * noise)
            elif "embedding.weight" in name:
                parameter.copy_(0.7 * noise)
            else:
                parameter.copy_(noise * gain / math.sqrt(parameter[0].numel()))
    return module.eval()


def text_encoder(kind, generator, **config):
    base = dict(vocab_size=VOCABULARY, max_position_embeddings=77, bos_token_id=START, eos_token_id=END)
    return randomize(kind(CLIPTextConfig(**{**base, **config})), generator, gain=1.3)


def save(model, folder, **options):
    model.save_pretrained(folder, safe_serialization=True, **options)


def write_shell(folder, scheduler):
    """model_index.json, tokenizers and scheduler."""
    for tokenizer in ("tokenizer", "tokenizer_2"):
        (folder / tokenizer).mkdir(parents=True)
        for name in TOKENIZER_FILES:
            shutil.copyfile(DEMO / tokenizer / name, folder / tokenizer / name)
    shutil.copyfile(DEMO / "model_index.json", folder / "model_index.json")
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", type(scheduler).__name__]
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    scheduler.save_pretrained(folder / "scheduler")


def tiny_sdxl(folder):
    generator = torch.Generator().manual_seed(20261122)
    write_shell(folder, EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"))
    save(text_encoder(CLIPTextModel, generator, hidden_size=16, intermediate_size=64, num_hidden_layers=2,
                      num_attention_heads=2, hidden_act="quick_gelu", pad_token_id=END, projection_dim=24),
         folder / "text_encoder")
    save(text_encoder(CLIPTextModelWithProjection, generator, hidden_size=16, intermediate_size=64,
                      num_hidden_layers=3, num_attention_heads=2, hidden_act="gelu", pad_token_id=0,
                      projection_dim=24), folder / "text_encoder_2")
    save(randomize(UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(8, 12, 16), layers_per_block=2,
        norm_num_groups=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2), attention_head_dim=(1, 2, 2), cross_attention_dim=32,
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24 + 6 * 8), generator), folder / "unet")
    save(randomize(AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(8, 16, 16), layers_per_block=1,
        norm_num_groups=4, sample_size=64, scaling_factor=0.13025, force_upcast=True,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3), generator),
        folder / "vae")


def tiny_options(folder):
    generator = torch.Generator().manual_seed(20261123)
    write_shell(folder, DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"))
    save(text_encoder(CLIPTextModel, generator, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                      num_attention_heads=4, hidden_act="gelu", pad_token_id=END, eos_token_id=2).half(),
         folder / "text_encoder", variant="fp16")
    save(text_encoder(CLIPTextModelWithProjection, generator, hidden_size=16, intermediate_size=32,
                      num_hidden_layers=2, num_attention_heads=2, hidden_act="quick_gelu", pad_token_id=0,
                      projection_dim=16, eos_token_id=2).half(), folder / "text_encoder_2", variant="fp16")
    save(randomize(UNet2DConditionModel(
        sample_size=[12, 16], in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=2, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), transformer_layers_per_block=2, attention_head_dim=2,
        cross_attention_dim=32, use_linear_projection=False, upcast_attention=True,
        resnet_time_scale_shift="scale_shift", flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6,
        addition_embed_type="text_time", addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=16 + 6 * 4), generator), folder / "unet", max_shard_size="80KB")
    save(randomize(AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(4, 8), layers_per_block=2,
        norm_num_groups=2, sample_size=32, scaling_factor=0.5, shift_factor=0.125, force_upcast=False,
        use_quant_conv=False, use_post_quant_conv=False,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2), generator).half(),
        folder / "vae", variant="fp16")


if __name__ == "__main__":
    for name, make in (("tiny_sdxl", tiny_sdxl), ("tiny_options", tiny_options)):
        shutil.rmtree(DATA / name, ignore_errors=True)
        make(DATA / name)
        size = sum(path.stat().st_size for path in (DATA / name).rglob("*") if path.is_file())
        print(f"{DATA / name}: {size / 1e3:.0f} kB")
