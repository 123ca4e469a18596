// What a test needs around the page: topics of its own, services as child processes, and those who count from outside.
//
// From the environment: BOOTSTRAP_SERVERS and SCHEMA_REGISTRY_URL; ORDER_PROCESSOR, ORDER_CONSOLE and ORDER_GENERATOR (the binaries,
// else those of the debug build); TEST_PYTHON (a Python with the libraries of tests/outsiders); KAFKA_INSTANCE and
// CACHE_DIR for kafka.py. kcat has to be installed.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, mkdirSync } from "node:fs";
import { createServer as createProxy, request as forward } from "node:http";
import { createServer } from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
const TESTS = path.resolve(fileURLToPath(import.meta.url), "../..");
const TARGET = path.resolve(process.env.CARGO_TARGET_DIR ?? path.join(TESTS, "../target"));
const LOGS = path.join(TARGET, "browser-logs");
const PROCESSOR = process.env.ORDER_PROCESSOR ?? path.join(TARGET, "debug/order-processor");
const CONSOLE = process.env.ORDER_CONSOLE ?? path.join(TARGET, "debug/order-console");
const GENERATOR = process.env.ORDER_GENERATOR ?? path.join(TARGET, "debug/order-generator");
const STOP_DEADLINE_MS = 20_000;
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

/** How long a test waits for anything before it fails. */
export const PATIENCE_MS = 90_000;

let worlds = 0;

/** Returns the answer of `probe` as soon as it is neither false nor null; it is asked again and again until then. */
export async function until(what, probe) {
    const end = Date.now() + PATIENCE_MS;
    for (;;) {
        const answer = await probe();
        if (answer !== false && answer !== null && answer !== undefined) {
            return answer;
        }
        assert.ok(Date.now() < end, `${what}: not within ${PATIENCE_MS / 1000} s`);
        await sleep(50);
    }
}

/** A topic of orders with its group, dead letters and control topic; `settings` are those of all services. */
export class World {
    constructor(name, settings = {}) {
        worlds += 1;
        this.name = `${name}-${process.pid}-${worlds}`;
        this.topic = `orders-${this.name}`;
        this.group = `group-${this.name}`;
        this.deadLetters = `${this.topic}-dlq`;
        this.environment = {
            PATH: process.env.PATH,
            BOOTSTRAP_SERVERS: needed("BOOTSTRAP_SERVERS"),
            SCHEMA_REGISTRY_URL: needed("SCHEMA_REGISTRY_URL"),
            ORDERS_TOPIC: this.topic,
            ORDERS_DLQ_TOPIC: this.deadLetters,
            CONSUMER_GROUP_ID: this.group,
            CONTROL_TOPIC: `control-${this.name}`,
            HTTP_ADDR: "off",
            SEED: "7",
            ...settings,
        };
        this.children = [];
        this.proxies = [];
        mkdirSync(LOGS, { recursive: true });
    }

    /** Starts a processor. */
    processor(settings = {}) {
        return this.start("processor", PROCESSOR, [], settings);
    }

    /** Starts a generator. */
    generator(settings) {
        return this.start("generator", GENERATOR, [], settings);
    }

    /** Starts a dashboard and returns it once it answers; its address is in `url`. */
    async dashboard(settings = {}) {
        const address = settings.DASHBOARD_ADDR ?? `127.0.0.1:${await freePort()}`;
        const child = this.start("dashboard", CONSOLE, ["dashboard"], { ...settings, DASHBOARD_ADDR: address });
        child.url = `http://${address}/`;
        await until("the dashboard answers", async () => {
            assert.equal(child.exitCode, null, `the dashboard ended: see ${child.log}`);
            return fetch(`${child.url}api/session`).then(
                ({ ok }) => ok,
                () => false,
            );
        });
        return child;
    }

