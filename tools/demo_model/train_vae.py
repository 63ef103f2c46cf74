"""Trains the VAE: pictures of the world in, the same pictures out through latents a quarter as wide.

    [torchrun --nproc-per-node N] python tools/demo_model/train_vae.py --out DIR [--minutes 7]

Writes DIR/vae.safetensors, whose latents have mean 0 and, scaled by 0.13025, deviation 1 in each channel. Run again with the same
DIR and --resume it goes on from there; with --decoder-only, too, the latents stay what they are, so that a UNet trained on them stays good.
"""
import argparse
import json
import math
from pathlib import Path

import torch
import torch.distributed as distributed
import torch.nn.functional as F

import architecture
import world
from checkpoint import load_vae, save_half
from moonless import moonless_nights
from training import END_SECONDS, FlatParameters, Run, pictures_of_stories

KL = 1e-4
SEED = 101


def reconstruction_loss(made, wanted):
    """L1, squared error and L1 of the differences between neighbours, which outlines are."""
    across = (made[..., 1:] - made[..., :-1]) - (wanted[..., 1:] - wanted[..., :-1])
    down = (made[..., 1:, :] - made[..., :-1, :]) - (wanted[..., 1:, :] - wanted[..., :-1, :])
    return F.l1_loss(made, wanted) + 8 * F.mse_loss(made, wanted) + 0.5 * (across.abs().mean() + down.abs().mean())


def decoder_step_function(vae):
    def step(pictures, latents):
        made, wanted = vae.decoder(vae.post_quant_conv(latents)).float(), pictures.float()
        return 10 * F.mse_loss(made, wanted) + 0.2 * F.l1_loss(made, wanted)
    return step


def step_function(vae):
    def step(pictures, noise):
        moments = vae.quant_conv(vae.encoder(pictures))
        mean, log_variance = moments.float().chunk(2, 1)
        log_variance = log_variance.clamp(-30, 20)
        latents = mean + noise * torch.exp(0.5 * log_variance)
        made = vae.decoder(vae.post_quant_conv(latents)).float()
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        return reconstruction_loss(made, pictures.float()) + KL * divergence
    return step


@torch.no_grad()
def latents_of(vae, pictures, run, batch=512):
    """Latents [M, C, h, w] (their mean, not scaled) of pictures [M, 3, H, W] uint8."""
    parts = []
    for chunk in pictures.split(batch):
        with run.autocast():
            parts.append(vae.encode((chunk.to(run.device).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)).latent_dist.mode().float())
    return torch.cat(parts)


@torch.no_grad()
def normalise(vae, latents):
    """Folds each channel's mean and deviation into quant_conv and post_quant_conv, exactly."""
    mean = latents.mean((0, 2, 3))
    scale = 1 / (latents.std((0, 2, 3)) * architecture.SCALING)
    channels = len(mean)
    quant, post = vae.quant_conv, vae.post_quant_conv
    post.bias.add_(post.weight[:, :, 0, 0] @ mean)
    post.weight.div_(scale[None, :, None, None])
    quant.bias[:channels].sub_(mean).mul_(scale)
    quant.weight[:channels].mul_(scale[:, None, None, None])
    quant.bias[channels:].add_(2 * scale.log())


@torch.no_grad()
def psnr(vae, pictures, latents, run):
    """Decibels over all pictures, decoded in bf16 on a GPU as the renderer does in fp16."""
    error = 0.0
    for wanted, given in zip(pictures.split(256), latents.split(256)):
        with run.autocast():
            made = vae.decode(given).sample.float().clamp(-1, 1)
        error += (made - (wanted.to(run.device).float() / 127.5 - 1)).square().mean().item() * len(wanted)
    return 10 * math.log10(4 / (error / len(pictures)))


class Drawn:
    """What the whole VAE learns from: pictures, and the noise of their latents."""

    def __init__(self, pictures, given):
        self.pictures = pictures
        self.shape = (given.batch, given.latent_channels, architecture.LATENT_SIDE, architecture.LATENT_SIDE)

    def batch(self):
        device = self.pictures.device
        return self.pictures[torch.randint(len(self.pictures), self.shape[:1], device=device)], torch.randn(self.shape, device=device)


