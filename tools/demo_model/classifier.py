"""Tells what is in a picture: how many figures, the kind, action, hat, pattern and colours of the first and the second, the place.

It is the judge of evaluate.py, small enough to be kept in the repository.
"""
import torch
import torch.nn.functional as F
from torch import nn

import checkpoint
from cast import ACTIONS, HATS, KINDS, PATTERNS, PLACES

FIGURE = {"kind": len(KINDS), "action": len(ACTIONS), "hat": len(HATS), "pattern": len(PATTERNS), "fur": 3, "shirt": 3, "hat_colour": 3}
COLOURS = ("fur", "shirt", "hat_colour")
OUTPUTS = {"count": 3, "place": len(PLACES), **{f"{name}_{slot}": size for slot in (0, 1) for name, size in FIGURE.items()}}
CHANNELS = (3, 24, 48, 96, 112, 128)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        layers = []
        for before, after in zip(CHANNELS, CHANNELS[1:]):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.SiLU(), nn.Conv2d(after, after, 3, 1, 1), nn.BatchNorm2d(after), nn.SiLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(CHANNELS[-1] * 16, 128), nn.SiLU(), nn.Linear(128, sum(OUTPUTS.values())))

    def forward(self, pictures):
        """pictures [B, 3, H, W] in -1..1 -> {output: [B, size]}: logits, and colours 0..1."""
        if pictures.shape[-2:] != (128, 128):
            pictures = F.interpolate(pictures, size=(128, 128), mode="area")
        return dict(zip(OUTPUTS, self.head(self.features(pictures).flatten(1)).float().split(list(OUTPUTS.values()), 1)))


def labels(cast, pictures):
    """What the classifier should say of pictures of the world; -1 and NaN where there is nothing to say."""
    result = {"count": (pictures.who >= 0).sum(1), "place": pictures.place}
    for slot in (0, 1):
        who = pictures.who[:, slot]
        there, person = who >= 0, who.clamp(min=0)
        for name, value in (("kind", cast.kind), ("hat", cast.hat), ("pattern", cast.pattern)):
            result[f"{name}_{slot}"] = torch.where(there, value[person], -1)
        result[f"action_{slot}"] = torch.where(there, pictures.action[:, slot], -1)
        for name, table in (("fur", "fur"), ("shirt", "shirt"), ("hat_colour", "hat")):
            shown = there if name != "hat_colour" else there & (cast.hat[person] > 0)
            result[f"{name}_{slot}"] = torch.where(shown[:, None], cast.rgb[table][person], torch.nan)
    return result


def loss(outputs, wanted):
    total = 0.0
    for name, value in outputs.items():
        target = wanted[name]
        if value.shape[1] == 3 and target.is_floating_point():
            known = ~target.isnan()
            total = total + 8 * ((value - target.nan_to_num()).square() * known).sum() / known.sum().clamp(min=1)
        else:
            total = total + F.cross_entropy(value, target, ignore_index=-1)
    return total


def load(path, device="cpu"):
    return checkpoint.load(path, Classifier()).eval().to(device)


@torch.no_grad()
def classify(model, pictures, batch=256):
    """{output: [M, size]} on the CPU; pictures [M, 3, H, W] uint8."""
    device = next(model.parameters()).device
    parts = [model(chunk.to(device).float() / 127.5 - 1) for chunk in pictures.split(batch)]
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in OUTPUTS}
