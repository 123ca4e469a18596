// Measures what an open page costs a processor: CPU seconds per million orders, with and without, in turn.
//
// Twice: while it catches up with ORDERS orders (10 million), and at RATE orders a second (10,000) for SECONDS (20) seconds.
// Each RUNS times (5), as a new group. The dashboard is a process of its own, and so are the broker and the browser; on
// a machine of a few cores they all want them. The result is Markdown on standard output.

import { readFileSync } from "node:fs";

import { launch, open, shows } from "./page.mjs";
import { World, until } from "./world.mjs";

const ORDERS = Number(process.env.ORDERS || 10_000_000);
const RATE = Number(process.env.RATE || 10_000);
const SECONDS = Number(process.env.SECONDS || 20);
const RUNS = Number(process.env.RUNS || 5);
// What /proc counts in, on every Linux.
const TICKS_PER_SECOND = 100;

const browser = await launch();
try {
    const stock = new World("stock");
    await write(stock, ORDERS, 0);
    const catchingUp = await inTurn(() => new World("drain", { ORDERS_TOPIC: stock.topic }), ORDERS, async () => {});
    const flow = async (world) => write(world, RATE * SECONDS, RATE);
    const following = await inTurn(() => new World("flow"), RATE * SECONDS, flow);
    console.log("| a processor | CPU-s per million, no page | with an open page | more |\n|---|---:|---:|---:|");
    report(`catching up with ${ORDERS.toLocaleString("en-US")} orders`, catchingUp);
    report(`at ${RATE.toLocaleString("en-US")} orders/s for ${SECONDS} s`, following);
    console.log(`\nMedians of ${RUNS} runs in turn.`);
} finally {
    await browser.close();
}

/** Measures runs without and with a page, in turn. */
async function inTurn(world, orders, during) {
    const readings = { without: [], with: [] };
    for (let round = 0; round < RUNS; round += 1) {
        for (const which of ["without", "with"]) {
            const reading = await run(world(), orders, during, which === "with");
            console.error(`run ${round + 1}, ${which} a page: ${reading.toFixed(3)} CPU-s per million`);
            readings[which].push(reading);
        }
    }
    return readings;
}

/** One run: CPU seconds of the processor per million orders. */
async function run(world, orders, during, isOpen) {
    const context = await browser.newContext();
    try {
        const tab = isOpen ? await open(context, (await world.dashboard()).url) : null;
        const processor = world.processor();
        await during(world);
        await until("everything is processed", async () => {
            const { orders: counted, lag } = await world.stats();
            return counted === orders && lag === 0;
        });
        const used = cpuSeconds(processor.pid);
        if (tab !== null) {
            await shows(tab, "orders", orders);
        }
        return (used * 1e6) / orders;
    } finally {
        await context.close();
        await world.end();
    }
}

async function write(world, orders, rate) {
    await world.finished(world.generator({ ORDER_COUNT: String(orders), ORDER_RATE: String(rate) }));
}

/** User and system time that a process has used. */
function cpuSeconds(pid) {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name, in parentheses, may hold anything; the two times are fields 14 and 15 of the line.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function report(name, readings) {
    const [without, open_] = [median(readings.without), median(readings.with)];
    const more = ((open_ / without - 1) * 100).toFixed(1);
    console.log(`| ${name} | ${without.toFixed(3)} | ${open_.toFixed(3)} | ${more} % |`);
}

function median(values) {
    const sorted = values.toSorted((one, other) => one - other);
    return sorted[Math.floor(sorted.length / 2)];
}
