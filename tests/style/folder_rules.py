#!/usr/bin/env python3
"""What each folder may include, what stands at the top level, and how long a file may be.

    folder_rules.py [ROOT]      checks a tree (default: this one); prints each break, exit code 1 if there is one
    folder_rules.py --self-test plants one break of each kind in a temporary tree and expects it to be found

The table is the architecture: an arrow that is not in it is a design question, not a build question.
"""
import pathlib
import re
import subprocess
import sys
import tempfile

# Outside packages, by the first part of what is included in angle brackets (or quotes).
PACKAGES = {
    "torch": r"^(ATen|c10|torch|caffe2)/",
    "grpc": r"^(grpc|grpcpp|grpc\+\+)/|\.grpc\.pb\.h$",
    "proto": r"^(google/protobuf/)|\.pb\.h$",
    "redis": r"^hiredis",
    "absl": r"^absl/",
    "yaml": r"^yaml-cpp/",
    "json": r"^nlohmann/",
    "openssl": r"^openssl/",
    "cairo": r"^(cairo|pango|fontconfig|ft2build|freetype|glib|hb)",
    "png": r"^png\.h$",
    "zlib": r"^zlib\.h$",
    "cli": r"^CLI/",
    "http": r"^httplib\.h$",
    "ncurses": r"^(n?curses(w)?(/.*)?)\.h$",
}

# folder -> (packages, own folders or headers). A folder may always include itself and the standard library.
RULES = {
    "pipeline/base": ("absl json openssl zlib", ""),
    "pipeline/base/transfer": ("absl proto grpc", "pipeline/base"),
    "pipeline/base/farm_channel": ("absl grpc", "pipeline/base"),
    "pipeline/base/join": ("absl proto grpc", "pipeline/base"),
    "pipeline/model": ("absl json openssl", "pipeline/base"),
    "pipeline/story": ("proto absl yaml", "pipeline/base"),
    "pipeline/plan": ("proto absl", "pipeline/model pipeline/base/digest.h"),
    "pipeline/device": ("torch absl", "pipeline/base pipeline/model"),
    "pipeline/sdxl": ("torch absl json", "pipeline/device pipeline/base pipeline/model"),
    "pipeline/identity": ("torch absl json", "pipeline/sdxl pipeline/device pipeline/base pipeline/model"),
    "pipeline/render": ("torch absl json", "pipeline/identity pipeline/sdxl pipeline/device pipeline/base pipeline/model"),
    "pipeline/page": ("cairo png zlib absl", "pipeline/base"),
    "coordinator/core": ("proto absl", "pipeline/plan pipeline/base/deflate.h"),
    "coordinator/store": ("redis proto absl", "coordinator/core pipeline/base"),
    "coordinator/blob": ("proto absl", "coordinator/core pipeline/base"),
    "coordinator/rpc": ("grpc proto absl json cli yaml",
                        "coordinator/core coordinator/store coordinator/blob pipeline/base pipeline/story pipeline/plan pipeline/model"),
    "coordinator/web": ("http proto absl json", "coordinator/core pipeline/base pipeline/plan/names.h"),
    # The page's way to the services: a client of them.
    "coordinator/rpc/web_door": ("grpc proto absl", "coordinator/web pipeline/base"),
    # The program, which puts the parts together.
    "coordinator/rpc/main": ("proto absl", "coordinator/rpc coordinator/store coordinator/web pipeline/base"),
    "worker/core": ("proto absl", "pipeline/plan"),
    "worker/agent": ("grpc proto absl cli yaml json",
                     "worker/core pipeline/base pipeline/plan pipeline/model worker/engine/client.h"),
    # Two halves that never meet in one file: the one that speaks protobuf, the one that calls the renderer.
    "worker/engine": ("proto absl json cli", "pipeline/render pipeline/page pipeline/base pipeline/model"),
    "tools/storyctl": ("grpc proto absl cli ncurses json yaml",
                       "pipeline/story pipeline/plan pipeline/model pipeline/base pipeline/page/fonts.h worker/engine/client.h"),
}

TOP_LEVEL = {"CMakeLists.txt", "CMakePresets.json", "LICENSE", "README.md", "proto", "coordinator", "worker", "pipeline",
             "deploy", "tests", "tools"}
MAX_LINES = 500  # a file longer than this has more than one job
PURE = {"coordinator/core", "worker/core", "pipeline/plan"}  # no clocks, threads, randomness, unordered containers
IMPURE = re.compile(r"#include <(thread|mutex|random|chrono|unordered_map|unordered_set|fstream|filesystem|condition_variable)>")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def folder_of(path):
    """The rule that governs a file: the longest that is a prefix of its path."""
    best = None
    for folder in RULES:
        if str(path).startswith(folder) and (best is None or len(folder) > len(best)):
            prefix = str(path)[len(folder):]
            if prefix.startswith("/") or folder.count("/") == 2:
                best = folder
    return best