    /** Starts a proxy that has a server below a path of its own, and returns the address there. */
    async mounted(url, path_) {
        const proxy = createProxy((request, response) => {
            if (!request.url.startsWith(path_)) {
                response.writeHead(404).end();
                return;
            }
            const target = new URL(request.url.slice(path_.length), url);
            const options = { method: request.method, headers: request.headers };
            const passed = forward(target, options, (answer) => {
                response.writeHead(answer.statusCode, answer.headers);
                answer.pipe(response);
            });
            passed.on("error", () => response.destroy());
            response.on("close", () => passed.destroy());
            request.pipe(passed);
        });
        proxy.listen(0, "127.0.0.1");
        await once(proxy, "listening");
        this.proxies.push(proxy);
        return `http://127.0.0.1:${proxy.address().port}${path_}`;
    }

    start(name, program, parameters, settings) {
        const log = path.join(LOGS, `${this.name}-${name}-${this.children.length}.log`);
        const child = spawn(program, parameters, {
            env: { ...this.environment, ...settings },
            stdio: ["ignore", "pipe", "pipe"],
        });
        const file = createWriteStream(log);
        child.stdout.pipe(file, { end: false });
        child.stderr.pipe(file, { end: false });
        child.log = log;
        child.ended = once(child, "close").then(() => file.end());
        this.children.push(child);
        return child;
    }

    /** Waits until a service has ended by itself, without failure. */
    async finished(child) {
        await child.ended;
        assert.equal(child.exitCode, 0, `it failed: see ${child.log}`);
    }

    /** Ends a service by its process id, and waits until it has. */
    async stop(child) {
        if (child.exitCode === null && child.signalCode === null) {
            child.kill("SIGTERM");
            const killer = globalThis.setTimeout(() => child.kill("SIGKILL"), STOP_DEADLINE_MS);
            await child.ended;
            clearTimeout(killer);
        }
    }

    /** Ends all services. */
    async end() {
        for (const proxy of this.proxies) {
            proxy.close();
            proxy.closeAllConnections();
        }
        await Promise.all(this.children.map((child) => this.stop(child)));
    }

    /** What `order-console stats` prints. */
    async stats() {
        return JSON.parse(await this.tool(CONSOLE, ["stats", "--json"]));
    }

    /** What `order-console dlq list` prints. */
    async dlq() {
        return JSON.parse(await this.tool(CONSOLE, ["dlq", "list", "--json"]));
    }

    /** What the oracle works out of the topics with none of the product's code. */
    async verdict(simulationRate = 0) {
        return JSON.parse(
            await this.python("oracle.py", [
                "verdict",
                "--orders",
                this.topic,
                "--dead-letters",
                this.deadLetters,
                "--simulation-rate",
                String(simulationRate),
            ]),
        );
    }

    /** Writes orders with librdkafka. */
    async produce(count, product) {
        return JSON.parse(
            await this.python("producer.py", ["--topic", this.topic, "--product", product, `plain:${count}`]),
        );
    }

    /** How many records kcat reads from the topic of orders. */
    async counted() {
        const records = await this.tool("kcat", [
            "-b",
            this.environment.BOOTSTRAP_SERVERS,
            "-C",
            "-t",
            this.topic,
            "-e",
            "-q",
            "-f",
            "%o\n",
        ]);
        return records.split("\n").length - 1;
    }

    python(program, parameters) {
        return this.tool(needed("TEST_PYTHON"), [path.join(TESTS, "outsiders", program), ...parameters]);
    }

    async tool(program, parameters) {
        const { stdout } = await run(program, parameters, { env: this.environment, maxBuffer: OUTPUT_BYTES_MAX });
        return stdout;
    }
}

/** Has kafka.py do something about the broker of this run: `broker("kill")`, `broker("start")`. */
export async function broker(verb) {
    needed("KAFKA_INSTANCE");
    await run(path.join(TESTS, "kafka/kafka.py"), [verb, "broker"], { env: process.env });
}

function needed(name) {
    const value = process.env[name];
    assert.ok(value, `${name} is not set: \`make test-browser\` sets it`);
    return value;
}

async function freePort() {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address();
    server.close();
    await once(server, "close");
    return port;
}
