"""The launchd agent of deploy/launchd, without a Mac: what launchd would read, and what its command does.

    launchd_test.py PLIST WORKER    WORKER: the program storyfarm-worker
"""
import pathlib
import plistlib
import re
import signal
import subprocess
import sys
import tempfile
import unittest

PLIST, WORKER = pathlib.Path(sys.argv[1]), sys.argv[2]

# launchd.plist(5). A key that launchd does not know it ignores without a word.
KNOWN = {"Label": str, "ProgramArguments": list, "RunAtLoad": bool, "KeepAlive": dict, "ThrottleInterval": int,
         "ExitTimeOut": int, "ProcessType": str}

# Stands in for the worker: says who it is and how it was called, and that it heard SIGTERM.
STAND_IN = """#!/bin/sh
trap 'exit 7' TERM
echo "$$ $*"
read line
exit 0
"""


class Launchd(unittest.TestCase):
    def setUp(self):
        self.agent = plistlib.loads(PLIST.read_bytes())

    def test_it_has_only_keys_that_launchd_knows_with_their_types(self):
        for key, value in self.agent.items():
            self.assertIsInstance(value, KNOWN[key], key)
        self.assertEqual(self.agent["Label"], PLIST.stem)

    def test_it_starts_at_log_in_again_after_a_crash_and_not_after_it_was_asked_to_leave(self):
        self.assertIs(self.agent["RunAtLoad"], True)
        self.assertEqual(self.agent["KeepAlive"], {"SuccessfulExit": False})
        self.assertGreaterEqual(self.agent["ThrottleInterval"], 10)
        self.assertGreater(self.agent["ExitTimeOut"], 20, "launchd's own 20 s cut a drain short")
        self.assertIn(self.agent["ProcessType"], {"Interactive", "Adaptive", "Standard"}, "Background never draws")

    def test_every_flag_is_one_of_the_workers(self):
        help_text = subprocess.run([WORKER, "--help"], capture_output=True, text=True, check=True).stdout
        command = self.agent["ProgramArguments"][-1]
        for flag in re.findall(r"--[a-z-]+", command):
            self.assertRegex(help_text, re.escape(flag) + r"\b")

    def test_its_command_becomes_the_worker_logs_where_macos_keeps_logs_and_passes_sigterm_on(self):
        with tempfile.TemporaryDirectory() as home:
            home = pathlib.Path(home)
            worker = home / "storyfarm/bin/storyfarm-worker"
            worker.parent.mkdir(parents=True)
            (home / "Library/Logs").mkdir(parents=True)
            worker.write_text(STAND_IN)
            worker.chmod(0o755)
            log = home / "Library/Logs/storyfarm-worker.log"
            with subprocess.Popen(self.agent["ProgramArguments"], env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
                                  stdin=subprocess.PIPE) as job:
                try:
                    while not log.exists() or not log.read_text().endswith("\n"):
                        self.assertIsNone(job.poll(), "it ended by itself")
                    pid, *arguments = log.read_text().split()
                    self.assertEqual(int(pid), job.pid, "no shell stays between launchd and the worker")
                    self.assertEqual(arguments, ["--log-format", "text"])
                    job.send_signal(signal.SIGTERM)
                    job.stdin.close()  # a shell hears of signals between its commands
                    self.assertEqual(job.wait(timeout=30), 7)
                finally:
                    if job.poll() is None:
                        job.kill()


unittest.main(argv=sys.argv[:1])
