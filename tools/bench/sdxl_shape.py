"""SDXL's true shape, for benchmarks: its configs, a folder that has every header of the model and no weights, and one
with random weights in fp16 (7 GB), which a GPU makes:

    tools/bench/sdxl_shape.py FOLDER
"""
import json
import pathlib
import shutil
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

UNET = dict(
    act_fn="silu", addition_embed_type="text_time", addition_embed_type_num_heads=64, addition_time_embed_dim=256,
    attention_head_dim=[5, 10, 20], block_out_channels=[320, 640, 1280], cross_attention_dim=2048,
    down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], in_channels=4, out_channels=4,
    layers_per_block=2, projection_class_embeddings_input_dim=2816, sample_size=128,
    transformer_layers_per_block=[1, 2, 10], use_linear_projection=True)
VAE = dict(
    block_out_channels=[128, 256, 512, 512], down_block_types=["DownEncoderBlock2D"] * 4,
    up_block_types=["UpDecoderBlock2D"] * 4, latent_channels=4, layers_per_block=2, sample_size=1024,
    scaling_factor=0.13025, force_upcast=True)
TEXT = dict(bos_token_id=0, eos_token_id=2, pad_token_id=1, vocab_size=49408, max_position_embeddings=77)
TEXT_1 = dict(TEXT, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
              projection_dim=768, hidden_act="quick_gelu")
TEXT_2 = dict(TEXT, hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20,
              projection_dim=1280, hidden_act="gelu")
SCHEDULER = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000,
                 timestep_spacing="leading", steps_offset=1, prediction_type="epsilon")


def build(device):
    """UNet, VAE and text encoders by their names in a model's folder; on the device "meta" they take no memory."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
    with torch.device(device):
        return {"unet": UNet2DConditionModel(**UNET), "vae": AutoencoderKL(**VAE),
                "text_encoder": CLIPTextModel(CLIPTextConfig(**TEXT_1)),
                "text_encoder_2": CLIPTextModelWithProjection(CLIPTextConfig(**TEXT_2))}


def scheduler():
    from diffusers import EulerDiscreteScheduler
    return EulerDiscreteScheduler(**SCHEDULER)


def copy_tokenizers(folder):
    """The demo model's, with vocab.json and merges.txt, whatever a saver wrote."""
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(ROOT / "deploy/examples/demo-model" / name, folder / name, dirs_exist_ok=True)


def write_headers(folder):
    """A folder that `storyctl plan` reads as SDXL in fp16: safetensors files whose tensors are holes on the disk."""
    if (folder / "model_index.json").exists():
        return
    for name, part in build("meta").items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        if name in ("unet", "vae"):
            part.save_config(folder / name)
        else:
            part.config.architectures = [type(part).__name__]
            part.config.save_pretrained(folder / name)
        header, offset = {}, 0
        for tensor, value in sorted(part.state_dict().items()):
            if not value.is_floating_point():
                continue
            tensor = tensor if name in ("unet", "vae") or tensor.startswith(("text_model.", "text_projection.")) \
                else "text_model." + tensor
            header[tensor] = {"dtype": "F16", "shape": list(value.shape),
                              "data_offsets": [offset, offset + 2 * value.numel()]}
            offset += 2 * value.numel()
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        stem = "diffusion_pytorch_model" if name in ("unet", "vae") else "model"
        with open(folder / name / f"{stem}.safetensors", "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + offset)
    scheduler().save_pretrained(folder / "scheduler")
    copy_tokenizers(folder)
    index = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True,
             "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
             "text_encoder": ["transformers", "CLIPTextModel"],
             "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
             "tokenizer": ["transformers", "CLIPTokenizer"], "tokenizer_2": ["transformers", "CLIPTokenizer"],
             "scheduler": ["diffusers", "EulerDiscreteScheduler"]}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))


def write_model(folder):
    """A diffusers folder of SDXL's shape with the framework's own random start values."""
    import torch
    from diffusers import StableDiffusionXLPipeline
    from transformers import CLIPTokenizer
    if (folder / "model_index.json").exists():
        return
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float16)
    parts = build("cuda")
    torch.set_default_dtype(torch.float32)
    demo = ROOT / "deploy/examples/demo-model"
    pipe = StableDiffusionXLPipeline(
        **parts, tokenizer=CLIPTokenizer.from_pretrained(demo / "tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(demo / "tokenizer_2"), scheduler=scheduler(),
        add_watermarker=False)
    pipe.save_pretrained(folder)
    copy_tokenizers(folder)


if __name__ == "__main__":
    write_model(pathlib.Path(sys.argv[1]))
