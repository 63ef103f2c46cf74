"""What is measured of pictures by what the classifier says of them."""
import torch.nn.functional as F

from cast import FRAMES


def accuracy(seen, wanted):
    """Share of the pictures that each output is right about; of colours the root mean square error."""
    result = {}
    for name, value in seen.items():
        target = wanted[name]
        if target.is_floating_point():
            known = ~target.isnan().any(1)
            result[name] = round((value[known] - target[known]).square().mean().sqrt().item(), 3)
        else:
            known = target >= 0
            result[name] = round((value[known].argmax(1) == target[known]).float().mean().item(), 4)
    return result


def spread(colours):
    """(deviation within a story, over all pictures) of colours [stories * FRAMES, 3]."""
    stories = colours.view(-1, FRAMES, 3)
    return stories.var(1, unbiased=True).mean().sqrt().item(), colours.var(0).mean().sqrt().item()


def sameness(classes, count):
    """(share of pairs of pictures of one story that agree, share expected of any two pictures) of classes [stories * FRAMES]."""
    stories = classes.view(-1, FRAMES)
    equal = (stories[:, :, None] == stories[:, None, :]).float()
    share = F.one_hot(classes, count).float().mean(0)
    return ((equal.sum((1, 2)) - FRAMES) / (FRAMES * (FRAMES - 1))).mean().item(), share.square().sum().item()


def difference(a, b):
    """Root mean square difference of colours [M, 3] over what strangers of the same set differ by."""
    return ((a - b).square().mean().sqrt() / (a - a.roll(1, 0)).square().mean().sqrt()).item()


def story_measures(seen, wanted):
    """The table of the model card for stories of one character, FRAMES pictures each, from the classifier's outputs."""
    result = {}
    for name, key in (("kind", "kind_0"), ("action", "action_0"), ("place", "place")):
        result[name] = (seen[key].argmax(1) == wanted[key]).float().mean().item()
    for name in ("fur", "shirt"):
        within, overall = spread(seen[f"{name}_0"])
        result[f"{name} spread"] = within / overall
    for name in ("hat", "pattern"):
        logits = seen[f"{name}_0"]
        result[f"same {name}"], result[f"{name} chance"] = sameness(logits.argmax(1), logits.shape[1])
    result["one figure"] = (seen["count"].argmax(1) == 1).float().mean().item()
    return {name: round(value, 3) for name, value in result.items()}
