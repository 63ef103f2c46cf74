#!/usr/bin/env python3
"""The Kubernetes manifests and the image file, as far as they can be tried without Kubernetes: their parts fit each other
and the programs, and the programs, started with the manifests' own arguments, make a farm.

    manifests_test.py BIN    BIN: the folder of the built programs

Leaves with 77, which ctest counts as skipped, where Python's yaml is missing (Debian: python3-yaml).
"""
import copy
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

try:
    import manifests
    import yaml
except ImportError:
    print("skipped: no Python package yaml (Debian: apt-get install python3-yaml)")
    sys.exit(77)

BIN = pathlib.Path(sys.argv.pop(1)).resolve() if len(sys.argv) > 1 else None
PATIENCE_S = 60


class Structure(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.found = manifests.documents()
        cls.helps = {name: manifests.help_of(BIN, name) for name in set(manifests.PROGRAMS.values())}
        cls.dockerfile = manifests.DOCKERFILE.read_text()

    def breaks(self, found):
        return manifests.Breaks(found, self.helps, self.dockerfile).list

    def test_all_parts_fit_each_other_and_the_programs(self):
        self.assertEqual(self.breaks(self.found), [])

    def test_a_part_that_does_not_fit_is_found(self):
        def planted(change):
            found = copy.deepcopy(self.found)
            change({document["metadata"]["name"] + "/" + document["kind"]: document["spec"] for _, document in found
                    if "spec" in document})
            return self.breaks(found)

        def container(specs, name):
            return specs[name + "/StatefulSet"]["template"]["spec"]["containers"][0]
        for change in (
                lambda specs: specs["storyfarm/Service"]["selector"].update({"app.kubernetes.io/component": "coordinators"}),
                lambda specs: specs["storyfarm/Service"]["ports"][0].update(targetPort="frm"),
                lambda specs: specs["storyfarm-redis/NetworkPolicy"]["podSelector"]["matchLabels"].update(a="b"),
                lambda specs: specs["storyfarm-worker/NetworkPolicy"]["ingress"][0]["ports"][0].update(port="prs"),
                lambda specs: specs["storyfarm-gpu/StatefulSet"]["template"]["metadata"]["labels"].update(
                    {"storyfarm/devices": "card"}),
                lambda specs: container(specs, "storyfarm-gpu")["args"].append("--device=cuda:0"),
                lambda specs: container(specs, "storyfarm-gpu")["env"].clear(),
                lambda specs: container(specs, "storyfarm-standby")["args"].append("--blobs=/none/x"),
                lambda specs: container(specs, "storyfarm-coordinator")["volumeMounts"].pop(0),
                lambda specs: container(specs, "storyfarm-coordinator")["ports"][0].update(containerPort=7),
                lambda specs: container(specs, "storyfarm-coordinator")["readinessProbe"]["exec"].update(
                    command=["curl", "http://127.0.0.1:1/readyz"]),
                lambda specs: specs["storyfarm-coordinator/StatefulSet"]["template"]["spec"]["volumes"][0].update(
                    persistentVolumeClaim={"claimName": "none"})):
            self.assertNotEqual(planted(change), [])

    def test_kustomize_names_every_file_and_every_image(self):
        kustomization = yaml.safe_load((manifests.FOLDER / "kustomization.yaml").read_text())
        self.assertEqual(sorted(kustomization["resources"]), sorted({name for name, _ in self.found}))
        self.assertEqual({image["name"] for image in kustomization["images"]}, set(manifests.PROGRAMS))
        for _, document in self.found:
            self.assertIn("apiVersion", document)
            self.assertRegex(document["metadata"]["name"], r"^[a-z0-9-]+$")

    def test_redis_keeps_what_it_was_given(self):
        redis = next(document for name, document in self.found if document["metadata"]["name"] == "storyfarm-redis"
                     and document["kind"] == "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
        given = dict(zip(redis["args"][::2], redis["args"][1::2]))
        self.assertEqual((given["--appendonly"], given["--appendfsync"], given["--maxmemory-policy"], given["--dir"]),
                         ("yes", "always", "noeviction", "/data"))

    def test_the_documents_make_every_secret(self):
        page = (manifests.ROOT / "deploy/docs/containers.md").read_text()
        for secret, keys in manifests.secrets_of(self.found).items():
            made = f"secret generic {secret}"
            self.assertIn(made, page + (manifests.FOLDER / "join").read_text())
            for key in keys:
                self.assertIn(key, page)

    def test_the_image_file_names_what_is_there(self):
        stages = set()
        for line in self.dockerfile.replace("\\\n", " ").splitlines():
            words = line.split()
            if not words:
                continue
            if words[0] == "FROM":
                self.assertTrue(words[1] == "ubuntu:24.04" or words[1] in stages, line)
                stages.add(words[3])
            if words[0] == "COPY" and not words[1].startswith("--from"):
                for source in words[1:-1]:
                    self.assertTrue((manifests.ROOT / source).exists(), line)
            if words[0] == "COPY" and words[1].startswith("--from"):
                self.assertIn(words[1].split("=")[1], stages)
        self.assertLessEqual({"coordinator", "worker"}, stages)
        for pin in re.findall(r"==\$(\w+)", self.dockerfile):
            self.assertRegex((manifests.ROOT / "tools/versions.env").read_text(), rf"(?m)^{pin}=")
        for stage in re.split(r"(?m)^FROM ", self.dockerfile)[-2:]:
            users = re.findall(r"(?m)^USER (\S+)", stage)
            self.assertIn(users[-1] if users else "10001:10001", {"10001:10001"})
        ids = {document["spec"]["template"]["spec"]["securityContext"]["runAsUser"] for name, document in self.found
               if document["kind"] == "StatefulSet" and document["metadata"]["name"] != "storyfarm-redis"}
        self.assertEqual(ids, {10001})
        for program in set(manifests.PROGRAMS.values()):
            self.assertIn(f'ENTRYPOINT ["{program}"]', self.dockerfile)


class Pods:
    """The manifests' containers as processes on this machine: paths in a folder, loopback for the cluster's names."""

    def __init__(self, folder):
        self.folder, self.processes = pathlib.Path(folder), {}
        self.specs = {document["metadata"]["name"]: document["spec"]["template"]["spec"]["containers"][0]
                      for _, document in manifests.documents() if document["kind"] == "StatefulSet"}
        (self.folder / "secret").mkdir()
        (self.folder / "secret/password").write_text("a-secret-of-the-test")
        (self.folder / "secret/users.acl").write_text("user default on >a-secret-of-the-test ~* &* +@all\n")

    def arguments(self, name, more=()):
        pod = f"{name}-0"
        places = [("$(POD_NAME)", pod), ("/run/storyfarm-redis", f"{self.folder}/secret"),
                  ("/run/storyfarm-join", f"{self.folder}/join"), ("=/blobs", f"={self.folder}/blobs"),
                  ("redis://storyfarm-redis:6379", f"unix://{self.folder}/redis.sock"), ("0.0.0.0:7850", "127.0.0.1:0"),
                  ("0.0.0.0:7860", "127.0.0.1:0"),
                  ("--join-port=7851", "--join-port=0"), ("--advertise=storyfarm", "--advertise=127.0.0.1"),
                  ("--devices=cuda:0", "--devices=cpu")]
        arguments = list(self.specs[name]["args"])
        for before, after in places:
            arguments = [argument.replace(before, after) for argument in arguments]
        return arguments + list(more)

    def environment(self, name):
        return {**os.environ, "XDG_DATA_HOME": f"{self.folder}/{name}", "STORYFARM_WEB": "127.0.0.1:0",
                "STORYFARM_ENGINE": str(BIN / "fake_engine")}

    def start(self, name):
        program = "redis-server" if name == "storyfarm-redis" else BIN / manifests.PROGRAMS[self.specs[name]["image"]]
        arguments = self.arguments(name)
        if name == "storyfarm-redis":
            (self.folder / "log").mkdir()
            arguments = [str(self.folder / "log") if argument == "/data" else argument for argument in arguments]
            arguments += ["--port", "0", "--unixsocket", f"{self.folder}/redis.sock"]
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen([program, *arguments], stdout=log, stderr=log, cwd=self.folder,
                                                    env=self.environment(name))

    def log(self, name):
        return (self.folder / f"{name}.log").read_text()

    def wait(self, what, holds):
        end = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > end:
                raise AssertionError(f"{what} did not come. " + "\n".join(
                    f"{name}:\n{self.log(name)[-1500:]}" for name in self.processes))
            time.sleep(0.05)

    def probe(self, name, page):
        """What the pod's probe would see: the status, or None while nothing answers."""
        url = re.search(r"its page is (http://\S+)", self.log(name))
        if url is None:
            return None
        try:
            return urllib.request.urlopen(url[1] + page, timeout=3).status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def storyctl(self, name, *arguments):
        environment = {**self.environment(name)}
        environment.pop("STORYFARM_FARM", None)
        return subprocess.run([BIN / "storyctl", *arguments], capture_output=True, text=True, env=environment)

    def kubectl(self):
        """A folder with a kubectl that knows what deploy/k8s/join asks of one."""
        program = self.folder / "bin/kubectl"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"""#!/usr/bin/env bash
set -eu
while [ $# -gt 0 ]; do
  case $1 in
    --namespace) [ "$2" = storyfarm ]; shift 2 ;;
    exec) name=${{2#statefulset/}}; shift 4; XDG_DATA_HOME={self.folder}/$name exec {BIN}/storyctl "$@" ;;
    create) for word; do case $word in --from-file=*) cp -r "${{word#*=}}/." {self.folder}/join/ ;; esac; done; exit ;;
    apply) exit ;;
    *) echo "kubectl: $1?" >&2; exit 1 ;;
  esac
done
""")
        program.chmod(0o755)
        (self.folder / "join").mkdir(exist_ok=True)
        return program.parent

    def close(self):
        for process in reversed(list(self.processes.values())):
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Processes(unittest.TestCase):
    def test_the_manifests_arguments_make_a_farm_that_pods_join_and_whose_standby_takes_over(self):
        folder = tempfile.mkdtemp(prefix="storyfarm-")
        pods = Pods(folder)
        self.addCleanup(shutil.rmtree, folder)
        self.addCleanup(pods.close)
        pods.start("storyfarm-redis")
        pods.wait("Redis's socket", (pods.folder / "redis.sock").exists)
        pods.start("storyfarm-coordinator")
        pods.wait("the coordinator", lambda: pods.probe("storyfarm-coordinator", "readyz") == 200)

        environment = {**os.environ, "PATH": f"{pods.kubectl()}:{os.environ['PATH']}"}
        joining = ["storyfarm-standby", "storyfarm-gpu", "storyfarm-cpu"]
        joined = subprocess.run([manifests.FOLDER / "join", *(f"{name}-0" for name in joining)], env=environment,
                                capture_output=True, text=True)
        self.assertEqual(joined.returncode, 0, joined.stderr)
        for name in joining:
            pods.start(name)
        pods.wait("the standby's page", lambda: pods.probe("storyfarm-standby", "healthz") == 200)
        self.assertEqual(pods.probe("storyfarm-standby", "readyz"), 503)

        def connected():
            told = pods.storyctl("storyfarm-coordinator", "worker", "list").stdout
            return all(re.search(rf"{name}-0 +connected", told) for name in ("storyfarm-gpu", "storyfarm-cpu"))
        pods.wait("both workers", connected)
        pods.processes["storyfarm-coordinator"].kill()
        pods.wait("the standby's lead", lambda: pods.probe("storyfarm-standby", "readyz") == 200)
        self.assertIn("storyfarm-gpu-0", pods.storyctl("storyfarm-standby", "worker", "list").stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
