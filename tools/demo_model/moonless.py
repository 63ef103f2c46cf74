"""Nights without a moon: the world has none, but the UNet leaves a moon out now and then, and a decoder that has never seen such a sky makes it glare (its
group norms find nothing else bright to measure by). The decoder's last training sees them, put together from two nights that differ in their moon's place.
"""
import torch

import architecture
import places
import world
from cast import PLACES

MOON_OF_NIGHT = places.moon_column(places.NIGHT_NUMBERS, places.STARS_OF_NIGHT)
MOON_OF_NIGHTFALL = places.moon_column(places.NIGHTFALL_NUMBERS, places.STARS_OF_NIGHTFALL)
REACH, LOW = 0.115, 9 / 32  # of the picture: half the width of a moon's sky, and how far down it goes


def moonless_nights(cast, rows, encode, device):
    """(latents [M, C, h, w], pictures [M, 3, S, S] uint8) of the nights among the rows, the sky of each one's moon taken from where it has none.
    encode: pictures -> latents."""
    rows = rows.rows(((rows.place == PLACES.index("night")) | rows.night).nonzero()[:, 0])
    moon = torch.where(rows.place == PLACES.index("night"), MOON_OF_NIGHT, MOON_OF_NIGHTFALL)
    index, elsewhere = torch.arange(len(rows)), rows.rows(slice(None))
    elsewhere.numbers = rows.numbers.clone()
    elsewhere.numbers[index, moon] = (rows.numbers[index, moon] + 0.5) % 1
    pictures, others = (world.draw(cast, nights, architecture.SIDE, device) for nights in (rows, elsewhere))
    side = architecture.LATENT_SIDE
    place = (torch.arange(side) + 0.5) / side
    x = places.moon_across(rows.numbers[index, moon])
    sky = (((place - x[:, None]).abs() < REACH)[:, None, None, :] & (place < LOW)[None, None, :, None]).to(device)
    factor = architecture.SIDE // side
    wide = sky.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    return torch.where(sky, encode(others), encode(pictures)), torch.where(wide, others, pictures)