class Encoded:
    """What the decoder alone learns from: pictures and their latents, of which one in four is a night without a moon."""

    def __init__(self, pictures, moonless, encode, given):
        self.usual, self.moonless = (pictures, encode(pictures)), moonless
        self.size, self.few = given.batch, max(1, given.batch // 4)

    def batch(self):
        parts = []
        for (latents, pictures), count in ((self.moonless, self.few), (self.usual[::-1], self.size - self.few)):
            index = torch.randint(len(pictures), (count,), device=pictures.device)
            parts.append((pictures[index], latents[index]))
        return tuple(torch.cat(part) for part in zip(*parts))


def train(given, run, vae, flat, data, held_out):
    """Steps until the time is over; returns how many."""
    optimiser = torch.optim.AdamW([torch.nn.Parameter(flat.values)], lr=given.rate, betas=(0.9, 0.99), weight_decay=0.001, fused=run.device.type == "cuda")
    optimiser.param_groups[0]["params"][0].grad = flat.gradients
    step = (decoder_step_function if given.decoder_only else step_function)(vae)
    if run.device.type == "cuda" and not given.no_compile:
        step = torch.compile(step)
    done, begun, left, warming = 0, None, run.left(), 20 if given.decoder_only else 200
    while begun is None or left > END_SECONDS:
        part = 0.0 if begun is None else 1 - (left - END_SECONDS) / begun
        rate = given.rate * min(1, (done + 1) / warming) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1, part))))
        optimiser.param_groups[0]["lr"] = rate
        pictures, beside = data.batch()
        with run.autocast():
            loss = step((pictures.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last), beside)
        loss.backward()
        if run.world > 1:
            distributed.all_reduce(flat.gradients, distributed.ReduceOp.AVG)
        flat.gradients.mul_((1.0 / flat.gradients.norm()).clamp(max=1.0))
        optimiser.step()
        flat.gradients.zero_()
        done += 1
        flat.average.lerp_(flat.values, 1 - min(0.999, done / (done + 20)))
        if begun is None and done >= 3:  # compiled
            left = run.left()
            begun = left - END_SECONDS
            run.say("training begins")
        elif done % 10 == 0:
            left = run.left()
        if done % 500 == 0:
            run.say(f"step {done} loss {loss.item():.4f} rate {rate:.1e}")
        if done % 2000 == 0 and run.rank == 0:
            flat.use_average()
            save_half(given.out / "vae.safetensors", vae)
            run.say(f"held-out {psnr(vae, held_out, latents_of(vae, held_out, run), run):.2f} dB")
            flat.use_average()
    return done


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--out", type=Path, required=True, help="folder of the results")
    options.add_argument("--minutes", type=float, default=7, help="stop after so long (default 7); the rate is lowered towards the end")
    options.add_argument("--latent-channels", type=int, default=4)
    options.add_argument("--pictures", type=int, default=65536, help="for each process")
    options.add_argument("--batch", type=int, default=128, help="pictures a step, for each process")
    options.add_argument("--rate", type=float, default=1.5e-3)
    options.add_argument("--resume", action="store_true", help="go on from DIR/vae.safetensors")
    options.add_argument("--decoder-only", action="store_true", help="go on with the decoder alone, for decibels")
    options.add_argument("--no-compile", action="store_true")
    given = options.parse_args()
    run = Run(given.minutes)
    given.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    going_on = given.resume or given.decoder_only
    vae = (load_vae(given.out).train() if going_on else architecture.vae(given.latent_channels)).to(run.device)
    cast, rows, _ = pictures_of_stories(given.pictures, SEED + run.rank)
    pictures = world.draw(cast, rows, architecture.SIDE, run.device)
    run.say(f"drew {len(pictures)} pictures for each of {run.world}")
    few = min(1024, len(pictures) // 4)
    held_out, pictures = pictures[-few:], pictures[:-few]
    torch.manual_seed(SEED + run.rank)
    if given.decoder_only:
        def encode(some):
            return latents_of(vae, some, run)
        moonless = moonless_nights(cast, rows.rows(slice(0, len(pictures))), encode, run.device)
        few = len(moonless[0]) // 4
        held_out_moonless = tuple(part[-few:] for part in moonless)
        data = Encoded(pictures, tuple(part[:-few] for part in moonless), encode, given)
        flat = FlatParameters([vae.post_quant_conv, vae.decoder])
    else:
        data, flat = Drawn(pictures, given), FlatParameters([vae])
    done = train(given, run, vae, flat, data, held_out)
    flat.use_average()
    if run.rank == 0:
        if not given.decoder_only:
            normalise(vae, latents_of(vae, pictures[:8192], run))
        save_half(given.out / "vae.safetensors", vae)
        latents = latents_of(vae, held_out, run)
        result = {"steps": done, "latent_channels": given.latent_channels, "psnr": round(psnr(vae, held_out, latents, run), 2)}
        if given.decoder_only:
            result["moonless psnr"] = round(psnr(vae, held_out_moonless[1], held_out_moonless[0], run), 2)
        (given.out / "vae.json").write_text(json.dumps(result) + "\n")
        run.say(f"done: {result}; latents deviate by {latents.mul(architecture.SCALING).std().item():.3f}")
    run.end()


if __name__ == "__main__":
    main()
