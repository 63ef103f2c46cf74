"""Trains the classifier on drawn pictures and on what the VAE makes of them.

    python tools/demo_model/train_classifier.py --vae DIR --out FILE [--minutes 2]

Writes FILE (fp16 safetensors, under 2 MB) and prints how often it is right on pictures that it has not seen.
"""
import argparse
import math
from pathlib import Path

import torch

import architecture
import world
from checkpoint import load_vae, save_half
from classifier import Classifier, classify, labels, loss
from measure import accuracy
from train_vae import latents_of
from training import Run, pictures_of_stories

SEED = 202


@torch.no_grad()
def through_vae(vae, pictures, run):
    parts = []
    for chunk in pictures.split(512):
        latents = latents_of(vae, chunk, run)
        with run.autocast():
            made = vae.decode(latents).sample.float()
        parts.append(((made.clamp(-1, 1) + 1) * 127.5 + 0.5).to(torch.uint8))
    return torch.cat(parts)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--vae", type=Path, help="folder with vae.safetensors; without it, drawn pictures only")
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--minutes", type=float, default=2)
    options.add_argument("--pictures", type=int, default=65536)
    options.add_argument("--batch", type=int, default=256)
    given = options.parse_args()
    run = Run(given.minutes)
    torch.manual_seed(SEED)
    cast, rows, _ = pictures_of_stories(given.pictures, SEED)
    pictures = world.draw(cast, rows, architecture.SIDE, run.device)
    wanted = {name: value.to(run.device) for name, value in labels(cast, rows).items()}
    run.say(f"drew {len(pictures)} pictures")
    sources = [pictures]
    if given.vae:
        vae = load_vae(given.vae).to(run.device)
        sources.append(through_vae(vae, pictures, run))
    training = len(pictures) - min(2048, len(pictures) // 4)
    model = Classifier().to(run.device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    begun, done = run.passed(), 0
    while run.left() > 5:
        part = (run.passed() - begun) / (run.seconds - 5 - begun)
        optimiser.param_groups[0]["lr"] = 2e-3 * min(1, (done + 1) / 100) * 0.5 * (1 + math.cos(math.pi * min(1, part)))
        index = torch.randint(training, (given.batch,), device=run.device)
        batch = sources[done % len(sources)][index].float() / 127.5 - 1
        batch = batch + torch.randn_like(batch) * 0.04 * torch.rand(len(batch), 1, 1, 1, device=run.device)
        with run.autocast():
            outputs = model(batch.contiguous(memory_format=torch.channels_last))
        value = loss(outputs, {name: target[index] for name, target in wanted.items()})
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        optimiser.step()
        done += 1
        if done % 500 == 0:
            run.say(f"step {done} loss {value.item():.4f}")
    model.eval()
    save_half(given.out, model)
    for source, name in zip(sources, ("drawn", "through the VAE")):
        seen = classify(model, source[training:])
        run.say(f"{name}: {accuracy(seen, {key: value[training:].cpu() for key, value in wanted.items()})}")


if __name__ == "__main__":
    main()
