// The page in a real browser, and what a test reads from it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { chromium } from "playwright-core";

import { PATIENCE_MS, until } from "./world.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
// What the browser says when the server is away, which some tests bring about.
const AWAY =
    /Failed to load resource|ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/;

/** Starts the browser: CHROMIUM, or the one that Debian installs. */
export function launch() {
    // Containers mostly give no user namespace, without which the sandbox does not start.
    return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
}

/** Opens a page; errors of its scripts and violations of its content security policy are kept in `faults`. */
export async function open(context, url) {
    const tab = await context.newPage();
    tab.setDefaultTimeout(PATIENCE_MS);
    tab.faults = [];
    tab.on("pageerror", (error) => tab.faults.push(error.stack));
    tab.on("dialog", (dialog) => {
        tab.faults.push(`a dialog: ${dialog.message()}`);
        dialog.dismiss();
    });
    tab.on("console", (message) => {
        if (message.type() === "error" && !AWAY.test(message.text())) {
            tab.faults.push(message.text());
        }
    });
    await tab.goto(url);
    await live(tab);
    return tab;
}

/** Waits until events come. */
export async function live(tab) {
    await tab.locator('#stream[data-state="live"]').waitFor();
}

/** Goes to a route without loading the page again. */
export async function go(tab, route) {
    await tab.evaluate((hash) => {
        location.hash = hash;
    }, route);
}

/** The value of a readout of the overview, as the API gave it; null where it has none. */
export async function value(tab, field) {
    const text = await tab.locator(`data[data-field="${field}"]`).getAttribute("value");
    return text === null || text === "" ? null : text;
}

/** The same as a number. */
export async function number(tab, field) {
    return Number(await value(tab, field));
}

/** The text of a readout. */
export function text(tab, field) {
    return tab.locator(`data[data-field="${field}"]`).textContent();
}

/** Waits until a readout of the overview is `wanted`. */
export async function shows(tab, field, wanted) {
    let last = null;
    try {
        await until(`${field} is ${wanted}`, async () => {
            last = await value(tab, field);
            return last === String(wanted);
        });
    } catch (error) {
        error.message += `; the page shows ${last}`;
        throw error;
    }
}

/** Waits until the line of a switch says that `number` of as many instances are in a state. */
export async function follow(tab, target, number_, state) {
    await tab.locator(`[data-field="${target}-following"]`, { hasText: `${number_} of ${number_} ${state}` }).waitFor();
}

/** Asserts that axe finds nothing on what is shown. */
export async function assertAccessible(tab, what) {
    const session = await tab.context().newCDPSession(tab);
    // The page's policy forbids scripts of others: this comes from the debugger.
    await session.send("Runtime.evaluate", { expression: AXE });
    await session.detach();
    const violations = await tab.evaluate(async () => {
        const found = await globalThis.axe.run(document);
        return found.violations.map(
            ({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target.join(" ")).join(", ")}`,
        );
    });
    assert.deepEqual(violations, [], `axe on ${what}`);
}

/** Asserts that the page has had no errors and is the document that was loaded first. */
export async function assertWhole(tab, loadedAt = null) {
    assert.deepEqual(tab.faults, []);
    if (loadedAt !== null) {
        assert.equal(await loaded(tab), loadedAt, "the page was loaded again");
    }
}

/** When the document was loaded. */
export function loaded(tab) {
    return tab.evaluate(() => performance.timeOrigin);
}
