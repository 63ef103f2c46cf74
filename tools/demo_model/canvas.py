"""Batches of small pictures, drawn on with signed distances.

A shape is a tensor of distances to its outline, negative inside, in the units of the frame it is drawn in. A picture is filled
where the distance is negative, softly over the one pixel at the edge, so that nothing is jagged and nothing has to be drawn larger
and scaled down. Everything works on whole batches: numbers that differ between pictures have the shape [B, 1, 1].
"""
import math

import torch

INK = (0.12, 0.12, 0.14)
WHITE = (1.0, 1.0, 1.0)


def per_picture(values):
    """[B] -> [B, 1, 1], as shapes want it."""
    return values.float()[:, None, None]


class Canvas:
    """Pictures [B, 3, S, S] in 0..1; x grows to the right and y downwards, both 0..1 over the picture."""

    def __init__(self, pictures):
        self.pictures = pictures
        self.batch, _, self.side, _ = pictures.shape
        self.device = pictures.device
        centres = (torch.arange(self.side, device=self.device) + 0.5) / self.side
        self.x = centres[None, None, :].expand(1, self.side, self.side)
        self.y = centres[None, :, None].expand(1, self.side, self.side)

    def colour(self, colour):
        """A tuple, [3] or [B, 3] as something that lerp takes."""
        if not torch.is_tensor(colour):
            colour = torch.tensor(colour, device=self.device)
        return (colour if colour.dim() == 2 else colour[None]).float()[:, :, None, None]

    def fill(self, distance, colour, where=None, outline=0.0, outline_colour=INK, unit=1.0):
        """Fills a shape. `unit`: picture sides in one unit of distance; `where`: opacity, a number or [B, 1, 1];
        `outline`: width of the line around it, in picture sides, 0 for none."""
        pixels = distance * unit * self.side
        if outline > 0:
            self._cover(outline * self.side + 0.5 - pixels, outline_colour, where)
        self._cover(0.5 - pixels, colour, where)

    def _cover(self, cover, colour, where):
        cover = cover.clamp(0, 1)
        if where is not None:
            cover = cover * where
        self.pictures.lerp_(self.colour(colour), cover[:, None].expand(self.batch, 1, self.side, self.side))

    def gradient(self, top, bottom, height):
        """The whole picture from `top` at y = 0 to `bottom` at y = height and below."""
        part = (self.y / height).clamp(0, 1)[:, None]
        self.pictures.copy_(self.colour(top) * (1 - part) + self.colour(bottom) * part)


def circle(x, y, radius):
    return torch.sqrt(x * x + y * y) - radius


def ellipse(x, y, a, b):
    """Half axes a and b. Exact on the outline and on the shorter axis, near enough elsewhere."""
    return (torch.sqrt((x / a) ** 2 + (y / b) ** 2) - 1) * min(a, b)


def box(x, y, a, b, radius=0.0):
    """Half sides a and b, corners rounded."""
    dx, dy = x.abs() - (a - radius), y.abs() - (b - radius)
    outside = torch.sqrt(dx.clamp(min=0) ** 2 + dy.clamp(min=0) ** 2)
    return outside + torch.maximum(dx, dy).clamp(max=0) - radius


def stroke(x, y, ax, ay, bx, by, radius):
    """A line from a to b with round ends."""
    px, py, dx, dy = x - ax, y - ay, bx - ax, by - ay
    along = ((px * dx + py * dy) / (dx * dx + dy * dy + 1e-8)).clamp(0, 1)
    return torch.sqrt((px - dx * along) ** 2 + (py - dy * along) ** 2) - radius


def triangle(x, y, half_width, height):
    """Upright, base from -half_width to half_width on y = 0, tip at y = height; y upwards."""
    length = torch.sqrt(torch.as_tensor(half_width * half_width + height * height))
    return torch.maximum(-y, (x.abs() * height + (y - height) * half_width) / length)


def trapezium(x, y, half_bottom, half_top, height):
    slope = (half_top - half_bottom) / height
    return torch.maximum((y - height / 2).abs() - height / 2, (x.abs() - half_bottom - slope * y) / math.sqrt(1 + slope * slope))


def union(*shapes):
    result = shapes[0]
    for shape in shapes[1:]:
        result = torch.minimum(result, shape)
    return result


def both(*shapes):
    """Where all of the shapes are."""
    result = shapes[0]
    for shape in shapes[1:]:
        result = torch.maximum(result, shape)
    return result


def repeat(values, period):
    """Distance from the nearest multiple of the period, signed."""
    return ((values / period + 0.5) % 1 - 0.5) * period
