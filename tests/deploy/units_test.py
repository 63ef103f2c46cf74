#!/usr/bin/env python3
"""The units of systemd: systemd-analyze understands each line, and what they set exists in the programs.

    units_test.py BIN    BIN: the folder of the built programs

Leaves with 77, which ctest counts as skipped, where there is no systemd-analyze. Nothing here runs under systemd.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/systemd"
BIN = pathlib.Path(sys.argv.pop(1)).resolve() if len(sys.argv) > 1 else None

if shutil.which("systemd-analyze") is None:
    print("skipped: no systemd-analyze (Debian: apt-get install systemd)")
    sys.exit(77)


class Units(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)
        (self.root / "bin").symlink_to(BIN)
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": str(self.root), "HOME": str(self.root)}

    def verify(self, paths, *arguments, change=lambda text: text):
        """What systemd-analyze says of these units, with the built programs where the bundle's would be."""
        copies = []
        for path in paths:
            copy = self.root / path.name
            text = path.read_text().replace("/opt/storyfarm/", f"{self.root}/").replace("%h/storyfarm/", f"{self.root}/")
            # A program of NVIDIA's, which the unit does without.
            copy.write_text(change(text.replace("/usr/bin/nvidia-modprobe", "/bin/true")))
            copies.append(copy)
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *arguments, *copies],
                              capture_output=True, text=True, env=self.environment)
        return (done.stdout + done.stderr).strip() or ("" if done.returncode == 0 else f"left with {done.returncode}")

    def test_systemd_understands_each_line(self):
        self.assertEqual(self.verify(sorted(FOLDER.glob("*.service"))), "")

    def test_systemd_understands_each_line_of_a_persons_own(self):
        self.assertEqual(self.verify(sorted((FOLDER / "user").glob("*.service")), "--user"), "")

    def test_a_line_that_it_does_not_understand_is_told(self):
        said = self.verify([FOLDER / "storyfarm-worker.service"],
                           change=lambda text: text.replace("KillMode=mixed", "KillMode=both"))
        self.assertIn("kill mode", said)

    def test_what_is_set_exists_in_the_programs(self):
        for path in [*FOLDER.glob("*.service"), *(FOLDER / "user").glob("*.service")]:
            program = path.stem
            told = subprocess.run([BIN / program, "--help"], capture_output=True, text=True, check=True).stdout
            text = path.read_text()
            for variable in re.findall(r"\bSTORYFARM_[A-Z_]+", text):
                flag = "--" + variable.removeprefix("STORYFARM_").lower().replace("_", "-")
                self.assertTrue(variable in told or flag in told or variable == "STORYFARM_TORCH", f"{path}: {variable}")
            # Exit codes after which starting again can't help: as --help tells them.
            codes = re.search(r"(?m)^RestartPreventExitStatus=(.*)$", text)[1].split()
            for code in codes:
                self.assertRegex(told, rf"\b{code} [a-z]", path)

    def test_both_run_as_the_user_that_is_made(self):
        user = re.search(r"(?m)^u (\S+)", (FOLDER / "storyfarm.sysusers").read_text())[1]
        for path in FOLDER.glob("*.service"):
            self.assertRegex(path.read_text(), rf"(?m)^User={user}$")
        checked = subprocess.run(["systemd-sysusers", "--dry-run", f"--root={self.root}", FOLDER / "storyfarm.sysusers"],
                                 capture_output=True, text=True)
        self.assertEqual(checked.returncode, 0, checked.stderr)
        self.assertIn(user, checked.stdout + checked.stderr)

    def test_little_of_the_machine_is_open_to_them(self):
        for path in FOLDER.glob("*.service"):
            told = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--threshold=25", path],
                                  capture_output=True, text=True, env=self.environment)
            self.assertEqual(told.returncode, 0, told.stdout[-300:])


if __name__ == "__main__":
    unittest.main(verbosity=2)
