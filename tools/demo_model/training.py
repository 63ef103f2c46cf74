"""What the training commands share: where they run, flat parameters, the stories that they train on, a clock that stops before a machine's time is over."""
import os
import time

import torch
import torch.distributed as distributed

from cast import FRAMES, KINDS, PEOPLE, random_cast, random_pictures

END_SECONDS = 12  # of a run's time, for measuring and saving what it made


class Run:
    """One process of a training run: its device, its rank among the processes, its time."""

    def __init__(self, minutes):
        self.start, self.seconds = time.monotonic(), minutes * 60
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        cuda = torch.cuda.is_available()
        self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count()) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(self.device)
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")
        if self.world > 1:
            distributed.init_process_group("nccl" if cuda else "gloo", device_id=self.device if cuda else None)

    def passed(self):
        return time.monotonic() - self.start

    def left(self):
        """Seconds left, agreed between the processes, so that all of them stop at the same step."""
        if self.world == 1:
            return self.seconds - self.passed()
        seconds = torch.tensor(self.seconds - self.passed(), device=self.device)
        distributed.all_reduce(seconds, distributed.ReduceOp.MIN)
        return float(seconds)

    def say(self, text):
        if self.rank == 0:
            print(f"[{self.passed():6.1f} s] {text}", flush=True)

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def end(self):
        if self.world > 1:
            distributed.destroy_process_group()


class FlatParameters:
    """All parameters of some modules in one buffer, with their gradients and their moving average beside it: one optimiser step,
    one all-reduce and one average are single kernels then. Convolution weights lie channels last."""

    def __init__(self, modules):
        self.modules = modules
        parameters = [p for module in modules for p in module.parameters()]
        size, device = sum(p.numel() for p in parameters), parameters[0].device
        self.values, self.gradients = torch.empty(size, device=device), torch.zeros(size, device=device)
        start = 0
        with torch.no_grad():
            for p in parameters:
                end, shape = start + p.numel(), p.shape
                for buffer, name in ((self.values, "data"), (self.gradients, "grad")):
                    piece = buffer[start:end]
                    if p.dim() == 4:
                        o, i, h, w = shape
                        piece = piece.view(o, h, w, i).permute(0, 3, 1, 2)
                    else:
                        piece = piece.view(shape)
                    if name == "data":
                        piece.copy_(p)
                    setattr(p, name, piece)
                start = end
        self.average = self.values.clone()

    def use_average(self):
        """Swaps the values and their moving average; called twice, nothing has happened."""
        kept = self.values.clone()
        self.values.copy_(self.average)
        self.average.copy_(kept)


def pictures_of_stories(count, seed, pairs=0.3, scenes=0.05):
    """A cast and `count` pictures in groups of four: four of one character; or, `pairs` of the groups, one of a first character, one of
    a second and two of both; or, `scenes` of them, places without anybody. Returns (cast, pictures, is_pair [count / FRAMES])."""
    generator = torch.Generator().manual_seed(seed)
    groups = count // FRAMES
    cast = random_cast(2 * groups, generator)
    first = torch.arange(groups)
    draw = torch.rand(groups, generator=generator)
    pair, nobody = draw < pairs, draw > 1 - scenes
    second = first + groups
    same = pair & (cast.kind[first] == cast.kind[second]) & (torch.rand(groups, generator=generator) < 0.6)  # two of a kind are hard to tell apart: fewer
    kind = cast.kind.clone()
    kind[second[same]] = (kind[second[same]] + 1 + torch.randint(len(KINDS) - 1, (int(same.sum()),), generator=generator)) % len(KINDS)
    alike = (kind < len(PEOPLE)) == (cast.kind < len(PEOPLE))  # people have hair colours, animals fur colours: keep to those who stay one of them
    cast.kind = torch.where(alike, kind, cast.kind)
    who = torch.full((groups, FRAMES, 2), -1)
    who[:, :, 0] = first[:, None]
    who[pair, 1, 0] = second[pair]
    who[pair, 2:, 1] = second[pair][:, None]
    who[nobody] = -1
    return cast, random_pictures(who.view(-1, 2), generator), pair
