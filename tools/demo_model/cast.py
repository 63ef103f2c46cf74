"""What a character and a picture of this world can be, and drawing them at random from a seed.

A character is what does not change between the panels of a story: its kind and its looks. A picture is a place, a camera and up to
two characters doing something. Both are tables of tensors, one row each, so that a hundred thousand are made and drawn at once.
"""
from dataclasses import dataclass

import torch

KINDS = ("boy", "girl", "robot", "cat", "dog", "bear", "rabbit", "monster")
PEOPLE = ("boy", "girl")
ACTIONS = ("standing", "walking", "running", "jumping", "sitting", "sleeping", "waving", "reading", "dancing", "balloon", "umbrella", "ball")
WITH_PROP = ("reading", "balloon", "umbrella", "ball")
PLACES = ("forest", "beach", "city", "room", "night", "snow", "desert", "mountains")
CAMERAS = ("normal", "close", "far")
PATTERNS = ("plain", "striped", "dotted")
HATS = ("none", "cap", "top hat", "party hat")

COLOURS = {
    "red": (0.86, 0.16, 0.16), "orange": (0.96, 0.55, 0.13), "yellow": (0.97, 0.85, 0.20), "green": (0.20, 0.65, 0.28),
    "blue": (0.18, 0.38, 0.85), "purple": (0.55, 0.25, 0.75), "pink": (0.97, 0.56, 0.72), "white": (0.95, 0.95, 0.95),
    "black": (0.16, 0.16, 0.20), "brown": (0.50, 0.31, 0.17), "gray": (0.58, 0.60, 0.64), "cyan": (0.25, 0.78, 0.83),
}
COLOUR_NAMES = tuple(COLOURS)
FUR = ("orange", "brown", "gray", "white", "pink", "blue", "green", "yellow", "purple", "cyan")
HAIR = ("black", "brown", "yellow", "orange", "red", "gray")
SHIRTS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black", "cyan")
TROUSERS = ("blue", "black", "brown", "gray", "green", "red", "white")
PROPS = ("red", "yellow", "green", "blue", "purple", "pink", "orange")
SKINS = ((0.98, 0.85, 0.74), (0.94, 0.76, 0.60), (0.82, 0.60, 0.42), (0.60, 0.41, 0.28), (0.42, 0.28, 0.20))

# How often what is seen is one thing rather than another.
PLAIN_SHIRT, NO_HAT = 0.36, 0.40
NIGHT_ELSEWHERE = 0.06  # a place other than "night", at night
CLOSE, FAR = 0.10, 0.10
FRAMES = 4         # panels of a story
ROW_NUMBERS = 128  # random numbers a picture has for its details


@dataclass
class Cast:
    """Characters, one row each: indices into the tables above, and the colours as drawn ([C, 3], a little beside the named ones)."""
    kind: torch.Tensor
    fur: torch.Tensor      # into COLOUR_NAMES; of people the hair
    skin: torch.Tensor     # into SKINS, of people
    shirt: torch.Tensor
    pattern: torch.Tensor
    hat: torch.Tensor
    hat_colour: torch.Tensor
    trousers: torch.Tensor
    rgb: dict              # "fur", "skin", "shirt", "hat", "trousers" -> [C, 3]

    def __len__(self):
        return len(self.kind)


@dataclass
class Pictures:
    """Pictures, one row each; the columns of [M, 2] are its first and second figure, from left to right where there are two."""
    who: torch.Tensor        # [M, 2] rows of the cast, -1: nobody
    action: torch.Tensor     # [M, 2]
    prop_colour: torch.Tensor  # [M, 2] into COLOUR_NAMES
    centre: torch.Tensor     # [M, 2] where it stands, 0..1
    mirrored: torch.Tensor   # [M, 2]
    place: torch.Tensor      # [M]
    night: torch.Tensor      # [M] a place of the day, at night
    camera: torch.Tensor     # [M]
    numbers: torch.Tensor    # [M, ROW_NUMBERS] uniform, for clouds, trees, sizes

    def __len__(self):
        return len(self.place)

    def rows(self, index):
        return Pictures(**{name: value[index] for name, value in vars(self).items()})


def colour_index(names):
    return torch.tensor([COLOUR_NAMES.index(name) for name in names])


def random_cast(count, generator):
    def pick(names):
        return colour_index(names)[torch.randint(len(names), (count,), generator=generator)]

    def chance(probability):
        return torch.rand(count, generator=generator) < probability

    kind = torch.randint(len(KINDS), (count,), generator=generator)
    people = kind < len(PEOPLE)
    cast = Cast(
        kind=kind, fur=torch.where(people, pick(HAIR), pick(FUR)), skin=torch.randint(len(SKINS), (count,), generator=generator),
        shirt=pick(SHIRTS),
        pattern=torch.where(chance(PLAIN_SHIRT), 0, 1 + torch.randint(len(PATTERNS) - 1, (count,), generator=generator)),
        hat=torch.where(chance(NO_HAT), 0, 1 + torch.randint(len(HATS) - 1, (count,), generator=generator)),
        hat_colour=pick(SHIRTS), trousers=pick(TROUSERS), rgb={})
    palette = torch.tensor([COLOURS[name] for name in COLOUR_NAMES])
    for name, index in (("fur", cast.fur), ("shirt", cast.shirt), ("hat", cast.hat_colour), ("trousers", cast.trousers)):
        cast.rgb[name] = (palette[index] + (torch.rand(count, 3, generator=generator) - 0.5) * 0.10).clamp(0.03, 1)
    cast.rgb["skin"] = torch.where(people[:, None], torch.tensor(SKINS)[cast.skin], cast.rgb["fur"])
    return cast


def random_pictures(who, generator):
    """Pictures of the given characters, who: [M, 2]. Runs of FRAMES rows differ in action and place, as a story's panels do."""
    count = len(who)
    if count % FRAMES:
        raise ValueError(f"{count} pictures are not a multiple of {FRAMES}")

    def uniform(*shape):
        return torch.rand(*shape, generator=generator)

    def without_repeats(choices):
        return uniform(count // FRAMES, choices).argsort(1)[:, :FRAMES].reshape(count)

    action = without_repeats(len(ACTIONS))
    second = torch.where(uniform(count) < 0.6, action, torch.randint(len(ACTIONS), (count,), generator=generator))
    place = without_repeats(len(PLACES))
    two = who[:, 1] >= 0
    draw = uniform(count)
    camera = torch.where(draw < CLOSE, 1, torch.where(draw < CLOSE + FAR, 2, 0))
    alone = 0.5 + (uniform(count) - 0.5) * 0.44
    left, right = 0.27 + (uniform(count) - 0.5) * 0.08, 0.73 + (uniform(count) - 0.5) * 0.08
    return Pictures(
        who=who, action=torch.stack([action, second], 1), prop_colour=colour_index(PROPS)[torch.randint(len(PROPS), (count, 2), generator=generator)],
        centre=torch.stack([torch.where(two, left, alone), right], 1), mirrored=uniform(count, 2) < 0.5,
        place=place, night=(uniform(count) < NIGHT_ELSEWHERE) & (place != PLACES.index("night")) & (place != PLACES.index("room")),
        camera=torch.where(two & (camera == 1), 0, camera), numbers=uniform(count, ROW_NUMBERS))
