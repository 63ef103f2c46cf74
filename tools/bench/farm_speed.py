#!/usr/bin/env python3
"""Times one story through a whole farm on one device and on several devices of this machine: how many times as fast, and
how much of the devices' time the farm itself takes.

    tools/bench/farm_speed.py --bin BIN --model FOLDER [--devices cuda:0,cuda:1] [--size 1024] [--steps 50]
                              [--panels 24] [--json FILE] [--logs FOLDER]

BIN holds storyctl, storyfarm-coordinator, storyfarm-worker and storyfarm-engine (build/dev/bin, or a bundle's bin).
Starts a coordinator, and a worker on the first device, then one on all of them; a device that is named twice (cpu,cpu)
gets a worker for each time. Two stories on each: panels without identity, and panels of one character, whose first panels
are its identity frames. Before each measured one the same story with few steps, so that models, kernels and the scheduler's
idea of the devices' speed are warm. Seeds and texts are new each time.

    wall       from the first grant to the last picture that the coordinator accepted
    engines    what devices say they took: prompts, identities, denoising and decoding; on a processor or a Mac, where pages
               take turns with pictures, also the pages before the last picture
    overhead   1 - engines / (devices x wall)

All files lie in a folder of their own under --work (three times the model's size), which is removed at the end.
Exit code 1 with --check where a story without identity falls short: 1.95 times for two devices, overhead above 2 %.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

STARTS_WITHIN_S = 180
LEAVES_WITHIN_S = 60
LOOKS_EVERY_S = 0.05
LOG_LINES = 25
LEAST_SPEED_UP_OF_EACH = 0.975  # 1.95 for two devices
MOST_OVERHEAD = 0.02
PROGRAMS = ("storyctl", "storyfarm-coordinator", "storyfarm-worker", "storyfarm-engine")

ANIMALS = ("bear", "cat", "dog", "fox", "rabbit")
ACTIONS = ("standing", "walking", "running", "sitting", "reading a book", "sleeping", "waving", "dancing")
PLACES = ("in the forest", "on the beach", "in the snow", "in the city", "in the mountains", "in a room")


class Trouble(Exception):
    pass


class Farm:
    """A coordinator and workers in a folder; all of them are gone after close()."""

    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.processes = {}
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("STORYFARM_")}
        self.environment["STORYFARM_FARM"] = f"unix:{folder}/farm/coordinator.sock"

    def log(self, name):
        return self.folder / f"{name}.log"

    def start(self, name, *words):
        line = [str(self.args.bin / words[0]), *map(str, words[1:]), "--log-format", "json"]
        with open(self.log(name), "ab") as log:
            # In a session of its own: Ctrl-C is this script's, which asks each program to leave.
            self.processes[name] = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                    env=self.environment, start_new_session=True)

    def stop(self, name):
        process = self.processes.pop(name)
        for ask in (process.terminate, process.terminate, process.kill):
            if process.poll() is not None:
                return
            ask()
            try:
                process.wait(LEAVES_WITHIN_S)
            except subprocess.TimeoutExpired:
                pass

    def close(self):
        for name in reversed(list(self.processes)):
            self.stop(name)

    def ends_of_logs(self):
        out = []
        for path in sorted(self.folder.glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()
            out.append(f"== {path.name}\n" + "\n".join(lines[-LOG_LINES:]))
        return "\n".join(out)

    def storyctl(self, *words, may_fail=False):
        line = [str(self.args.bin / "storyctl"), *map(str, words), "--json"]
        done = subprocess.run(line, capture_output=True, text=True, env=self.environment, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            if may_fail:
                return None
            raise Trouble(f"{' '.join(line)}\nended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def wait(self, what, enough, within_s):
        until = time.monotonic() + within_s
        while True:
            answer = enough()
            if answer:
                return answer
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise Trouble(f"{name} ended with {process.returncode} while waiting for {what}")
            if time.monotonic() > until:
                raise Trouble(f"waited {within_s} s for {what}")
            time.sleep(LOOKS_EVERY_S)

    def start_coordinator(self):
        self.start("coordinator", "storyfarm-coordinator", "--data", self.folder / "farm", "--web", "off")
        self.wait("the coordinator", lambda: self.storyctl("jobs", may_fail=True) is not None, STARTS_WITHIN_S)

    def start_workers(self, devices):
        """One worker for all devices, and one more for each time that a name comes again. Returns their names."""
        groups = []
        for device in devices:
            for group in groups:
                if device not in group:
                    group.append(device)
                    break
            else:
                groups.append([device])
        names = [f"worker-{number}" for number in range(len(groups))]
        for name, group in zip(names, groups):
            words = ["--data", self.folder / name, "--coordinator", self.environment["STORYFARM_FARM"], "--name", name,
                     "--devices", ",".join(group), "--cache-gb", self.args.cache_gb]
            if self.args.threads:
                words += ["--threads", self.args.threads]
            self.start(name, "storyfarm-worker", *words)

        def all_here():
            nodes = (self.storyctl("nodes", may_fail=True) or {"nodes": []})["nodes"]
            return sum(len(node["devices"]) for node in nodes if node["connected"]) == len(devices)

        self.wait("the workers", all_here, STARTS_WITHIN_S)
        return names

    def events(self, job):
        """What the coordinator has logged of a job, in its order."""
        out = []
        for line in self.log("coordinator").read_text(errors="replace").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and event.get("job") == job:
                out.append(event)
        return out


def write_story(folder, name, panels, character, settings, draws):
    """A story of one chapter whose texts no other has; with `character`, one that all panels show."""
    look = f"a {draws.choice(ANIMALS)} with a {draws.choice(('red', 'blue', 'green'))} shirt number {draws.randrange(10**6)}"
    story = {"title": name, "chapters": [{"title": name, "panels": []}], "settings": settings}
    if character:
        story["characters"] = {"Mia": look}
    for number in range(panels):
        who = "[Mia]" if character else f"[NC] a {draws.choice(ANIMALS)}"
        text = f"{who}, {draws.choice(ACTIONS)} {draws.choice(PLACES)}, picture {draws.randrange(10**6)}"
        story["chapters"][0]["panels"].append({"text": text, "caption": f"This is panel {number}."})
    path = folder / f"{name}.json"
    path.write_text(json.dumps(story))
    return path


def seconds(event):
    return datetime.datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()


def draw(farm, name, panels, character, settings, draws):
    """Submits a story, waits for its end and returns its times."""
    path = write_story(farm.folder, name, panels, character, settings, draws)
    began = time.time()
    job = farm.storyctl("submit", path, "--model", "speed", "--key", name)["job_id"]

    def ended():
        status = farm.storyctl("status", job, may_fail=True)
        return status if status and status["state"] not in ("queued", "running") else None

    status = farm.wait(f"story {name}", ended, farm.args.story_within_s)
    if status["state"] != "done":
        raise Trouble(f"story {name} ended as {status['state']}: {json.dumps(farm.storyctl('status', job, '--tasks'))}")
    return times(farm.events(job), status, began, farm.args.devices[0].split(":")[0] != "cuda")


def times(events, status, began, pages_take_turns):
    granted = [event for event in events if event["event"] == "granted"]
    frames = [event for event in events if event["event"] == "frame finished"]
    identities = [event for event in events if event["event"] == "identity finished"]
    texts = [event for event in events if event["event"] == "prompts encoded"]
    pages = [event for event in events if event["event"] == "page finished"]
    first = min(map(seconds, granted))
    last = max(map(seconds, frames + identities))
    frame_grants = [event for event in granted if "/frame/" in event["task"] or "/identity/" in event["task"]]
    per_device = {}
    by_token = {event["token"]: (event["node"], event["device"]) for event in granted}
    for event in frames:
        device = per_device.setdefault("{} {}".format(*by_token[event["token"]]), {"frames": 0, "render_s": 0.0})
        device["frames"] += 1
        device["render_s"] += int(event["render_ms"]) / 1000
        device["last_s"] = seconds(event) - first

    pages_between = [event for event in pages if pages_take_turns and seconds(event) < last]

    def total(some, field="render_ms"):
        return sum(int(event[field]) for event in some) / 1000

    return {
        "panels": status["frames_total"], "submitted_unix_ms": status["submitted_unix_ms"],
        "to_done_s": status["finished_unix_ms"] / 1000 - began, "wall_s": last - first,
        "first_frame_after_s": min(map(seconds, frame_grants)) - first, "pages_after_s": status["finished_unix_ms"] / 1000 - last,
        "text_s": total(texts), "identity_s": total(identities), "frame_s": total(frames),
        "page_s": total(pages, "compose_ms"), "engine_s": total(texts + identities + frames) + total(pages_between, "compose_ms"),
        "groups": [len(str(event["tasks"]).split(",")) for event in granted if "/frame/" in event["task"]],
        "devices": per_device}


def measure(farm, args, draws):
    report = {"machine": platform.platform(), "cores": os.cpu_count(), "model": str(args.model), "size": args.size,
              "steps": args.steps, "panels": args.panels, "devices": args.devices, "runs": []}
    farm.start_coordinator()
    began = time.monotonic()
    farm.storyctl("models", "add", "speed", args.model)
    report["add_model_s"] = time.monotonic() - began
    settings = dict(width=args.size, height=args.size, id_length=args.id_length, **args.settings)
    counts = [1] if len(args.devices) == 1 else [1, len(args.devices)]
    for count in counts:
        names = farm.start_workers(args.devices[:count])
        # The first stories bring the model to the worker and into its devices.
        began = time.monotonic()
        draw(farm, f"load-{count}", count, False, settings | dict(steps=args.warm_steps, consistency="off"), draws)
        report[f"load_{count}_s"] = time.monotonic() - began
        for kind in args.stories:
            character = kind == "character"
            of_kind = settings | ({} if character else dict(consistency="off"))
            for number in range(args.repeat):
                if number == 0:
                    draw(farm, f"warm-{kind}-{count}", args.panels, character,
                         of_kind | dict(steps=args.warm_steps, seed=draws.randrange(2**32)), draws)
                run = draw(farm, f"{kind}-{count}-{number}", args.panels, character,
                           of_kind | dict(steps=args.steps, seed=draws.randrange(2**32)), draws)
                run |= {"story": kind, "device_count": count,
                        "overhead": 1 - run["engine_s"] / (count * run["wall_s"]),
                        "between_ms": 1000 * (count * run["wall_s"] - run["engine_s"]) / run["panels"]}
                report["runs"].append(run)
                print(f"# {kind}, {count} device(s): {run['wall_s']:.2f} s, groups {run['groups']}, "
                      f"{json.dumps(run['devices'])}", flush=True)
        for name in names:
            farm.stop(name)
    return report


def best(report, kind, count):
    runs = [run for run in report["runs"] if run["story"] == kind and run["device_count"] == count]
    return sorted(runs, key=lambda run: run["wall_s"])[(len(runs) - 1) // 2] if runs else None


def tell(report, args):
    """Prints the table; returns what falls short."""
    counts = sorted({run["device_count"] for run in report["runs"]})
    short = []
    print(f"\n{report['machine']}, {report['cores']} cores; {', '.join(args.devices)}; {args.panels} panels, {args.size} x "
          f"{args.size}, {args.steps} steps. Adding the model {report['add_model_s']:.1f} s; first pictures of a new worker, "
          f"model fetched and loaded: " + ", ".join(f"{report[f'load_{count}_s']:.1f} s ({count})" for count in counts) + "\n")
    print("| story | devices | submit to done, s | first grant to last picture, s | of which before the first picture's grant | "
          "engines, s | overhead | ms a picture | speed-up | speed-up to done |\n|---|---|---|---|---|---|---|---|---|---|")
    for kind in args.stories:
        for count in counts:
            run, one = best(report, kind, count), best(report, kind, 1)
            times_as_fast = one["wall_s"] / run["wall_s"]
            print(f"| {kind} | {count} | {run['to_done_s']:.2f} | {run['wall_s']:.2f} | {run['first_frame_after_s']:.2f} | "
                  f"{run['engine_s']:.2f} | {100 * run['overhead']:.1f} % | {run['between_ms']:.0f} | {times_as_fast:.3f} | "
                  f"{one['to_done_s'] / run['to_done_s']:.3f} |")
            if kind == "plain" and run["overhead"] > MOST_OVERHEAD:
                short.append(f"{kind} on {count}: overhead {100 * run['overhead']:.1f} %")
            if kind == "plain" and count > 1 and times_as_fast < LEAST_SPEED_UP_OF_EACH * count:
                short.append(f"{kind} on {count}: {times_as_fast:.3f} times one device")
    print("\nEngines' seconds of it: " + "; ".join(
        f"{run['story']} on {run['device_count']}: prompts {run['text_s']:.2f}, identity {run['identity_s']:.2f}, pictures "
        f"{run['frame_s']:.2f} (pages, beside them {run['page_s']:.2f}; {run['pages_after_s']:.2f} s after the last picture)"
        for kind in args.stories for run in (best(report, kind, count) for count in counts)))
    return short


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, type=lambda text: pathlib.Path(text).resolve())
    parser.add_argument("--model", required=True, type=lambda text: pathlib.Path(text).resolve())
    parser.add_argument("--devices", type=lambda text: text.split(","), default=["cuda:0", "cuda:1"])
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--panels", type=int, default=24)
    parser.add_argument("--warm-steps", type=int, default=4)
    parser.add_argument("--stories", type=lambda text: text.split(","), default=["plain", "character"])
    parser.add_argument("--id-length", type=int, default=1, help="identity frames of the character")
    parser.add_argument("--repeat", type=int, default=1, help="measured stories of each kind; the median counts")
    parser.add_argument("--settings", type=json.loads, default={}, help="more settings of the stories, as JSON")
    parser.add_argument("--threads", type=int, default=0, help="processor threads of each engine")
    parser.add_argument("--cache-gb", type=float, default=50)
    parser.add_argument("--story-within-s", type=float, default=3600)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()))
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--logs", type=pathlib.Path, help="a folder for what coordinator and workers logged")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    for program in PROGRAMS:
        if not os.access(args.bin / program, os.X_OK):
            parser.error(f"--bin {args.bin}: there is no program {program}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if args.work:
        pathlib.Path(args.work).mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="farm.", dir=args.work))
    farm = Farm(args, folder)
    try:
        report = measure(farm, args, random.Random())
    except Trouble as trouble:
        print(f"{farm.ends_of_logs()}\n\n{trouble}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        # A second Ctrl-C must not leave programs behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        farm.close()
        if args.logs:
            args.logs.mkdir(parents=True, exist_ok=True)
            for log in folder.glob("*.log"):
                shutil.copy(log, args.logs)
        shutil.rmtree(folder, ignore_errors=True)
    short = tell(report, args)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))
    for words in short:
        print(f"falls short: {words}")
    return 1 if short and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
