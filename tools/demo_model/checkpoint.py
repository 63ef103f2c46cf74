"""Weights of a model in training: one folder of fp16 safetensors, each part whole or not at all.

    vae.safetensors  unet.safetensors  text_encoder.safetensors  text_encoder_2.safetensors  tokenizer/  tokenizer_2/
"""
import os
from pathlib import Path

from safetensors.torch import load_file, save_file

import architecture

TRAINED = ("unet", "text_encoder", "text_encoder_2")


def save_half(path, module):
    """A module's weights in fp16: a run that ends badly leaves the file before it."""
    tensors = {name: (value.half() if value.is_floating_point() else value).contiguous().cpu() for name, value in module.state_dict().items()}
    path = Path(path)
    save_file(tensors, str(path) + ".part")
    os.replace(str(path) + ".part", path)


def load(path, module):
    """Fills the module, in float32. Positions of tokens are counted and not learnt: a file may leave them out."""
    missing, unexpected = module.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in load_file(path).items()}, strict=False)
    if unexpected or any("position_ids" not in name for name in missing):
        raise SystemExit(f"{path} does not fit the architecture: missing {missing}, unexpected {unexpected}")
    return module


def load_vae(folder):
    path = Path(folder) / "vae.safetensors"
    return load(path, architecture.vae(load_file(path)["post_quant_conv.weight"].shape[0])).eval()


def modules(vae, tokenizers):
    """The parts of TRAINED as they are before training."""
    return [architecture.unet(vae.config.latent_channels), *architecture.text_encoders(tokenizers[0])]


def load_modules(folder, vae, tokenizers):
    return [load(Path(folder) / f"{name}.safetensors", module) for name, module in zip(TRAINED, modules(vae, tokenizers))]
