"""The characters: how each kind is drawn in each pose, with its clothes and what it holds.

A figure is drawn in its own frame: feet at w = 0, a standing figure about one unit high, u to its right.
"""
import math

import torch

from canvas import INK, WHITE, both, box, circle, ellipse, repeat, stroke, trapezium, triangle, union
from cast import ACTIONS, COLOUR_NAMES, COLOURS, HATS, PATTERNS, PEOPLE

HEAD = 0.70   # height of the head's centre
PINK = (0.98, 0.62, 0.64)
SHOE = (0.27, 0.22, 0.22)

# elbow and hand of the left arm, of the right arm, knee and foot of the left leg, of the right leg: (u, w) each;
# then by how much the body sinks, its tilt in degrees and how high it is off the ground.
POSES = {
    "standing": ((-.19, .37), (-.22, .26), (.19, .37), (.22, .26), (-.08, .14), (-.09, .03), (.08, .14), (.09, .03), 0, 0, 0),
    "walking": ((-.20, .38), (-.27, .30), (.21, .39), (.27, .33), (-.11, .15), (-.18, .05), (.13, .16), (.18, .03), 0, -3, 0),
    "running": ((-.24, .37), (-.30, .47), (.24, .38), (.30, .48), (-.14, .13), (-.29, .16), (.17, .19), (.26, .06), 0, -13, .05),
    "jumping": ((-.24, .52), (-.31, .66), (.24, .52), (.31, .66), (-.17, .17), (-.15, .06), (.17, .17), (.15, .06), 0, 0, .20),
    "sitting": ((-.20, .37), (-.22, .26), (.20, .37), (.22, .26), (-.19, .13), (-.26, .03), (.19, .13), (.26, .03), -.17, 0, 0),
    "sleeping": ((-.18, .37), (-.15, .28), (.18, .37), (.15, .28), (-.08, .14), (-.08, .03), (.08, .14), (.08, .03), 0, 88, 0),
    "waving": ((-.19, .37), (-.22, .26), (.26, .50), (.33, .66), (-.08, .14), (-.09, .03), (.08, .14), (.09, .03), 0, 0, 0),
    "reading": ((-.20, .37), (-.13, .31), (.20, .37), (.13, .31), (-.08, .14), (-.09, .03), (.08, .14), (.09, .03), 0, 0, 0),
    "dancing": ((-.25, .52), (-.29, .67), (.27, .42), (.35, .34), (-.06, .14), (-.07, .03), (.18, .20), (.27, .14), 0, 10, 0),
    "balloon": ((-.19, .37), (-.22, .26), (.25, .46), (.30, .60), (-.08, .14), (-.09, .03), (.08, .14), (.09, .03), 0, 0, 0),
    "umbrella": ((-.19, .37), (-.22, .26), (.23, .39), (.28, .46), (-.08, .14), (-.09, .03), (.08, .14), (.09, .03), 0, 0, 0),
    "ball": ((-.23, .41), (-.30, .36), (.23, .41), (.30, .38), (-.09, .14), (-.11, .03), (.13, .17), (.23, .09), 0, 6, 0),
}
SINK, TILT, LIFT = 16, 17, 18


def pose_table():
    rows = [[number for joint in POSES[action][:8] for number in joint] + list(POSES[action][8:]) for action in ACTIONS]
    return torch.tensor(rows, dtype=torch.float)


def lighter(colour, part=0.55):
    return colour * (1 - part) + part


