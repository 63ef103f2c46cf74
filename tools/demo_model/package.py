"""Packs a trained model into the folder that storyfarm and diffusers read.

    python tools/demo_model/package.py --from DIR --to FOLDER

DIR is train_unet.py's. Writes SDXL's layout in fp16, words.txt (what the model was taught) and checks what it wrote: that diffusers' StableDiffusionXLPipeline
loads it, that it is at most 20 MB, and that the tokenizers' files say what the training said.
"""
import argparse
import shutil
import sys
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline

import architecture
import sentences
import tokenizer as text
from checkpoint import load_modules, load_vae

LIMIT = 20_000_000


def pipeline(folder):
    tokenizers, vae = text.load(folder), load_vae(folder)
    unet, first, second = [module.half() for module in load_modules(folder, vae, tokenizers)]
    return StableDiffusionXLPipeline(vae=vae.half(), text_encoder=first, text_encoder_2=second, tokenizer=tokenizers[0], tokenizer_2=tokenizers[1], unet=unet,
                                     scheduler=architecture.scheduler(), force_zeros_for_empty_prompt=True, add_watermarker=False)


def write_words(path):
    lines = ["# The words that this model was taught; what else a prompt says, it draws as if it were not there."]
    path.write_text("\n".join(lines + sentences.known_words()) + "\n")


def check(folder, trained):
    loaded = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=torch.float16)
    prompts = ["a cartoon of a robot jumping in the forest", "a bear with a red striped shirt, reading a book at night, close-up!", ""]
    for wanted, tokenizer in zip(text.encode(text.load(trained), prompts), (loaded.tokenizer, loaded.tokenizer_2)):
        ids = tokenizer(prompts, padding="max_length", max_length=text.LENGTH, return_tensors="pt").input_ids
        if not torch.equal(ids, wanted.long()):
            sys.exit(f"{folder}: the packed tokenizer gives other tokens than the one trained with")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > LIMIT:
        sys.exit(f"{folder} holds {size} bytes, more than {LIMIT}")
    print(f"{folder}: {size / 1e6:.2f} MB, loads in StableDiffusionXLPipeline")


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--from", dest="trained", type=Path, required=True)
    options.add_argument("--to", type=Path, required=True)
    given = options.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    pipeline(given.trained).save_pretrained(given.to, safe_serialization=True)
    for name in text.PADDING:  # the files as CLIP's own models have them, beside what save_pretrained writes
        for path in (given.trained / name).iterdir():
            shutil.copy(path, given.to / name / path.name)
    write_words(given.to / "words.txt")
    check(given.to, given.trained)


if __name__ == "__main__":
    main()
