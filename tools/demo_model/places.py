"""The places of the world: each draws its backdrop over a whole canvas, from the picture's own random numbers."""
import math

import torch

from canvas import WHITE, both, box, circle, ellipse, per_picture, repeat, stroke, trapezium, triangle, union

LINE = 0.006  # outline of things in the distance, in picture sides


STARS_OF_NIGHT, STARS_OF_NIGHTFALL = 16, 12  # in the sky of the place "night", and over a place of the day
NIGHT_NUMBERS, NIGHTFALL_NUMBERS = 10, 70    # where a picture's numbers of stars and moon begin


def moon_column(first, count):
    """The column of a picture's numbers that says where its moon stands."""
    return first + 2 * count


def moon_across(number):
    """Of the picture's width, from the left."""
    return 0.12 + 0.76 * number


class Backdrop:
    """A canvas, the horizon and the random numbers of each picture, with what several places share."""

    def __init__(self, canvas, numbers, dark=False):
        self.canvas, self.numbers, self.dark = canvas, numbers, dark
        self.x, self.y = canvas.x, canvas.y
        self.horizon = 0.66 + (self.number(0) - 0.5) * 0.08

    def number(self, index):
        return per_picture(self.numbers[:, index])

    def vary(self, colour, index, amount=0.08):
        """The colour, a little different in each picture; uses three numbers from `index` on."""
        base = torch.tensor(colour, device=self.canvas.device)
        return (base[None] + (self.numbers[:, index:index + 3] - 0.5) * amount).clamp(0, 1)

    def sky(self, top, bottom):
        self.canvas.gradient(self.vary(top, 1), torch.tensor(bottom, device=self.canvas.device), self.horizon)

    def ground(self, colour, waves=0.0, per_side=6.0):
        self.canvas.fill(self.horizon + waves * torch.sin(self.x * per_side + self.number(4) * 2 * math.pi) - self.y, self.vary(colour, 5))

    def hills(self, colour, height, amplitude, per_side, index):
        line = self.horizon - height + amplitude * torch.sin(self.x * per_side + self.number(index) * 2 * math.pi)
        self.canvas.fill(line - self.y, self.vary(colour, index + 1, 0.05))

    def sun(self, colour, radius=0.06):
        if self.dark:
            return
        self.canvas.fill(circle(self.x - (0.1 + 0.8 * self.number(8)), self.y - (0.09 + 0.08 * self.number(9)), radius), colour)

    def cloud(self, index):
        if self.dark:
            return
        x, y = self.x - self.number(index), self.y - (0.08 + 0.18 * self.number(index + 1))
        puffs = union(ellipse(x, y, 0.11, 0.036), circle(x - 0.03, y + 0.02, 0.042), circle(x + 0.04, y + 0.012, 0.032))
        self.canvas.fill(puffs, WHITE)

    def stars_and_moon(self, index, count):
        for i in range(count):
            star = circle(self.x - self.number(index + i), self.y - 0.5 * self.number(index + count + i), 0.005 + 0.004 * self.number(index + i))
            self.canvas.fill(star, (1.0, 1.0, 0.85))
        moon = moon_column(index, count)
        x = self.x - moon_across(self.number(moon))
        y = self.y - (0.12 + 0.05 * self.number(moon + 1))
        crescent = both(circle(x, y, 0.075), -circle(x - 0.034, y + 0.016, 0.062))
        self.canvas.fill(crescent, (0.99, 0.95, 0.72))


def forest(b):
    b.sky((0.62, 0.86, 0.93), (0.90, 0.97, 0.86))
    b.hills((0.36, 0.63, 0.41), 0.12, 0.03, 14.0, 10)
    b.ground((0.44, 0.74, 0.34), 0.01)
    for i in range(5):
        x = b.x - (i + 0.2 + 0.6 * b.number(14 + 2 * i)) / 5
        y, size = b.y - b.horizon - 0.01, 0.8 + 0.5 * b.number(15 + 2 * i)
        fir = (b.number(30 + i) < 0.5).float()
        leaves = b.vary((0.17, 0.52, 0.26), 36 + 3 * i, 0.14)
        b.canvas.fill(box(x, y + 0.08 * size, 0.018 * size, 0.09 * size), (0.45, 0.30, 0.18), outline=LINE)
        crown = union(circle(x, y + 0.26 * size, 0.085 * size), circle(x - 0.05 * size, y + 0.20 * size, 0.065 * size),
                      circle(x + 0.05 * size, y + 0.20 * size, 0.065 * size))
        b.canvas.fill(crown, leaves, where=1 - fir, outline=LINE)
        for step in (0.12, 0.20, 0.28):
            b.canvas.fill(triangle(x, -(y + step * size), (0.12 - 0.15 * step) * size, 0.13 * size), leaves, where=fir, outline=LINE)


