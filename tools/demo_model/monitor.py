"""Quick look at a model in training: draws stories with torch, on whatever machine trains, and measures them with the classifier.

    python tools/demo_model/monitor.py --model DIR --classifier FILE [--stories 64] [--identity-frames 2] [--sheet FILE.png]

The figures of the model card come from evaluate.py, through the renderer; these are for deciding whether to train on.
"""
import argparse
import json
from pathlib import Path

import torch

import architecture
import classifier as judge
import consistent
import tokenizer as text
from cast import FRAMES
from checkpoint import load_modules, load_vae
from consistent import Sight
from measure import difference, story_measures
from stories import Stories, sheet


class Model:
    def __init__(self, folder, device):
        self.tokenizers, self.device = text.load(folder), device
        self.vae = load_vae(folder).to(device)
        self.unet, *self.encoders = [module.eval().to(device) for module in load_modules(folder, self.vae, self.tokenizers)]
        self.processors = consistent.install(self.unet)

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def embed(self, prompts):
        ids = [tokens.to(self.device) for tokens in text.encode(self.tokenizers, prompts)]
        return architecture.encode_text(self.encoders, ids, self.tokenizers[0].eos_token_id)

    @torch.no_grad()
    def draw(self, prompts, visible=None, steps=20, guidance=5.0, token_rate=1.0, gated=True, seed=0):
        """Pictures [M, 3, S, S] uint8 of M prompts, FRAMES a story; visible: [FRAMES, FRAMES] bool, None for plain attention."""
        generator = torch.Generator().manual_seed(seed)
        count, device = len(prompts), self.device
        embeds, pooled = self.embed(prompts)
        embeds, pooled = torch.cat([torch.zeros_like(embeds), embeds]), torch.cat([torch.zeros_like(pooled), pooled])
        latents = torch.randn(count, self.vae.config.latent_channels, architecture.LATENT_SIDE, architecture.LATENT_SIDE, generator=generator).to(device)
        scheduler = architecture.ddim()
        scheduler.set_timesteps(steps)
        for number, time in enumerate(scheduler.timesteps):
            sight = None
            if visible is not None and number > 0:
                groups = 2 * count // FRAMES
                threshold = (0.3 if number < 0.4 * steps else 0.1) if gated else 0.0
                gates = torch.rand(len(self.processors), generator=generator) > threshold
                kept = {}
                for side in architecture.CONSISTENT_GRIDS:
                    drawn = torch.rand(groups // 2, FRAMES, side * side, generator=generator) < token_rate
                    kept[side * side] = torch.cat([drawn, drawn]).to(device)
                sight = Sight(visible.to(device)[None].expand(groups, FRAMES, FRAMES), gates.to(device)[:, None].expand(-1, groups), kept)
            for processor in self.processors:
                processor.sight = sight
            with self.autocast():
                out = self.unet(torch.cat([latents, latents]), time.to(device), embeds, added_cond_kwargs={
                    "text_embeds": pooled, "time_ids": architecture.time_ids(2 * count, device)}).sample.float()
            plain, told = out.chunk(2)
            latents = scheduler.step(plain + guidance * (told - plain), time, latents).prev_sample
        with self.autocast():
            made = torch.cat([self.vae.decode(part / architecture.SCALING).sample.float() for part in latents.split(128)])
        return ((made.clamp(-1, 1) + 1) * 127.5 + 0.5).to(torch.uint8)


def sight_of(identity_frames):
    visible = torch.zeros(FRAMES, FRAMES, dtype=torch.bool)
    visible[:, :identity_frames] = True
    return visible & ~torch.eye(FRAMES, dtype=torch.bool)


PAIR = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]], dtype=torch.bool)


def single_prompts(stories):
    return [f"{stories.description(row // FRAMES)}, {stories.scene(row)}" for row in range(len(stories) * FRAMES)]


def pair_prompts(stories):
    """A first character, a second (that of the next story), then both in two places."""
    prompts = []
    for story in range(len(stories)):
        a, b = stories.description(story), stories.description((story + 1) % len(stories))
        prompts += [f"{who}, {stories.scene(story * FRAMES + frame)}" for frame, who in enumerate((a, b, f"{a} and {b}", f"{a} and {b}"))]
    return prompts


def pair_measures(seen, kinds):
    """How many of the pictures of two show two, of the right kinds; and how far each figure's looks are from its own picture, over what strangers differ by."""
    story = torch.arange(len(kinds) * FRAMES).view(-1, FRAMES)
    two = story[:, 2:].flatten()
    result = {"two figures": (seen["count"][two].argmax(1) == 2).float().mean().item()}
    for slot, kind in ((0, kinds), (1, kinds.roll(-1))):
        result[f"kind {slot}"] = (seen[f"kind_{slot}"][two].argmax(1) == kind.repeat_interleave(2)).float().mean().item()
        for part in ("fur", "shirt"):
            own, there = seen[f"{part}_0"][story[:, slot]], seen[f"{part}_{slot}"][story[:, 2]]
            result[f"{part} {slot}"] = difference(own, there)
        own, there = seen["hat_0"][story[:, slot]].argmax(1), seen[f"hat_{slot}"][story[:, 2]].argmax(1)
        result[f"same hat {slot}"] = (own == there).float().mean().item()
    return {name: round(value, 3) for name, value in result.items()}


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--model", type=Path, required=True)
    options.add_argument("--classifier", type=Path, required=True)
    options.add_argument("--stories", type=int, default=64)
    options.add_argument("--identity-frames", type=int, default=2)
    options.add_argument("--sheet", type=Path)
    given = options.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, classifier = Model(given.model, device), judge.load(given.classifier, device)
    stories = Stories(given.stories)
    prompts = single_prompts(stories)
    drawn = {}
    for name, visible, gated in (("off", None, True), ("on", sight_of(given.identity_frames), True), ("on, gates open", sight_of(given.identity_frames), False),
                                 ("on, all frames together", sight_of(4), True), ("on, one identity frame", sight_of(1), True)):
        drawn[name] = model.draw(prompts, visible, gated=gated)
        print(f"{name}: {json.dumps(story_measures(judge.classify(classifier, drawn[name]), stories.wanted))}", flush=True)
    pairs = model.draw(pair_prompts(stories), PAIR)
    print(f"pairs: {json.dumps(pair_measures(judge.classify(classifier, pairs), stories.cast.kind))}")
    if given.sheet:
        beside = [drawn[name].view(-1, FRAMES, *drawn[name].shape[1:]) for name in ("off", "on")]
        sheet(torch.cat([torch.cat(beside, 1)[:12].flatten(0, 1), pairs[:32]]), given.sheet, 2 * FRAMES)


if __name__ == "__main__":
    main()
