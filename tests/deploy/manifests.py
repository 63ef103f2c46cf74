"""What deploy/k8s and deploy/docker say, as data, and the rules that they have to keep among themselves."""
import pathlib
import re
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/k8s"
DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
PROGRAMS = {"storyfarm-coordinator": "storyfarm-coordinator", "storyfarm-worker": "storyfarm-worker",
            "storyfarm-worker-cpu": "storyfarm-worker"}  # of an image


def documents(folder=FOLDER):
    """All documents but kustomize's own, each with the file that it stands in."""
    found = []
    for path in sorted(folder.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if path.name != "kustomization.yaml":
                found.append((path.name, document))
    return found


def labels_match(selector, labels):
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def flags_of(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


def help_of(bin_folder, program):
    return subprocess.run([bin_folder / program, "--help"], capture_output=True, text=True, check=True).stdout


class Breaks:
    """Collects what is wrong with a set of documents; `helps`: program -> its --help."""

    def __init__(self, found, helps, dockerfile):
        self.found, self.helps, self.dockerfile, self.list = found, helps, dockerfile, []
        self.by_kind = {}
        for _, document in found:
            self.by_kind.setdefault(document["kind"], {})[document["metadata"]["name"]] = document
        self.workloads = self.by_kind.get("StatefulSet", {}) | self.by_kind.get("Deployment", {})
        for name, workload in self.workloads.items():
            self.workload(name, workload["spec"])
        for name, service in self.by_kind.get("Service", {}).items():
            self.service(name, service["spec"])
        for name, policy in self.by_kind.get("NetworkPolicy", {}).items():
            self.policy(name, policy["spec"])

    def check(self, holds, sentence):
        if not holds:
            self.list.append(sentence)

    def templates(self):
        return {name: workload["spec"]["template"] for name, workload in self.workloads.items()}

    def workload(self, name, spec):
        labels = spec["template"]["metadata"]["labels"]
        self.check(labels_match(spec["selector"]["matchLabels"], labels), f"{name}: its selector does not match its pods")
        for other, template in self.templates().items():
            selected = labels_match(spec["selector"]["matchLabels"], template["metadata"]["labels"])
            self.check(other == name or not selected, f"{name}: its selector takes {other}'s pods, too")
        self.check(spec["serviceName"] in self.by_kind.get("Service", {}), f"{name}: no service {spec['serviceName']}")
        pod = spec["template"]["spec"]
        self.check(pod["securityContext"].get("runAsNonRoot") is True, f"{name}: may run as root")
        self.check("fsGroup" in pod["securityContext"], f"{name}: a fresh volume is not its user's")
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        claims = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
        for volume in volumes.values():
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            self.check(claim is None or claim in self.by_kind.get("PersistentVolumeClaim", {}), f"{name}: no claim {claim}")
        for container in pod["containers"]:
            self.container(f"{name}/{container['name']}", container, volumes.keys() | claims)

    def container(self, where, container, volumes):
        mounts = [mount["name"] for mount in container.get("volumeMounts", [])]
        self.check(set(mounts) <= volumes, f"{where}: mounts {set(mounts) - volumes}, which are no volumes")
        self.check("data" not in volumes or "data" in mounts, f"{where}: does not mount its data")
        security = container["securityContext"]
        self.check(security["allowPrivilegeEscalation"] is False and security["capabilities"]["drop"] == ["ALL"],
                   f"{where}: has rights that it does not need")
        self.check("limits" in container["resources"] and "memory" in container["resources"]["limits"],
                   f"{where}: no limit of memory")
        variables = {variable["name"] for variable in container.get("env", [])}
        arguments = container.get("args", [])
        for used in re.findall(r"\$\((\w+)\)", " ".join(arguments)):
            self.check(used in variables, f"{where}: $({used}) is no variable of it")
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            self.probe(f"{where}/{probe}", container.get(probe, {}), ports)
        program = PROGRAMS.get(container["image"])
        if program is None:
            return
        known = flags_of(self.helps[program])
        for flag in flags_of(" ".join(arguments)):
            self.check(flag in known, f"{where}: {program} has no {flag}")
        values = dict(argument.lstrip("-").split("=", 1) for argument in arguments)
        for flag, port in (("network", "farm"), ("join-port", "join"), ("peers", "peers")):
            if flag in values:
                self.check(int(values[flag].rsplit(":")[-1]) == ports.get(port), f"{where}: --{flag} is not port {port}")
        for flag in ("redis-password-file", "join-with", "blobs"):
            path = values.get(flag)
            inside = [mount for mount in container["volumeMounts"] if path and path.startswith(mount["mountPath"] + "/")]
            self.check(path is None or inside, f"{where}: --{flag} is in no volume")
        if "advertise" in values:
            self.check(values["advertise"] in self.by_kind["Service"], f"{where}: no service {values['advertise']}")
        if "redis" in values:
            host, port = re.fullmatch(r"redis://([\w-]+):(\d+)", values["redis"]).groups()
            served = self.by_kind["Service"].get(host, {"spec": {"ports": []}})["spec"]["ports"]
            self.check(int(port) in [each["port"] for each in served], f"{where}: no service {host} at {port}")

    def probe(self, where, probe, ports):
        text = " ".join(probe.get("exec", {}).get("command", []))
        if "curl" in text:
            web = re.search(r"STORYFARM_WEB=(\S+)", self.dockerfile)[1]
            self.check(re.search(rf"http://{web}/(healthz|readyz)$", text), f"{where}: the page is at {web}")
        port = probe.get("tcpSocket", {}).get("port")
        self.check(port is None or port in ports, f"{where}: no port {port}")

    def service(self, name, spec):
        chosen = [template for template in self.templates().values()
                  if labels_match(spec["selector"], template["metadata"]["labels"])]
        self.check(chosen, f"service {name}: selects no pods")
        for port in spec.get("ports", []):
            for template in chosen:
                named = {each["name"] for container in template["spec"]["containers"] for each in container.get("ports", [])}
                self.check(port["targetPort"] in named, f"service {name}: its pods have no port {port['targetPort']}")

    def policy(self, name, spec):
        reached = {port["name"] for template in self.templates().values()
                   if labels_match(spec["podSelector"]["matchLabels"], template["metadata"]["labels"])
                   for container in template["spec"]["containers"] for port in container.get("ports", [])}
        for port in [port["port"] for rule in spec.get("ingress", []) for port in rule["ports"]]:
            self.check(port in reached, f"policy {name}: its pods have no port {port}")
        selectors = [spec["podSelector"]["matchLabels"]]
        selectors += [source["podSelector"]["matchLabels"] for rule in spec.get("ingress", []) for source in rule["from"]]
        for selector in selectors:
            chosen = any(labels_match(selector, template["metadata"]["labels"]) for template in self.templates().values())
            self.check(chosen, f"policy {name}: {selector} selects no pods")


def secrets_of(found):
    """Secret -> its keys that are named; of one that is mounted whole, none."""
    secrets = {}
    for _, document in found:
        if document["kind"] != "StatefulSet":
            continue
        pod = document["spec"]["template"]["spec"]
        for volume in pod.get("volumes", []):
            if "secret" in volume:
                keys = secrets.setdefault(volume["secret"]["secretName"], set())
                keys |= {item["key"] for item in volume["secret"].get("items", [])}
        for container in pod["containers"]:
            for variable in container.get("env", []):
                if "secretKeyRef" in variable.get("valueFrom", {}):
                    reference = variable["valueFrom"]["secretKeyRef"]
                    secrets.setdefault(reference["name"], set()).add(reference["key"])
    return secrets