def beach(b):
    b.sky((0.45, 0.76, 0.98), (0.82, 0.94, 1.0))
    b.sun((1.0, 0.88, 0.30))
    b.cloud(10)
    b.cloud(14)
    b.canvas.fill(b.horizon - 0.13 - b.y, (0.15, 0.53, 0.82))
    for i in range(2):
        wave = (b.y - (b.horizon - 0.09 + 0.05 * i) + 0.006 * torch.sin(b.x * 40 + b.number(20 + i) * 6)).abs() - 0.004
        b.canvas.fill(wave, (0.74, 0.91, 0.98))
    b.ground((0.96, 0.87, 0.62), 0.012)
    palm = (b.number(27) < 0.75).float()
    x = torch.where(b.number(25) < 0.5, 0.06 + 0.1 * b.number(26), 0.84 + 0.1 * b.number(26))
    b.canvas.fill(stroke(b.x, b.y, x, b.horizon + 0.05, x + 0.03, b.horizon - 0.3, 0.014), (0.56, 0.40, 0.22), where=palm, outline=LINE)
    for angle in (-2.6, -1.9, -0.55, 0.15, -1.2):
        leaf = stroke(b.x, b.y, x + 0.03, b.horizon - 0.3, x + 0.03 + 0.13 * math.cos(angle), b.horizon - 0.27 + 0.10 * math.sin(angle), 0.015)
        b.canvas.fill(leaf, (0.22, 0.62, 0.28), where=palm)


def city(b):
    b.sky((0.66, 0.82, 0.95), (0.95, 0.92, 0.86))
    b.cloud(10)
    for i in range(6):
        x = b.x - ((i + 0.5) / 6 + 0.03 * (b.number(14 + i) - 0.5))
        height = 0.2 + 0.32 * b.number(20 + i)
        up = b.horizon - b.y
        b.canvas.fill(box(x, up - height / 2, 0.075, height / 2), b.vary((0.66, 0.52, 0.52), 28 + 3 * i, 0.5), outline=LINE)
        window = torch.maximum(repeat(x, 0.05).abs() - 0.013, repeat(up, 0.06).abs() - 0.016)
        wall = both(x.abs() - 0.062, up - height + 0.03, 0.035 - up)
        b.canvas.fill(torch.maximum(window, wall), (0.99, 0.93, 0.62))
    b.ground((0.45, 0.46, 0.50))
    b.canvas.fill((b.y - b.horizon - 0.015).abs() - 0.015, (0.76, 0.76, 0.77))
    dash = repeat(b.x + b.number(60), 0.2).abs() - 0.06
    b.canvas.fill(torch.maximum(dash, (b.y - b.horizon - 0.2).abs() - 0.008), (0.96, 0.90, 0.52))


def room(b):
    wall = b.vary((0.90, 0.81, 0.70), 1, 0.3)
    b.canvas.gradient(wall, wall, 1.0)
    b.canvas.fill(repeat(b.x, 0.125).abs() - 0.008, b.vary((0.97, 0.93, 0.86), 4, 0.06))
    b.canvas.fill(b.horizon - b.y, b.vary((0.70, 0.48, 0.30), 7))
    plank = torch.maximum(repeat(b.y - b.horizon, 0.08).abs() - 0.003, b.horizon - b.y)
    b.canvas.fill(plank, (0.52, 0.34, 0.20))
    b.canvas.fill((b.y - b.horizon).abs() - 0.012, (0.98, 0.96, 0.91))
    window = torch.where(b.number(10) < 0.5, 0.20 + 0.08 * b.number(11), 0.72 + 0.08 * b.number(11))
    x, y = b.x - window, b.y - 0.24
    b.canvas.fill(box(x, y, 0.12, 0.13), (0.62, 0.86, 0.99), outline=0.014, outline_colour=WHITE)
    b.canvas.fill(torch.maximum(torch.minimum(x.abs(), y.abs()) - 0.006, box(x, y, 0.12, 0.13)), WHITE)
    x, y = b.x - (1 - window), b.y - 0.22
    b.canvas.fill(box(x, y, 0.08, 0.06), b.vary((0.5, 0.6, 0.5), 14, 0.7), outline=0.012, outline_colour=(0.35, 0.24, 0.16))
    b.canvas.fill(circle(x, y, 0.03), b.vary((0.9, 0.5, 0.3), 17, 0.4))
    lamp = torch.where(b.number(20) < 0.5, 0.06, 0.94)
    b.canvas.fill(box(b.x - lamp, b.y - b.horizon + 0.12, 0.01, 0.14), (0.40, 0.30, 0.25), outline=LINE)
    b.canvas.fill(trapezium(b.x - lamp, -(b.y - b.horizon + 0.22), 0.07, 0.04, 0.09), (0.99, 0.86, 0.48), outline=LINE)


