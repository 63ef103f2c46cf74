#!/usr/bin/env python3
"""The table of real faults in deploy/docs/faults.md: what happens, what is promised then, which test shows it.

    fault_matrix.py --run PROGRAM [--rounds N]   runs faults_e2e_test and writes the table with what came of it
    fault_matrix.py --check                      exit code 1 where the table is not that of the tests as they are

Fault and promise are the words of the test's own names; the results are those of the last --run.
"""
import argparse
import datetime
import json
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = ROOT / "deploy/docs/faults.md"
SOURCES = ["tests/e2e/faults_test.cc", "tests/e2e/leader_faults_test.cc"]
HEAD = """# Real faults

What happens to a farm of real processes, what is promised then, and the test that shows it. In every row all pages come
out byte for byte as without the fault, and no panel is rendered twice beyond what was in flight when a worker or an
engine died. Engines render nothing in these tests, so that each picture is known and counted; that killed workers and
coordinators change no byte of what the real engine draws is shown by `farm_e2e_test`.

This file is written by `tests/e2e/fault_matrix.py --run build/dev/bin/faults_e2e_test --rounds 20`; a test compares it
with the tests as they are.

"""


def words(camel):
    """"WhenRedisIsKilled" -> "When Redis is killed": names keep their capital."""
    parts = re.findall(r"[A-Z][a-z]*", camel)
    kept = {"Redis"}
    text = " ".join(p if i == 0 or p in kept else p.lower() for i, p in enumerate(parts))
    return text.replace("a workers ", "a worker's ")


def tests():
    found = []
    for source in SOURCES:
        for suite, name in re.findall(r"^TEST\((\w+),\s*(\w+)\)", (ROOT / source).read_text(), re.M):
            found.append((suite, name, source))
    return found


def run(program, rounds):
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        command = [program, f"--gtest_output=json:{report}", "--rounds", str(rounds)]
        code = subprocess.run(command, check=False).returncode
        suites = json.loads(report.read_text())["testsuites"]
    results = {}
    for suite in suites:
        for test in suite["testsuite"]:
            skipped = test["result"] == "SKIPPED"
            outcome = "skipped" if skipped else "failed" if test.get("failures") else "held"
            results[suite["name"], test["name"]] = f"{outcome}, {float(test['time'].rstrip('s')):.0f} s"
    return code, results


def row(suite, name, source):
    return f"| {words(suite)} | {words(name)} | [`{suite}`](../../{source}) |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--run", metavar="PROGRAM")
    group.add_argument("--check", action="store_true")
    parser.add_argument("--rounds", type=int, default=3, help="of random kills")
    arguments = parser.parse_args()
    if arguments.check:
        written = [line.rsplit(" | ", 1)[0] + " |" for line in TABLE.read_text().splitlines() if line.startswith("| When")]
        wanted = [row(*test) for test in tests()]
        for line in sorted(set(wanted) ^ set(written)):
            print("missing:" if line in wanted else "gone:", line)
        if written != wanted:
            print(f"{TABLE.relative_to(ROOT)} is not of these tests: run {pathlib.Path(__file__).name} --run PROGRAM")
            return 1
        return 0
    code, results = run(arguments.run, arguments.rounds)
    lines = ["| what happens | what is promised | test | last result |", "|---|---|---|---|"]
    for suite, name, source in tests():
        lines.append(f"{row(suite, name, source)} {results.get((suite, name), 'not run')} |")
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    lines.append(f"\nRun on {date} ({platform.system()} {platform.machine()}), {arguments.rounds} rounds of random kills.")
    TABLE.write_text(HEAD + "\n".join(lines) + "\n")
    return code


sys.exit(main())
