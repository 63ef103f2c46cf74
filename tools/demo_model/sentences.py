"""What people may say of a picture: prompts in many forms, and the list of words that the model has learnt.

The looks that a prompt leaves out are what the model has to make up, and what identity state has to keep from panel to panel. So
most characters are described by few of their attributes or none, and always by the same ones.
"""
import random
import re
import string

from cast import ACTIONS, CAMERAS, COLOUR_NAMES, HATS, KINDS, PATTERNS, PEOPLE, PLACES

PLAIN_DESCRIPTION = 0.45    # of the characters are described by their kind alone
NAMED = {"fur": 0.45, "shirt": 0.45, "hat": 0.5, "trousers": 0.12}  # chance of each attribute in the other descriptions
COMMON_FORM = 0.5           # chance that a place or action is named in its first, most usual form
PROP_COLOUR = 0.35
STRANGE_WORD = 0.03         # prompts with a name that means nothing

KIND_WORDS = {
    "boy": ("boy",), "girl": ("girl",), "robot": ("robot",), "cat": ("cat", "kitten"), "dog": ("dog", "puppy"),
    "bear": ("bear", "teddy bear"), "rabbit": ("rabbit", "bunny"), "monster": ("monster", "one-eyed monster"),
}
COLOUR_WORDS = {"gray": ("gray", "grey"), "yellow": ("yellow", "golden"), "purple": ("purple", "violet"), "cyan": ("cyan", "light blue", "turquoise"), "white": ("white",)}
HAIR_WORDS = {"yellow": ("yellow", "blond", "blonde")}
# "-ing" form first, then the form of "a cat ...s".
ACTION_WORDS = {
    "standing": (("standing", "standing still", "waiting", "smiling", "looking around"), ("stands", "waits", "smiles", "looks around")),
    "walking": (("walking", "going for a walk", "taking a walk", "strolling"), ("walks", "goes for a walk")),
    "running": (("running", "running fast", "running away", "racing"), ("runs", "runs away", "races")),
    "jumping": (("jumping", "jumping for joy", "leaping", "hopping"), ("jumps", "jumps for joy", "leaps", "hops")),
    "sitting": (("sitting", "sitting down", "resting", "sitting on the ground"), ("sits", "sits down", "rests")),
    "sleeping": (("sleeping", "asleep", "taking a nap", "dreaming"), ("sleeps", "takes a nap", "dreams")),
    "waving": (("waving", "waving hello", "waving goodbye", "saying hello"), ("waves", "says hello", "says goodbye")),
    "reading": (("reading a {}book", "reading", "reading a story", "with a {}book"), ("reads a {}book", "reads", "reads a story")),
    "dancing": (("dancing", "dancing to music", "singing and dancing", "singing"), ("dances", "sings and dances", "sings")),
    "balloon": (("holding a {}balloon", "with a {}balloon", "carrying a {}balloon"), ("holds a {}balloon", "has a {}balloon")),
    "umbrella": (("holding an umbrella", "holding a {}umbrella", "with a {}umbrella", "under a {}umbrella"), ("holds a {}umbrella", "has a {}umbrella")),
    "ball": (("playing with a {}ball", "playing ball", "kicking a {}ball", "with a {}ball", "playing"), ("plays with a {}ball", "plays ball", "kicks a {}ball", "plays")),
}
TOGETHER = {"stands": "stand", "waits": "wait", "smiles": "smile", "looks around": "look around", "walks": "walk", "goes for a walk": "go for a walk", "runs": "run",
            "runs away": "run away", "races": "race", "jumps": "jump", "jumps for joy": "jump for joy", "leaps": "leap", "hops": "hop", "sits": "sit", "sits down": "sit down",
            "rests": "rest", "sleeps": "sleep", "takes a nap": "take a nap", "dreams": "dream", "waves": "wave", "says hello": "say hello", "says goodbye": "say goodbye",
            "reads": "read", "reads a story": "read a story", "dances": "dance", "sings and dances": "sing and dance", "sings": "sing", "plays ball": "play ball", "plays": "play"}
PLACE_WORDS = {
    "forest": ("in the forest", "in the woods", "among the trees", "in a forest", "under the trees"),
    "beach": ("on the beach", "by the sea", "at the beach", "at the seaside", "near the sea"),
    "city": ("in the city", "in the street", "in town", "on the street", "in the town"),
    "room": ("in a room", "at home", "in the house", "in the room", "indoors", "in the bedroom", "inside"),
    "night": ("at night", "under the stars", "in the moonlight", "under the moon", "in the dark"),
    "snow": ("in the snow", "in winter", "on a snowy day", "in the cold snow"),
    "desert": ("in the desert", "in a desert", "in the hot desert"),
    "mountains": ("in the mountains", "on a mountain", "in the hills", "near the mountains", "on the mountain"),
}
CAMERA_WORDS = {"close": ("close-up", "close up", "portrait", "seen from near"), "far": ("far away", "from far away", "in the distance", "small and far away")}
OPENINGS = ("a cartoon of {}", "a picture of {}", "a drawing of {}", "cartoon, {}", "an illustration of {}", "a colourful cartoon of {}", "a page of a picture book, {}", "comic panel, {}")
ADJECTIVES = ("little", "small", "happy", "cute", "funny", "young", "friendly", "brave", "good", "kind", "old", "big", "tiny", "clever", "merry", "sweet", "lonely", "dear")
ADVERBS = ("happily", "quietly", "again", "today", "now", "together", "alone", "all day", "with a smile", "in the morning", "then")
ENDINGS = ("cartoon", "picture book", "colourful", "children's book illustration", "flat colours", "cute", "simple", "bright colours")


