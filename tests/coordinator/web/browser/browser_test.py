#!/usr/bin/env python3
"""The farm's page in a headless Chromium: a real coordinator, workers and engines draw the demo story meanwhile.

    browser_test.py [--bin DIR] [--screenshots DIR]

--bin DIR          where the programs are (default: build/dev/bin of this tree)
--screenshots DIR  also leaves pictures of the page there: dark, light, on a phone

ctest runs it where a Chromium was there when the tree was configured. Leaves with 77 where there is none.
"""
import argparse
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from chromium import PATIENCE_S, Browser, find_browser

ROOT = pathlib.Path(__file__).resolve().parents[4]
SKIPPED = 77
OPTIONS = argparse.Namespace()

THUMBNAILS = "[...document.querySelectorAll('a.tile img')].filter((image) => image.naturalWidth > 0).length"


class Farm:
    """Real processes in one temporary folder, all gone at the end."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = {}
        self.target = f"unix:{folder}/farm/coordinator.sock"
        self.environment = {**os.environ, "STORYFARM_FARM": self.target}
        self.start("farm", "storyfarm-coordinator", "--data", f"{folder}/farm", "--web", "127.0.0.1:0")
        end = time.monotonic() + PATIENCE_S
        while self.storyctl("jobs", check=False).returncode != 0:
            if time.monotonic() > end:
                raise TimeoutError(pathlib.Path(folder, "farm.log").read_text())
            time.sleep(0.1)
        self.storyctl("models", "add", "demo", str(ROOT / "deploy/examples/demo-model"))

    def start(self, name, program, *arguments):
        with open(f"{self.folder}/{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen([OPTIONS.bin / program, *arguments], stdout=log, stderr=log,
                                                    env={**self.environment, "OMP_NUM_THREADS": "1"})

    def start_worker(self, name):
        self.start(name, "storyfarm-worker", "--data", f"{self.folder}/{name}", "--coordinator", self.target, "--name", name,
                   "--threads", "1")

    def storyctl(self, *arguments, check=True):
        return subprocess.run([OPTIONS.bin / "storyctl", *arguments], capture_output=True, text=True, check=check,
                              env=self.environment)

    def submit(self, story, steps):
        settings = pathlib.Path(self.folder, "settings.yaml")
        settings.write_text(f"steps: {steps}\n")
        return self.storyctl("submit", str(ROOT / "deploy/examples/stories" / story), "--model", "demo", "--settings",
                             str(settings)).stdout.strip()

    def link(self, role="admin"):
        return self.storyctl("web", "--role", role).stdout.strip()

    def stop(self, name):
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self):
        for name in sorted(self.processes, key=lambda name: name == "farm"):
            self.stop(name)


class PageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="storyfarm-web-", dir="/tmp")
        cls.farm = Farm(cls.folder.name)
        cls.browser = Browser(find_browser(), f"{cls.folder.name}/profile")

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.farm.close()
        cls.folder.cleanup()

    def open(self, role="admin", **look):
        """A page that is logged in, at the stories."""
        page = self.browser.open(**look)
        link = self.farm.link(role)
        page.goto(link)
        page.wait("document.querySelector('main h1')?.textContent === 'Stories'")
        page.origin = link.split("/login")[0]
        return page

    def shoot(self, page, name, full=False):
        if OPTIONS.screenshots:
            page.run("scrollTo(0, 0)")
            time.sleep(0.4)  # the picture's own: curves and bars come to rest
            page.screenshot(OPTIONS.screenshots / f"{name}.png", full)

    def check(self, page):
        """Nothing went wrong on the way, nothing was asked of anybody else, everything has a name."""
        self.assertEqual(page.errors, [])
        self.assertEqual([url for url in page.requests if not url.startswith((page.origin, "data:", "about:"))], [])
        tree = page.accessible()
        unnamed = [role for role, name in tree if role in ("button", "link", "dialog", "img", "image", "progressbar", "spinbutton") and not name]
        self.assertEqual(unnamed, [])
        for role in ("banner", "main", "navigation"):
            self.assertIn(role, [each for each, _ in tree])
        self.assertEqual(page.run("document.querySelectorAll('h1').length"), 1)
        self.assertFalse(page.run("document.documentElement.scrollWidth > innerWidth + 1"), "the page is wider than its window")
        faint = page.run(CONTRAST)
        self.assertEqual(faint, [], "text that is hard to read")

    def test_1_a_browser_without_a_session_is_told_what_to_do(self):
        page = self.browser.open()
        page.goto(self.farm.link().split("login")[0])
        self.assertIn("storyctl web", page.run("document.body.innerText"))
        self.assertIn("not logged in", page.run("document.body.innerText"))
        used = self.farm.link()
        self.open_link(used)
        page.goto("about:blank")
        page.goto(used)
        page.wait("document.body.innerText.includes('opened before')")
        self.shoot(page, "login")

    def open_link(self, link):
        page = self.browser.open()
        page.goto(link)
        page.wait("document.querySelector('main h1')?.textContent === 'Stories'")
        self.assertNotIn(link.split("#")[1], page.run("location.href"), "the code stays in the address bar")

    def test_2_a_story_is_seen_as_it_is_drawn(self):
        page = self.open(dark=True)
        page.wait("document.body.innerText.includes('No stories yet')")
        self.shoot(page, "empty")
        job = self.farm.submit("demo.yaml", steps=OPTIONS.steps)
        page.wait("document.querySelector('.card-title')?.textContent === 'The Red Balloon'", "the card, without a reload")
        page.wait("document.body.innerText.includes('no worker is connected')", "why it waits")
        page.click("document.querySelector('.card-title')")
        page.wait("document.querySelectorAll('a.tile').length >= 12", "a place for every panel")
        self.farm.start_worker("attic")
        self.farm.start_worker("study")
        page.wait("document.querySelector('a.tile[data-mood=running]')", "a panel under way")
        page.wait(f"{THUMBNAILS} >= 4", "the first pictures, without a reload")
        self.shoot(page, "drawing-dark")
        page.set_dark(False)
        self.shoot(page, "drawing-light")
        page.set_dark(True)
        page.wait("document.querySelector('.job-head .state').textContent === 'done'")
        page.run("document.querySelectorAll('a.tile img').forEach((image) => { image.loading = 'eager'; })")
        page.wait(f"{THUMBNAILS} === 15", "12 panels and 3 pages")
        self.shoot(page, "story-dark", full=True)
        self.assertIn("Clem", page.run("document.querySelector('.characters').innerText"))
        self.check(page)
        self.panel_by_keyboard(page, job)
        self.check(page)

    def panel_by_keyboard(self, page, job):
        page.run("document.querySelector('a.tile[href$=\"/panel/2\"]').focus()")
        page.press("Enter")
        page.wait("document.activeElement.id === 'sheet-title'", "the panel has the focus")
        page.wait("document.querySelector('.sheet img').naturalWidth > 0")
        page.wait("document.querySelector('.sentences').innerText.includes('It is done')", "its history")
        text = page.run("document.querySelector('.sheet').innerText")
        for words in ("he had never, ever met a balloon", "Seed", "Plan", "predicted", "Drawn by", "Peak of memory"):
            self.assertIn(words, text)
        self.shoot(page, "panel-dark")
        page.press("ArrowRight")
        page.wait("document.querySelector('#sheet-title').textContent === 'Panel 4'")
        page.reload()
        page.wait("document.querySelector('#sheet-title')?.textContent === 'Panel 4'", "the same place after a refresh")
        page.wait("document.querySelectorAll('a.tile').length >= 15")
        page.press("Escape")
        page.wait("!document.querySelector('.sheet')")
        self.assertEqual(page.run("location.hash"), f"#/jobs/{job}")
        self.assertTrue(page.run("document.activeElement.matches('a.tile[href$=\"/panel/3\"]')"), "the focus goes back")

    def test_3_machines_tell_their_memory_and_can_be_taken_out(self):
        page = self.open(dark=True)
        page.click("document.querySelector('nav a[data-view=machines]')")
        page.wait("document.querySelectorAll('.machine').length === 2")
        page.wait("document.querySelector('.memory-bar').getAttribute('aria-label').startsWith('Memory: farm ')")
        page.wait("document.querySelector('.chart path').getAttribute('d')?.length > 10", "memory over time")
        job = self.farm.submit("demo.yaml", steps=OPTIONS.steps)
        plan = "[...document.querySelectorAll('.machine .plan')].find((plan) => !plan.hidden)"
        page.wait(f"{plan}?.textContent.startsWith('fp32, all weights stay')", "how a device draws it")
        self.shoot(page, "machines-dark")
        self.check(page)
        self.farm.storyctl("cancel", job)
        page.wait(f"!{plan}", "no plan where nothing is drawn")
        self.farm.storyctl("rm", job)  # the one that was drawn is the newest again
        drain = "[...document.querySelectorAll('.machine')].find((m) => m.innerText.startsWith('attic')).querySelector('button')"
        page.click(drain)
        page.wait(f"{drain}.textContent.includes('Take it out?')", "the question")
        page.click(drain)
        page.wait("document.querySelector('.machine .state').textContent === 'taken out'")
        undrain = "[...document.querySelectorAll('.machine button')].find((b) => b.textContent === 'Give back' && !b.hidden)"
        page.click(undrain)
        page.wait("document.querySelector('.machine .state').textContent !== 'taken out'")

    def test_4_a_story_is_paused_and_cancelled(self):
        for name in ("attic", "study"):
            self.farm.stop(name)
        job = self.farm.submit("good-night.yaml", steps=3)
        page = self.open()
        page.wait(f"document.querySelector('a.card-title[href=\"#/jobs/{job}\"]')")
        self.shoot(page, "stories-light")
        self.check(page)
        page.run(f"location.hash = '#/jobs/{job}'")
        button = "[...document.querySelectorAll('.actions button')].find((b) => b.textContent === '%s' && !b.hidden)"
        state = "document.querySelector('.job-head .state').textContent"
        page.wait(button % "Pause")
        page.click(button % "Pause")
        page.wait(f"{state} === 'paused'")
        page.click(button % "Resume")
        page.wait(f"{state} === 'waits'")
        page.run("(() => { const p = document.querySelector('#priority'); p.value = 80; p.dispatchEvent(new Event('change')); })()")
        page.wait("document.activeElement.id !== 'priority' && document.querySelector('#priority').value === '80'")
        self.check(page)
        page.click(button % "Cancel")
        page.click(button % "Really cancel?")
        page.wait(f"{state} === 'cancelled'")
        self.assertIn('"priority": 80', self.farm.storyctl("status", job, "--json", check=False).stdout)

    def test_5_a_viewer_has_no_buttons(self):
        page = self.open("viewer")
        page.wait("document.querySelector('#role').textContent === 'viewer'")
        page.wait("document.querySelector('.done .card-title')")
        page.click("document.querySelector('.done .card-title')")
        page.wait("document.querySelectorAll('a.tile').length > 0")
        self.assertEqual(page.run("[...document.querySelectorAll('.actions button')].filter((b) => !b.hidden).length"), 0)

    def test_6_a_phone_shows_all_of_it(self):
        page = self.open(width=390, height=844, phone=True, dark=True)
        page.wait("document.querySelectorAll('.strip img').length > 0")
        self.shoot(page, "phone-stories")
        self.check(page)
        page.click("[...document.querySelectorAll('.card-title')].find((t) => t.textContent === 'The Red Balloon')")
        page.wait(f"{THUMBNAILS} >= 3")
        self.shoot(page, "phone-story")
        self.check(page)
        page.click("document.querySelector('a.tile[href$=\"/panel/2\"]')")
        page.wait("document.querySelector('.sheet img').naturalWidth > 0")
        self.shoot(page, "phone-panel")
        self.check(page)
        page.run("location.hash = '#/machines'")
        page.wait("document.querySelectorAll('.machine').length === 2")
        self.shoot(page, "phone-machines")
        self.check(page)

    def test_7_a_coordinator_that_starts_again_is_followed_again(self):
        page = self.open()
        port = page.origin.rsplit(":", 1)[1]
        self.farm.stop("farm")
        page.wait("document.querySelector('#link-state').textContent === 'connecting'")
        self.farm.start("farm", "storyfarm-coordinator", "--data", f"{self.folder.name}/farm", "--web", f"127.0.0.1:{port}")
        page.wait("document.querySelector('#link-state').textContent === 'live' && document.querySelector('#trouble').hidden",
                  "the page, by itself and without another login")


# Text against what lies behind it: less than 4.5 to 1, or 3 to 1 where it is large (WCAG 2.2, 1.4.3).
CONTRAST = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const colour = (css) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = css; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const c = colour(getComputedStyle(e).backgroundColor);
      if (c[3] > 200) return c;
    }
    return [255, 255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll('body *')) {
    const text = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const style = getComputedStyle(element);
    if (!text || !element.checkVisibility() || element.closest('[data-away]') || parseFloat(style.fontSize) === 0) continue;
    const a = light(colour(style.color)), b = light(behind(element));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    const large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) faint.push(`${element.className || element.tagName}: ${ratio.toFixed(2)} ${element.textContent.slice(0, 30)}`);
  }
  return faint;
})()"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build/dev/bin")
    parser.add_argument("--screenshots", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=20, help="denoising steps of the demo story; with a few it is drawn before one looks")
    parser.parse_args(namespace=OPTIONS)
    if find_browser() is None:
        print("skipped: no Chromium is installed (tools/setup --tests; or name one in STORYFARM_CHROMIUM)")
        sys.exit(SKIPPED)
    if OPTIONS.screenshots:
        OPTIONS.screenshots.mkdir(parents=True, exist_ok=True)
    result = unittest.TextTestRunner(verbosity=2, failfast=True).run(unittest.defaultTestLoader.loadTestsFromTestCase(PageTest))
    sys.exit(0 if result.wasSuccessful() else 1)


main()
