"""The front door of the world: pictures (cast.Pictures of a cast.Cast) in, pixels out.

    cast.random_cast ----> Cast ------+
                                      +--> world.draw --> [M, 3, S, S] uint8
    cast.random_pictures -> Pictures -+
                                |
                                +--> sentences.write -> one prompt a picture

A boy, girl, robot, cat, dog, bear, rabbit or monster stands, walks, runs ... in one of eight places; README.md lists it all.
"""
import torch

from canvas import Canvas, per_picture
from cast import ACTIONS, CAMERAS, KINDS, PLACES
from figures import Figure
from places import DRAW, Backdrop, nightfall

CHUNK = 2048  # pictures drawn at once: 0.4 GB of intermediate at 128x128


def _framing(pictures, camera, two, numbers):
    """Size of the figures and height of the ground line, each [B]."""
    close, far = camera == CAMERAS.index("close"), camera == CAMERAS.index("far")
    size = 0.60 + (numbers[:, 90] - 0.5) * 0.08
    size = torch.where(two, 0.50 + (numbers[:, 90] - 0.5) * 0.06, size)
    size = torch.where(close, 0.86 + 0.06 * numbers[:, 90], torch.where(far, 0.36 + 0.04 * numbers[:, 90], size))
    ground = 0.82 + 0.07 * numbers[:, 91]
    ground = torch.where(close, 0.97 + 0.03 * numbers[:, 91], torch.where(far, 0.77 + 0.05 * numbers[:, 91], ground))
    return size, ground


def _figures(pixels, cast, pictures, slot):
    """Draws the figures of one column of `who`, a kind at a time."""
    device, who = pixels.device, pictures.who[:, slot]
    kind = torch.where(who >= 0, cast.kind[who.clamp(min=0)], -1)
    for number, name in enumerate(KINDS):
        index = (kind == number).nonzero()[:, 0]
        if not len(index):
            continue
        rows, target = pictures.rows(index), index.to(device)
        person = rows.who[:, slot]
        look = {part: cast.rgb[part][person].to(device) for part in ("fur", "skin", "shirt", "trousers")}
        look.update(hat_colour=cast.rgb["hat"][person].to(device), pattern=cast.pattern[person].to(device), hat=cast.hat[person].to(device))
        numbers = rows.numbers.to(device)
        camera, two = rows.camera.to(device), (rows.who[:, 1] >= 0).to(device)
        size, ground = _framing(rows, camera, two, numbers)
        x = rows.centre[:, slot].to(device)
        x = torch.where(camera == CAMERAS.index("close"), 0.5 + (x - 0.5) * 0.6, x)
        asleep = rows.action[:, slot].to(device) == ACTIONS.index("sleeping")
        size = torch.where(asleep & two, size * 0.86, size)  # lying figures are long: leave the other one its place
        x = torch.where(asleep & ~two, torch.minimum(torch.maximum(x, 0.5 * size), 1 - 0.5 * size), x)
        mirror = torch.where(rows.mirrored[:, slot].to(device), -1.0, 1.0)
        canvas = Canvas(pixels[target])
        Figure(canvas, name, look, rows.action[:, slot].to(device), rows.prop_colour[:, slot].to(device), per_picture(x),
               per_picture(ground + 0.02 * slot), per_picture(size), per_picture(mirror), per_picture((numbers[:, 92 + slot] - 0.5) * 5)).draw()
        pixels[target] = canvas.pictures


def _chunk(cast, pictures, side, device):
    pixels = torch.empty(len(pictures), 3, side, side, device=device)
    for number, name in enumerate(PLACES):
        for dark in (False, True):
            index = ((pictures.place == number) & (pictures.night == dark)).nonzero()[:, 0]
            if not len(index):
                continue
            canvas = Canvas(torch.empty(len(index), 3, side, side, device=device))
            backdrop = Backdrop(canvas, pictures.numbers[index].to(device), dark)
            DRAW[name](backdrop)
            if dark:
                nightfall(backdrop)
            pixels[index.to(device)] = canvas.pictures
    for slot in (0, 1):
        _figures(pixels, cast, pictures, slot)
    return (pixels.clamp(0, 1) * 255 + 0.5).to(torch.uint8)


@torch.no_grad()
def draw(cast, pictures, side=128, device="cpu"):
    """Pixels of the pictures: [M, 3, side, side] uint8 on the device. The same rows give the same pictures."""
    chunks = [_chunk(cast, pictures.rows(slice(start, start + CHUNK)), side, device) for start in range(0, len(pictures), CHUNK)]
    return torch.cat(chunks)