def choose(rng, forms, common=COMMON_FORM):
    return forms[0] if rng.random() < common else rng.choice(forms)


def with_article(noun):
    return ("an " if noun[0] in "aeiou" and not noun.startswith("one-") else "a ") + noun


class Words:
    """Writes prompts for pictures of a cast; everything random comes from its seed."""

    def __init__(self, cast, seed, named=True):
        """`named` False: characters are told by their kind only."""
        self.cast, self.rng = cast, random.Random(seed)
        self.named = [self._named() if named else () for _ in range(len(cast))]

    def _named(self):
        if self.rng.random() < PLAIN_DESCRIPTION:
            return ()
        return tuple(name for name, probability in NAMED.items() if self.rng.random() < probability)

    def colour(self, index, people=False):
        name = COLOUR_NAMES[index]
        forms = HAIR_WORDS.get(name) if people else None
        return choose(self.rng, forms or COLOUR_WORDS.get(name, (name,)), 0.7)

    def character(self, person):
        """A noun phrase without its article."""
        rng, cast, named = self.rng, self.cast, self.named[person]
        kind = KINDS[cast.kind[person]]
        people, noun, worn = kind in PEOPLE, choose(rng, KIND_WORDS[kind], 0.75), []
        if "fur" in named:
            colour = self.colour(cast.fur[person], people)
            if people:
                worn.append(f"{colour} hair")
            elif rng.random() < 0.8:
                noun = f"{colour} {noun}"
            else:
                worn.append(f"{colour} fur" if kind != "robot" else f"{colour} legs")
        if "shirt" in named:
            pattern, colour = PATTERNS[cast.pattern[person]], self.colour(cast.shirt[person])
            shirt = rng.choice(("shirt", "shirt", "shirt", "jumper", "dress" if kind == "girl" else "sweater"))
            pattern = rng.choice(("dotted", "spotted")) if pattern == "dotted" else pattern
            worn.append(with_article(f"{colour} {shirt}" if pattern == "plain" else rng.choice((f"{colour} {pattern} {shirt}", f"{pattern} {colour} {shirt}"))))
        if "trousers" in named and people:
            worn.append(f"{self.colour(cast.trousers[person])} {rng.choice(('trousers', 'pants'))}")
        if "hat" in named:
            hat = HATS[cast.hat[person]]
            worn.append("no hat" if hat == "none" and rng.random() < 0.3 else None if hat == "none"
                        else with_article(f"{self.colour(cast.hat_colour[person])} {rng.choice((hat, hat, 'hat'))}"))
        worn = [part for part in worn if part]
        rng.shuffle(worn)
        adjective = rng.choice(ADJECTIVES) + " " if rng.random() < 0.12 else ""
        if not worn:
            return adjective + noun
        joint = " and ".join(worn) if len(worn) < 3 or rng.random() < 0.5 else ", ".join(worn[:-1]) + " and " + worn[-1]
        return f"{adjective}{noun} {'wearing' if all('hair' not in part and 'fur' not in part and 'legs' not in part and 'no ' not in part for part in worn) and rng.random() < 0.2 else 'with'} {joint}"

    def subject(self, person):
        phrase = self.character(person)
        if self.rng.random() < STRANGE_WORD:
            name = "".join(self.rng.choice(string.ascii_lowercase) for _ in range(self.rng.randint(3, 7)))
            return f"{name} the {phrase}" if self.rng.random() < 0.5 else f"{with_article(phrase)} named {name}"
        return with_article(phrase) if self.rng.random() < 0.85 else phrase if self.rng.random() < 0.5 else "the " + phrase

    def action(self, action, prop, form):
        """form 0: '-ing', 1: 'a cat ...s', 2: 'a cat and a dog ...'."""
        words = choose(self.rng, ACTION_WORDS[ACTIONS[action]][min(form, 1)])
        if "{}" in words:
            colour = self.colour(prop) + " " if self.rng.random() < PROP_COLOUR else ""
            noun = words.split("{}")[1]
            words = words.format(colour)
            words = re.sub(r"\ba (?=[aeiou])", "an ", words) if (colour or noun) else words
        if form == 2:
            first, _, rest = words.partition(" ")
            words = TOGETHER.get(words) or {"reads": "read", "holds": "hold", "has": "have", "plays": "play", "kicks": "kick"}[first] + " " + rest
        return words

    def place(self, pictures, row):
        words = choose(self.rng, PLACE_WORDS[PLACES[pictures.place[row]]])
        return words + " at night" if pictures.night[row] else words

    def extras(self, pictures, row):
        rng, parts = self.rng, []
        camera = CAMERAS[pictures.camera[row]]
        if camera in CAMERA_WORDS and rng.random() < 0.9:
            parts.append(choose(rng, CAMERA_WORDS[camera]))
        if pictures.who[row, 1] < 0 <= pictures.who[row, 0] and rng.random() < 0.25:
            x = float(pictures.centre[row, 0])
            parts += ["on the left"] if x < 0.42 else ["on the right"] if x > 0.58 else ["in the middle"] if abs(x - 0.5) < 0.04 else []
        if rng.random() < 0.06:
            parts.append(rng.choice(ENDINGS))
        return "".join(", " + part for part in parts)

    def one(self, pictures, row):
        rng, who = self.rng, self.subject(int(pictures.who[row, 0]))
        action, prop, place = int(pictures.action[row, 0]), int(pictures.prop_colour[row, 0]), self.place(pictures, row)
        doing, does = self.action(action, prop, 0), self.action(action, prop, 1)
        how = " " + rng.choice(ADVERBS) if rng.random() < 0.06 else ""
        draw = rng.random()
        if draw < 0.35 and ACTIONS[action] == "standing":
            return who if rng.random() < 0.4 else f"{who} {place}"
        if draw < 0.05:
            return f"{who} {doing}{how}"
        form = rng.randrange(12)
        if form < 5:
            opening = rng.choice(OPENINGS) if rng.random() < 0.25 else "{}"
            return opening.format(f"{who}{', ' if rng.random() < 0.5 else ' '}{doing}{how} {place}")
        if form < 7:
            return f"{who} is {doing}{how} {place}"
        if form < 9:
            return f"{who} {does}{how} {place}"
        if form == 9:
            return f"{place}, {who} is {doing}{how}"
        if form == 10:
            return f"{place} {who} {does}{how}"
        return f"{who}, {doing}, {place}"

    def two(self, pictures, row):
        rng = self.rng
        a, b = (self.subject(int(person)) for person in pictures.who[row])
        place = self.place(pictures, row)
        (left, right), (prop, other) = pictures.action[row].tolist(), pictures.prop_colour[row].tolist()
        if left == right:
            pair = f"{a} and {b}" if rng.random() < 0.85 else f"{a} with {b}"
            doing, together = self.action(left, prop, 0), self.action(left, prop, 2)
            form = rng.randrange(6)
            if form < 3:
                return f"{pair}{', ' if rng.random() < 0.5 else ' '}{doing} {place}"
            if form == 3:
                return f"{pair} are {doing} {place}"
            return f"{a} and {b} {together} {place}" if form == 4 else f"{place}, {a} and {b} {together}"
        form = rng.randrange(4)
        if form == 0:
            return f"{a} {self.action(left, prop, 0)} and {b} {self.action(right, other, 0)} {place}"
        if form == 1:
            return f"{a} is {self.action(left, prop, 0)} and {b} is {self.action(right, other, 0)} {place}"
        if form == 2:
            return f"{a} {self.action(left, prop, 1)} and {b} {self.action(right, other, 1)} {place}"
        return f"{a}, {self.action(left, prop, 0)}, and {b}, {self.action(right, other, 0)}, {place}"

    def nobody(self, pictures, row):
        place = self.place(pictures, row)
        return choose(self.rng, (place, f"an empty place {place}", f"nobody, {place}", f"landscape, {place}", f"a view {place}"))

    def prompt(self, pictures, row):
        count = int((pictures.who[row] >= 0).sum())
        return (self.nobody, self.one, self.two)[count](pictures, row) + self.extras(pictures, row)


def write(cast, pictures, seed, named=True):
    """One prompt a picture."""
    words = Words(cast, seed, named)
    return [words.prompt(pictures, row) for row in range(len(pictures))]


def known_words():
    """Every word that a prompt may hold, sorted: what the model was taught."""
    forms = [*KINDS, *COLOUR_NAMES, *HATS[1:], *PATTERNS, "spotted", "shirt jumper dress sweater trousers pants hair fur legs hat no none",
             "a an the and with wearing is are named in on at of left right middle empty place nobody landscape view", *TOGETHER.values(),
             "read hold have play kick", *ADJECTIVES, *ADVERBS, *ENDINGS, *OPENINGS]
    for table in (KIND_WORDS, COLOUR_WORDS, HAIR_WORDS, PLACE_WORDS, CAMERA_WORDS):
        forms += [form for group in table.values() for form in group]
    forms += [form for doing, does in ACTION_WORDS.values() for form in doing + does]
    return sorted({word for form in forms for word in re.findall(r"[a-z]+", form.lower().replace("'s", " s "))})