def night(b):
    b.sky((0.06, 0.07, 0.24), (0.20, 0.22, 0.46))
    b.stars_and_moon(NIGHT_NUMBERS, STARS_OF_NIGHT)
    b.hills((0.10, 0.17, 0.27), 0.08, 0.04, 7.0, 60)
    b.ground((0.15, 0.30, 0.26), 0.01)


def snow(b):
    b.sky((0.70, 0.82, 0.94), (0.90, 0.94, 0.98))
    b.hills((0.82, 0.88, 0.95), 0.08, 0.04, 8.0, 10)
    b.ground((0.95, 0.97, 1.0), 0.012)
    for i in range(3):
        x = b.x - (i + 0.1 + 0.8 * b.number(14 + i)) / 3
        y, size = b.y - b.horizon, 0.8 + 0.5 * b.number(18 + i)
        b.canvas.fill(box(x, y + 0.03, 0.014, 0.04), (0.42, 0.30, 0.20), outline=LINE)
        for step in (0.05, 0.13, 0.21):
            b.canvas.fill(triangle(x, -(y + step * size), (0.10 - 0.16 * step) * size, 0.12 * size), (0.20, 0.44, 0.40), outline=LINE)
            b.canvas.fill(triangle(x, -(y + (step + 0.075) * size), (0.04 - 0.06 * step) * size, 0.045 * size), WHITE)
    for i in range(14):
        b.canvas.fill(circle(b.x - b.number(22 + i), b.y - b.number(38 + i), 0.008), WHITE)


def desert(b):
    b.sky((0.98, 0.74, 0.44), (1.0, 0.91, 0.69))
    b.sun((1.0, 0.96, 0.78), 0.08)
    b.hills((0.90, 0.65, 0.38), 0.07, 0.05, 5.0, 10)
    b.ground((0.96, 0.78, 0.49), 0.015)
    near = torch.where(b.number(14) < 0.5, 0.05 + 0.12 * b.number(15), 0.83 + 0.12 * b.number(15))
    for x, size in ((near, 1.0), (0.2 + 0.6 * b.number(16), 0.55)):
        foot = b.horizon + 0.02
        cactus = union(
            stroke(b.x, b.y, x, foot, x, foot - 0.27 * size, 0.026 * size),
            stroke(b.x, b.y, x, foot - 0.10 * size, x - 0.07 * size, foot - 0.10 * size, 0.018 * size),
            stroke(b.x, b.y, x - 0.07 * size, foot - 0.10 * size, x - 0.07 * size, foot - 0.19 * size, 0.018 * size),
            stroke(b.x, b.y, x, foot - 0.13 * size, x + 0.07 * size, foot - 0.13 * size, 0.018 * size),
            stroke(b.x, b.y, x + 0.07 * size, foot - 0.13 * size, x + 0.07 * size, foot - 0.21 * size, 0.018 * size))
        b.canvas.fill(cactus, (0.27, 0.58, 0.33), outline=LINE)


def mountains(b):
    b.sky((0.50, 0.76, 0.98), (0.87, 0.94, 1.0))
    b.sun((1.0, 0.92, 0.50))
    b.cloud(10)
    for i in range(3):
        x = b.x - ((i + 0.5) / 3 + 0.2 * (b.number(14 + i) - 0.5))
        up, height, width = b.horizon - b.y, 0.30 + 0.18 * b.number(18 + i), 0.24 + 0.06 * b.number(22 + i)
        peak = triangle(x, up, width, height)
        b.canvas.fill(peak, b.vary((0.50, 0.51, 0.60), 26, 0.15), outline=LINE)
        b.canvas.fill(both(peak, height * 0.68 - up - 0.012 * torch.sin(b.x * 70)), (0.97, 0.98, 1.0))
    b.ground((0.52, 0.77, 0.38), 0.01)
    for i in range(6):
        b.canvas.fill(circle(b.x - b.number(32 + i), b.y - b.horizon - 0.05 - 0.25 * b.number(40 + i), 0.009), b.vary((0.95, 0.80, 0.50), 48 + 3 * i, 0.5))


DRAW = {"forest": forest, "beach": beach, "city": city, "room": room, "night": night, "snow": snow, "desert": desert, "mountains": mountains}


def nightfall(b):
    """Turns a place of the day, already drawn as a dark one, to night."""
    shade = torch.tensor((0.26, 0.31, 0.52), device=b.canvas.device)
    b.canvas.pictures.mul_(shade[None, :, None, None])
    b.stars_and_moon(NIGHTFALL_NUMBERS, STARS_OF_NIGHTFALL)
