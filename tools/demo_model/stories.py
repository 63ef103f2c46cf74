"""Stories of one character each, whose looks no prompt names: what identity is measured with."""
import torch
from PIL import Image

import classifier as judge
from cast import ACTIONS, FRAMES, KINDS, PLACES, random_cast, random_pictures
from sentences import ACTION_WORDS, PLACE_WORDS

SEED = 4001


class Stories:
    """`count` stories of FRAMES panels; `wanted`: what the classifier should see in them."""

    def __init__(self, count, seed=SEED):
        generator = torch.Generator().manual_seed(seed)
        self.cast = random_cast(count, generator)
        who = torch.full((count * FRAMES, 2), -1)
        who[:, 0] = torch.arange(count).repeat_interleave(FRAMES)
        self.pictures = random_pictures(who, generator)
        self.pictures.camera[:], self.pictures.night[:] = 0, False
        self.wanted = judge.labels(self.cast, self.pictures)

    def __len__(self):
        return len(self.cast)

    def scene(self, row):
        """Action and place of a panel in their most usual words."""
        return f"{ACTION_WORDS[ACTIONS[self.pictures.action[row, 0]]][0][0].format('')} {PLACE_WORDS[PLACES[self.pictures.place[row]]][0]}"

    def description(self, story):
        return "a " + KINDS[self.cast.kind[story]]


def sheet(pictures, path, columns):
    """Saves pictures [M, 3, S, S] uint8 in rows of `columns`; a last row that is not full is left out."""
    rows, side = len(pictures) // columns, pictures.shape[-1]
    grid = pictures[:rows * columns].view(rows, columns, 3, side, side).permute(0, 3, 1, 4, 2).reshape(rows * side, columns * side, 3)
    Image.fromarray(grid.cpu().numpy()).save(path)
