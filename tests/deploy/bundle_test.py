#!/usr/bin/env python3
"""The bundle, as somebody finds it who has a bare machine: it carries its libraries, stands anywhere, and draws.

    bundle_test.py BUILD TORCH    BUILD: the folder of the build; TORCH: that of the Python package torch
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TORCH = pathlib.Path(sys.argv.pop(2)).resolve()
BUILD = pathlib.Path(sys.argv.pop(1)).resolve()

# The machine's own, which its driver and its libtorch use, too.
MACHINES = re.compile(r"^(linux-vdso|ld-linux-x86-64|ld-linux-aarch64|lib(c|m|dl|pthread|rt|resolv|stdc\+\+|gcc_s))\.so")
TORCHS = re.compile(r"^lib(torch|torch_cpu|c10)\.so")
STORY = """title: One picture
characters:
  Clem: an orange cat with a green shirt
chapters:
  - panels:
      - "[Clem], standing in the forest #Here I am."
settings: {width: 64, height: 64, steps: 2, freeu: off}
"""


class Bundle(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="storyfarm bundle ")
        where = pathlib.Path(cls.folder.name)
        cls.file = where / "bundle.tar.gz"
        subprocess.run([ROOT / "tools/bundle", BUILD.name, "--no-build", "--out", cls.file], check=True, capture_output=True,
                       cwd=ROOT)
        subprocess.run(["tar", "-xf", cls.file, "-C", where], check=True)
        [cls.root] = where.glob("storyfarm-*")
        # Nothing of this session but what every machine has.
        cls.environment = {"HOME": str(where), "PATH": "/usr/local/bin:/usr/bin:/bin", "STORYFARM_TORCH": str(TORCH)}

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def run_in(self, *command, environment=None, **more):
        return subprocess.run(command, capture_output=True, text=True, env=environment or self.environment, **more)

    def test_every_library_is_in_it_or_the_machines(self):
        binaries = [path for path in self.root.glob("**/*") if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"]
        self.assertGreater(len(binaries), 20)
        for path in binaries:
            # Redis is started with this path by its launcher; the others have it in them.
            environment = dict(self.environment)
            if path.name == "redis-server" or path.suffix != "" or ".so." in path.name:
                environment["LD_LIBRARY_PATH"] = str(self.root / "lib/storyfarm")
            for line in self.run_in("ldd", path, environment=environment).stdout.splitlines():
                if line.strip() == "statically linked":
                    continue  # a library that needs no other
                name = line.split()[0]
                inside = str(self.root) in line
                known = MACHINES.match(pathlib.Path(name).name) or TORCHS.match(name)
                self.assertTrue(inside or known, f"{path.relative_to(self.root)}: {line.strip()}")

    def test_no_program_looks_for_libraries_where_it_was_built(self):
        for path in [*(self.root / "bin").iterdir(), *(self.root / "libexec/storyfarm").iterdir()]:
            told = self.run_in("readelf", "-d", path).stdout
            for line in re.findall(r"(?:RPATH|RUNPATH).*\[(.*)\]", told):
                self.assertRegex(line, r"^\$ORIGIN/(\.\./)+lib/storyfarm$", path)

    def test_what_a_machine_needs_is_there(self):
        share = self.root / "share/storyfarm"
        for name in ("LICENSE", "docs/bundle.md", "systemd/storyfarm-worker.service", "k8s/coordinator.yaml",
                     "examples/stories/demo.yaml", "examples/fonts/OFL.txt", "examples/demo-model/model_index.json"):
            self.assertTrue((share / name).exists(), name)
        for library in (self.root / "lib/storyfarm").iterdir():
            self.assertTrue(library.exists(), f"{library.name} points nowhere")
        self.assertGreater(len(list((share / "licences").iterdir())), 10)

    def test_an_engine_without_its_libtorch_says_what_to_do(self):
        engine = self.root / "bin/storyfarm-engine"
        none = self.run_in(engine, "--help", environment={**self.environment, "STORYFARM_TORCH": "/nowhere"})
        self.assertEqual(none.returncode, 1)
        self.assertIn("there is no libtorch in /nowhere", none.stderr)
        with tempfile.TemporaryDirectory() as folder:
            other = pathlib.Path(folder)
            (other / "lib").mkdir()
            (other / "lib/libtorch_cpu.so").touch()
            (other / "version.py").write_text("__version__ = '1.2.3+cpu'\n")
            wrong = self.run_in(engine, "--help", environment={**self.environment, "STORYFARM_TORCH": folder})
            self.assertIn("is torch 1.2.3, and this engine was built with", wrong.stderr)
            # A python3 that has none.
            python = other / "python3"
            python.write_text("#!/bin/sh\nexit 1\n")
            python.chmod(0o755)
            bare = self.run_in(engine, "--help", environment={"PATH": f"{folder}:/usr/bin:/bin"})
            self.assertIn("python3 has no package torch", bare.stderr)
        # A virtual environment does as well as the package's folder.
        venv = TORCH.parents[3]
        if (venv / "bin/python3").exists():
            found = self.run_in(engine, "--help", environment={**self.environment, "STORYFARM_TORCH": str(venv)})
            self.assertEqual(found.returncode, 0, found.stderr)

    def test_a_farm_of_nothing_but_the_bundle_draws_a_story(self):
        story = pathlib.Path(self.folder.name, "one picture.yaml")
        story.write_text(STORY)
        done = self.run_in(ROOT / "tools/bench/bundle_proof", self.file, "--device", "cpu", "--story", story)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("1 panels and 1 pages, drawn by cpu", done.stdout)

    def test_a_proof_that_does_not_hold_fails(self):
        done = self.run_in(ROOT / "tools/bench/bundle_proof", self.file, "--device", "cuda:7")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("FAILED", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