class Figure:
    """Figures of one kind on a canvas, one to a picture.

    look: colours [B, 3] by name and indices [B] (pattern, hat); action, prop [B]; place on the ground (x, y), size and
    mirror sign, all [B, 1, 1].
    """

    def __init__(self, canvas, kind, look, action, prop, x, ground, size, mirror, lean):
        self.canvas, self.kind, self.look, self.prop = canvas, kind, look, prop
        self.action = action
        self.joints = pose_table().to(canvas.device)[action][:, :, None, None]
        self.asleep = self.doing("sleeping")
        tilt = (self.joints[:, TILT] + lean) * math.pi / 180
        base_x = x + self.asleep * mirror * size * 0.42
        base_y = ground - self.joints[:, LIFT] * size - self.asleep * size * 0.15
        across, up = (canvas.x - base_x) / size * mirror, (base_y - canvas.y) / size
        self.u = across * torch.cos(tilt) + up * torch.sin(tilt)
        self.w = -across * torch.sin(tilt) + up * torch.cos(tilt)
        self.body = self.w - self.joints[:, SINK]  # height in the sinking part of the body
        self.face = self.body - HEAD
        self.size, self.x, self.ground = size, x, ground
        self.above_head = (base_x - mirror * size * 0.98 * self.asleep, base_y - 0.28 * size)

    def doing(self, action):
        return (self.action == ACTIONS.index(action)).float()[:, None, None]

    def has(self, name, value, names):
        return (self.look[name] == names.index(value)).float()[:, None, None]

    def fill(self, distance, colour, where=None, outline=True):
        self.canvas.fill(distance, colour, where, outline=0.0072 if outline else 0.0, unit=self.size)

    def draw(self):
        self.shadow()
        self.behind()
        self.legs()
        self.torso()
        self.arms()
        self.ears()
        self.head()
        self.hat()
        self.held()
        self.sleep_signs()

    def shadow(self):
        width = 0.22 * (1 + 0.9 * self.asleep)
        x, y = (self.canvas.x - self.x) / self.size, (self.canvas.y - self.ground) / self.size
        self.canvas.fill(ellipse(x / width * 0.22, y, 0.22, 0.035), (0.0, 0.0, 0.0), where=0.22, unit=self.size)

    def behind(self):
        u, body, fur = self.u, self.body, self.look["fur"]
        if self.kind in ("cat", "dog", "monster"):
            self.fill(union(stroke(u, body, 0.08, 0.28, 0.21, 0.22, 0.028), stroke(u, body, 0.21, 0.22, 0.26, 0.35, 0.028)), fur)
        if self.kind in ("rabbit", "bear"):
            self.fill(circle(u - 0.15, body - 0.25, 0.052), lighter(fur))
        if self.kind == "girl":
            self.fill(box(u, self.face + 0.06, 0.225, 0.22, 0.15), fur)

    def limb(self, ax, ay, first, second, width, tail, legs=False):
        joints = self.joints
        below = 0.02 if legs else 0.0
        height = self.w if legs else self.body
        elbow, hand = (joints[:, first], joints[:, first + 1] + below), (joints[:, second], joints[:, second + 1] + below)
        return union(stroke(self.u, height, ax, ay, *elbow, width), stroke(self.u, height, *elbow, *hand, tail))

    def legs(self):
        person = self.kind in PEOPLE
        colour = self.look["trousers"] if person else self.look["fur"] * (0.8 if self.kind == "robot" else 1.0)
        for side, first in ((-1, 8), (1, 12)):
            hip = 0.27 + self.joints[:, SINK]
            self.fill(self.limb(side * 0.07, hip, first, first + 2, 0.048, 0.045, legs=True), colour)
            foot = ellipse(self.u - self.joints[:, first + 2] - side * 0.02, self.w - self.joints[:, first + 3] - 0.012, 0.068, 0.040)
            self.fill(foot, SHOE if person else colour * 0.75)

    def torso(self):
        u, body, shirt = self.u, self.body, self.look["shirt"]
        shape = box(u, body - 0.37, 0.15, 0.15, 0.03) if self.kind == "robot" else box(u, body - 0.37, 0.14, 0.155, 0.085)
        if self.kind == "girl":
            shape = union(shape, trapezium(u, body - 0.17, 0.215, 0.12, 0.15))
        self.fill(shape, shirt)
        pale = shirt.mean(1, keepdim=True) > 0.8
        mark = torch.where(pale, torch.tensor([0.20, 0.30, 0.70], device=shirt.device), torch.ones(3, device=shirt.device))
        inside = shape + 0.008
        stripes = repeat(body - 0.29, 0.13).abs() - 0.030
        self.fill(both(inside, stripes), mark, where=self.has("pattern", "striped", PATTERNS), outline=False)
        dots = circle(repeat(u - 0.065, 0.13), repeat(body - 0.315, 0.13), 0.037)
        self.fill(both(inside, dots), mark, where=self.has("pattern", "dotted", PATTERNS), outline=False)

    def arms(self):
        joints, skin = self.joints, self.look["skin"]
        for side, first in ((-1, 0), (1, 4)):
            self.fill(self.limb(side * 0.12, 0.46, first, first + 2, 0.044, 0.038), skin)
            sleeve = stroke(self.u, self.body, side * 0.12, 0.46, side * 0.054 + joints[:, first] * 0.55, 0.207 + joints[:, first + 1] * 0.55, 0.049)
            self.fill(sleeve, self.look["shirt"])
            self.fill(circle(self.u - joints[:, first + 2], self.body - joints[:, first + 3], 0.047), skin)

    def ears(self):
        u, face, fur = self.u, self.face, self.look["fur"]
        for side in (-1, 1):
            if self.kind == "cat":
                self.fill(triangle(u - side * 0.14, face - 0.10, 0.085, 0.19), fur)
                self.fill(triangle(u - side * 0.14, face - 0.12, 0.045, 0.10), PINK, outline=False)
            if self.kind == "bear":
                self.fill(circle(u - side * 0.165, face - 0.155, 0.075), fur)
                self.fill(circle(u - side * 0.165, face - 0.155, 0.040), lighter(fur), outline=False)
            if self.kind == "rabbit":
                self.fill(ellipse(u - side * 0.09, face - 0.31, 0.056, 0.17), fur)
                self.fill(ellipse(u - side * 0.09, face - 0.31, 0.028, 0.12), PINK, outline=False)
            if self.kind == "monster":
                self.fill(triangle(u - side * 0.14, face - 0.13, 0.05, 0.16), (0.96, 0.91, 0.76))
            if self.kind == "boy":
                self.fill(circle(u - side * 0.215, face + 0.01, 0.045), self.look["skin"])
        if self.kind == "robot":
            self.fill(union(stroke(u, face, 0, 0.15, 0, 0.28, 0.013), circle(u, face - 0.30, 0.036)), (0.93, 0.30, 0.24))

    def head(self):
        u, face, look = self.u, self.face, self.look
        shape = box(u, face, 0.21, 0.175, 0.045) if self.kind == "robot" else ellipse(u, face, 0.225, 0.205)
        self.fill(shape, look["skin"])
        if self.kind in PEOPLE:
            fringe = 0.085 + 0.03 * torch.cos(u * 20)
            self.fill(both(ellipse(u, face - 0.01, 0.237, 0.217), fringe - face), look["fur"])
        if self.kind == "girl":
            self.fill(both(shape + 0.004, 0.165 - u.abs()), look["fur"], outline=False)
        if self.kind == "dog":
            for side in (-1, 1):
                self.fill(ellipse(u - side * 0.215, face + 0.01, 0.062, 0.13), look["fur"] * 0.65)
        self.muzzle()
        self.eyes()
        self.mouth()

    def muzzle(self):
        u, face, fur = self.u, self.face, self.look["fur"]
        if self.kind in ("bear", "dog", "cat", "rabbit"):
            self.fill(ellipse(u, face + 0.085, 0.10, 0.072), lighter(fur, 0.6), outline=False)
            dark = self.kind in ("bear", "dog")
            self.fill(ellipse(u, face + 0.050, 0.034, 0.024), INK if dark else (0.92, 0.45, 0.52), outline=False)
        if self.kind == "cat":
            for side in (-1, 1):
                for lift in (-0.012, 0.022):
                    self.fill(stroke(u, face, side * 0.10, -0.075 + lift * 0.3, side * 0.23, -0.075 + lift * 2, 0.006), INK, outline=False)
        if self.kind in PEOPLE:
            for side in (-1, 1):
                self.fill(circle(u - side * 0.14, face + 0.055, 0.030), PINK, where=0.8, outline=False)

    def eyes(self):
        u, face = self.u, self.face
        awake, asleep = 1 - self.asleep, self.asleep
        if self.kind == "monster":
            self.fill(circle(u, face - 0.035, 0.088), WHITE, where=awake)
            self.fill(circle(u - 0.010, face - 0.032, 0.046), INK, where=awake, outline=False)
            self.fill(circle(u - 0.028, face - 0.052, 0.016), WHITE, where=awake, outline=False)
            self.fill(stroke(u, face, -0.08, 0.02, 0.08, 0.02, 0.012), INK, where=asleep, outline=False)
            return
        for side in (-1, 1):
            x, y = u - side * 0.085, face - 0.020
            self.fill(ellipse(x, y, 0.044, 0.055), WHITE, where=awake)
            self.fill(circle(x - 0.006, y + 0.006, 0.030), INK, where=awake, outline=False)
            self.fill(circle(x - 0.018, y - 0.008, 0.010), WHITE, where=awake, outline=False)
            self.fill(stroke(u, face, side * 0.085 - 0.042, 0.012, side * 0.085 + 0.042, 0.012, 0.011), INK, where=asleep, outline=False)

    def mouth(self):
        u, face = self.u, self.face
        if self.kind == "robot":
            grille = box(u, face + 0.095, 0.10, 0.034, 0.012)
            self.fill(grille, (0.87, 0.88, 0.88))
            self.fill(both(grille + 0.004, repeat(u, 0.05).abs() - 0.006), INK, outline=False)
        elif self.kind == "monster":
            self.fill(both(ellipse(u, face + 0.075, 0.11, 0.075), face + 0.075), (0.52, 0.12, 0.18))
            for side in (-1, 1):
                self.fill(triangle(u - side * 0.05, -(face + 0.077), 0.024, 0.036), WHITE, outline=False)
        else:
            self.fill(both(circle(u, face + 0.065, 0.056).abs() - 0.010, face + 0.083), INK, outline=False)

    def hat(self):
        u, colour = self.u, self.look["hat_colour"]
        brim = self.face - (0.145 if self.kind == "robot" else 0.155)

        def worn(name):
            return self.has("hat", name, HATS)

        self.fill(both(ellipse(u, brim, 0.19, 0.13), -brim), colour, where=worn("cap"))
        self.fill(box(u - 0.14, brim - 0.008, 0.15, 0.022, 0.018), colour * 0.8, where=worn("cap"))
        self.fill(box(u, brim - 0.135, 0.135, 0.125, 0.012), colour, where=worn("top hat"))
        self.fill(box(u, brim - 0.050, 0.135, 0.026), lighter(colour, 0.7) * 0.5, where=worn("top hat"), outline=False)
        self.fill(box(u, brim - 0.012, 0.235, 0.022, 0.016), colour, where=worn("top hat"))
        cone = triangle(u, brim, 0.145, 0.29)
        self.fill(cone, colour, where=worn("party hat"))
        self.fill(both(cone + 0.008, repeat(brim - u * 0.4 - 0.03, 0.10).abs() - 0.016), WHITE, where=worn("party hat"), outline=False)
        self.fill(circle(u, brim - 0.29, 0.038), WHITE, where=worn("party hat"))

    def held(self):
        u, body = self.u, self.body
        palette = torch.tensor([COLOURS[name] for name in COLOUR_NAMES], device=u.device)
        colour = palette[self.prop]
        reading = self.doing("reading")
        for side in (-1, 1):
            x, y = u - side * 0.085, body - 0.34 - 0.25 * (u * side - 0.085)
            self.fill(box(x, y, 0.095, 0.090, 0.012), colour, where=reading)
            self.fill(box(x, y - 0.014, 0.075, 0.074), (1.0, 0.99, 0.93), where=reading, outline=False)
            for line in (-0.033, 0.0, 0.033):
                self.fill(box(x, y - 0.012 - line, 0.055, 0.006), (0.55, 0.55, 0.58), where=reading, outline=False)
        balloon = self.doing("balloon")
        self.fill(stroke(u, body, 0.30, 0.60, 0.37, 0.88, 0.006), INK, where=balloon, outline=False)
        self.fill(ellipse(u - 0.38, body - 0.99, 0.125, 0.145), colour, where=balloon)
        self.fill(ellipse(u - 0.345, body - 1.045, 0.026, 0.040), WHITE, where=balloon * 0.8, outline=False)
        umbrella = self.doing("umbrella")
        self.fill(stroke(u, body, 0.28, 0.38, 0.28, 1.10, 0.010), (0.40, 0.28, 0.22), where=umbrella)
        across, dome = u - 0.23, body - 1.02
        roof = both(circle(across, dome, 0.37), 0.045 + 0.018 * torch.cos(across * 42) - dome)
        self.fill(roof, colour, where=umbrella)
        middle = across.abs() - 0.11 * torch.sqrt((1 - (dome / 0.37) ** 2).clamp(0, 1))
        self.fill(both(roof + 0.004, middle), lighter(colour, 0.45), where=umbrella, outline=False)
        ball = self.doing("ball")
        x, y = u - 0.37, self.w - 0.11
        self.fill(circle(x, y, 0.11), colour, where=ball)
        self.fill(both(circle(x, y, 0.11) + 0.006, (y + 0.3 * x).abs() - 0.028), WHITE, where=ball, outline=False)
        dancing = self.doing("dancing")
        for x, y in ((-0.42, 0.86), (0.43, 0.72)):
            note = union(ellipse(u - x, body - y, 0.038, 0.029), stroke(u, body, x + 0.034, y, x + 0.034, y + 0.13, 0.010),
                         stroke(u, body, x + 0.034, y + 0.13, x + 0.085, y + 0.09, 0.013))
            self.fill(note, INK, where=dancing, outline=False)

    def sleep_signs(self):
        x, y = self.above_head
        for dx, dy, half in ((0.0, 0.0, 0.055), (0.08, -0.10, 0.080)):
            a, b = (self.canvas.x - x) / self.size - dx, (self.canvas.y - y) / self.size - dy
            letter = union(stroke(a, b, -half * 0.5, -half * 0.6, half * 0.5, -half * 0.6, 0.012), stroke(a, b, half * 0.5, -half * 0.6, -half * 0.5, half * 0.6, 0.012),
                           stroke(a, b, -half * 0.5, half * 0.6, half * 0.5, half * 0.6, 0.012))
            self.canvas.fill(letter, WHITE, where=self.asleep, outline=0.011, unit=self.size)