def package_of(name):
    for package, pattern in PACKAGES.items():
        if re.search(pattern, name):
            return package
    return None


def check_file(path, text, breaks):
    folder = folder_of(path)
    if folder is None:
        breaks.append(f"{path}: no rule for this folder; add it to the table in tests/style/folder_rules.py")
        return
    packages, owns = RULES[folder][0].split(), RULES[folder][1].split()
    seen = set()
    for match in INCLUDE.finditer(text):
        name = match[2]
        line = text[:match.start()].count("\n") + 1
        where = f"{path}:{line}"
        package = package_of(name)
        if package is not None:
            seen.add(package)
            if package not in packages:
                breaks.append(f"{where}: {folder} must not include {package} ({name})")
            continue
        if re.match(r"(pipeline|coordinator|worker|tools)/", name):
            inside = name.startswith(folder + "/") or (folder.count("/") == 2 and name.startswith(folder))
            if not inside and not any(name == own or name.startswith(own + "/") for own in owns):
                breaks.append(f"{where}: {folder} must not include {name}")
        if name.startswith("tests/"):
            breaks.append(f"{where}: code must not include tests")
    if "torch" in seen and seen & {"proto", "grpc"}:
        breaks.append(f"{path}: includes both torch and protobuf or gRPC; their macros clash")
    if folder in PURE and (match := IMPURE.search(text)):
        breaks.append(f"{path}: {folder} is pure and must not include <{match[1]}>")
    if folder == "pipeline/model" and path.suffix == ".h" and "proto" in seen:
        breaks.append(f"{path}: headers of pipeline/model must stay free of proto (the torch side includes them)")


def check_tree(root):
    breaks = []
    tracked = subprocess.run(["git", "-C", root, "ls-files"], capture_output=True, text=True)
    if tracked.returncode == 0 and tracked.stdout:
        paths = [pathlib.PurePath(line) for line in tracked.stdout.splitlines()]
    else:
        paths = [p.relative_to(root) for p in pathlib.Path(root).rglob("*") if p.is_file()]
    for path in paths:
        if path.parts[0] not in TOP_LEVEL and not path.parts[0].startswith("."):
            breaks.append(f"{path}: nothing but {', '.join(sorted(TOP_LEVEL))} stands at the top level")
        if path.suffix not in {".cc", ".h"}:
            continue
        full = pathlib.Path(root) / path
        if not full.exists():
            continue
        text = full.read_text(encoding="utf-8")
        lines = text.count("\n")
        if lines > MAX_LINES:
            breaks.append(f"{path}: {lines} lines; the limit is {MAX_LINES}")
        if path.parts[0] in {"pipeline", "coordinator", "worker"} or path.parts[:2] == ("tools", "storyctl"):
            check_file(path, text, breaks)
    return breaks


PLANTED = {
    "pipeline/plan/a.cc": "#include <ATen/ATen.h>\n",
    "pipeline/model/b.cc": '#include "farm/v1/story.pb.h"\n',
    "coordinator/core/c.cc": "#include <hiredis/hiredis.h>\n",
    "coordinator/core/d.h": "#include <chrono>\n",
    "worker/engine/e.cc": '#include "farm/v1/engine.pb.h"\n#include <ATen/ATen.h>\n',
    "tools/storyctl/f.cc": '#include "coordinator/core/farm.h"\n',
    "pipeline/sdxl/g.h": '#include "pipeline/identity/bank.h"\n',
    "pipeline/base/h.cc": "\n" * (MAX_LINES + 1),
    "extra/i.txt": "",
}


def self_test():
    with tempfile.TemporaryDirectory() as root:
        for name, text in PLANTED.items():
            path = pathlib.Path(root) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        good = pathlib.Path(root) / "pipeline/plan/good.cc"
        good.write_text('#include <map>\n#include "absl/status/status.h"\n#include "pipeline/model/profile.h"\n')
        breaks = check_tree(root)
        missed = [name for name in PLANTED if not any(b.startswith(name) for b in breaks)]
        wrong = [b for b in breaks if b.startswith("pipeline/plan/good.cc")]
        for name in missed:
            print(f"self-test: the break planted in {name} was not found")
        for line in wrong:
            print(f"self-test: a false alarm: {line}")
        return not missed and not wrong


def main():
    if sys.argv[1:] == ["--self-test"]:
        sys.exit(0 if self_test() else 1)
    root = sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2]
    breaks = check_tree(root)
    for line in breaks:
        print(line)
    print(f"{len(breaks)} breaks of the folder rules")
    sys.exit(1 if breaks else 0)


main()
