"""What the golden scripts share: the tiny models as diffusers and transformers load them, and one way to write files."""

import json
import pathlib

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
GOLDEN = DATA / "golden"

torch.set_grad_enabled(False)
torch.set_num_threads(1)


class Model:
    """One model folder, every part in float32 on the CPU."""

    def __init__(self, name, variant=None):
        self.folder = DATA / name
        at = str(self.folder)
        self.tokenizers = [CLIPTokenizer.from_pretrained(at, subfolder=part) for part in ("tokenizer", "tokenizer_2")]
        self.text_encoders = [
            kind.from_pretrained(at, subfolder=part, variant=variant, dtype=torch.float32).eval()
            for kind, part in ((CLIPTextModel, "text_encoder"), (CLIPTextModelWithProjection, "text_encoder_2"))
        ]
        self.unet = UNet2DConditionModel.from_pretrained(at, subfolder="unet").eval()
        self.vae = AutoencoderKL.from_pretrained(at, subfolder="vae", variant=variant).float().eval()
        self.vae_factor = 2 ** (len(self.vae.config.block_out_channels) - 1)

    def token_ids(self, texts):
        return [
            tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
            for tokenizer in self.tokenizers
        ]

    def encode(self, texts):
        """(embeds [B, 77, D1 + D2], pooled [B, P]) as StableDiffusionXLPipeline.encode_prompt makes them."""
        ids = self.token_ids(texts)
        first, second = [
            encoder(part, output_hidden_states=True) for encoder, part in zip(self.text_encoders, ids)
        ]
        return torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1), second.text_embeds

    def time_ids(self, height, width, batch):
        return torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32).repeat(batch, 1)


def tiny_sdxl():
    return Model("tiny_sdxl")


def tiny_options():
    return Model("tiny_options", variant="fp16")


def normal(generator, *shape):
    return torch.randn(*shape, generator=generator)


def write(path, tensors, metadata=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in (metadata or {}).items()}
    save_file({key: value.contiguous().clone() for key, value in tensors.items()}, str(path), metadata=text or None)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e3:.0f} kB")
