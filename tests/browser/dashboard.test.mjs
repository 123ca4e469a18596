// The dashboard in a real browser on a real broker; world.mjs says what the environment has to name.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { after, before, test } from "node:test";

import {
    assertAccessible,
    assertWhole,
    follow,
    go,
    launch,
    live,
    loaded,
    number,
    open,
    shows,
    text,
    value,
} from "./page.mjs";
import { World, broker, until } from "./world.mjs";

const SCRIPT = "<script>window.ran = true</script>";
const NEWEST = '[aria-label="Newest dead letters"] tbody tr';
const CAUSES = '[aria-label="Dead letters by cause"] tbody tr';

let browser;
before(async () => {
    browser = await launch();
});
after(() => browser.close());

/** Gives a test a world and a browser of its own, and ends both. */
function inWorld(name, settings, body) {
    test(name, async (t) => {
        const world = new World(
            name
                .split(" ")
                .slice(0, 3)
                .join("-")
                .replace(/[^a-z-]/gi, ""),
            settings,
        );
        const context = await browser.newContext({ viewport: { width: 1360, height: 900 } });
        try {
            await body({ t, world, context });
        } finally {
            await context.close();
            await world.end();
        }
    });
}

/** Opens the page and waits until it shows what became of a hundred orders. */
async function afterHundredOrders(world, context) {
    world.processor();
    const { url } = await world.dashboard();
    await world.finished(world.generator({ ORDER_COUNT: "100", ORDER_RATE: "0" }));
    const tab = await open(context, url);
    await settled(tab, 100);
    return tab;
}

/** Waits until everything in the topic was taken, and the page knows. */
async function settled(tab, produced) {
    await shows(tab, "produced", produced);
    await shows(tab, "consumed", produced);
    await shows(tab, "lag", 0);
    await shows(tab, "waiting", 0);
}

/** Asserts that the page shows what `order-console stats` prints. */
async function assertShowsStats(tab, world) {
    const stats = await world.stats();
    for (const [field, expected] of [
        ["orders", stats.orders],
        ["dead-letters", stats.dead_letters],
        ["retries", stats.retries],
        ["replayed", stats.replayed],
        ["lag", stats.lag],
        ["revenue", stats.sum],
        ["average", stats.average],
        ["recent-average", stats.recent_average],
        ["min", stats.min],
        ["max", stats.max],
    ]) {
        await shows(tab, field, expected);
    }
    assert.equal(await text(tab, "orders"), stats.orders.toLocaleString("en-US"));
    assert.equal((await text(tab, "revenue")).replaceAll(",", ""), stats.sum, "every digit of the sum");
    return stats;
}

inWorld(
    "the numbers are those of stats and of an outside count",
    {
        ERROR_SIMULATION_RATE: "0.1",
        RETRY_BACKOFF_SECONDS: "0.05",
    },
    async ({ world, context }) => {
        world.processor();
        world.processor();
        const { url } = await world.dashboard();
        const tab = await open(context, url);
        await world.finished(world.generator({ ORDER_COUNT: "3000", ORDER_RATE: "0", CORRUPT_RATE: "0.02" }));

        const records = await world.counted();
        await settled(tab, records);
        await assertShowsStats(tab, world);
        const verdict = await world.verdict(0.1);
        assert.equal(verdict.records, records);
        assert.equal(await number(tab, "orders"), verdict.orders);
        assert.equal(await number(tab, "dead-letters"), verdict.dead_letters);
        assert.equal(await number(tab, "retries"), verdict.retries);
        assert.equal(microsOf(await value(tab, "revenue")), BigInt(verdict.sum_micros));
        assert.ok(verdict.dead_letters > 0 && verdict.retries > 0, "the test has nothing to count");

        const partitions = tab.locator('[aria-label="Partitions"] tbody tr:not(.topic)');
        assert.deepEqual(new Set(await partitions.locator('[data-field="lag"]').allTextContents()), new Set(["0"]));
        await tab.locator("section.members tbody tr").nth(1).waitFor();
        assert.equal(await tab.locator("section.members tbody tr").count(), 2);
        await assertWhole(tab);
    },
);

inWorld("pause pauses every replica and resume resumes them", {}, async ({ t, world, context }) => {
    for (let replica = 0; replica < 3; replica += 1) {
        world.processor();
    }
    const { url } = await world.dashboard();
    const tab = await open(context, url);
    world.generator({ ORDER_RATE: "400" });
    await follow(tab, "processor", 3, "running");
    await until("orders flow", async () => (await number(tab, "orders")) > 400);

    await tab.getByRole("button", { name: "Pause the processors" }).click();
    await follow(tab, "processor", 3, "paused");
    const { processor } = await (await fetch(`${url}api/control`)).json();
    const slowest = Math.max(...processor.instances.map(({ since }) => Date.parse(since) - Date.parse(processor.at)));
    t.diagnostic(`the last of three replicas had paused ${slowest} ms after it was asked`);

    // Work in flight at the pause is committed within the time of a second's orders.
    const pausedAt = await number(tab, "produced");
    await until("a second's orders", async () => (await number(tab, "produced")) > pausedAt + 400);
    const { orders } = await world.stats();
    await shows(tab, "orders", orders);
    world.processor();
    await follow(tab, "processor", 4, "paused");
    await until("orders pile up", async () => (await number(tab, "lag")) > 1_200);
    assert.equal((await world.stats()).orders, orders, "somebody went on");
    assert.equal(await number(tab, "orders"), orders);
    assert.match(await tab.locator(".attention").textContent(), /The processors are paused/);

    await tab.getByRole("button", { name: "Resume the processors" }).click();
    await follow(tab, "processor", 4, "running");
    await until("orders flow again", async () => (await number(tab, "orders")) > orders + 1_200);
    await tab.getByRole("button", { name: "Pause the generator" }).click();
    await follow(tab, "generator", 1, "paused");
    await shows(tab, "lag", 0);
    await settled(tab, await world.counted());
    await assertWhole(tab);
});

inWorld("a dead letter is replayed from the page and becomes an order", {}, async ({ world, context }) => {
    const small = [world.processor(), world.processor()];
    const { url } = await world.dashboard();
    const tab = await open(context, url);
    const trouble = { ORDER_COUNT: "60", ORDER_RATE: "0", CORRUPT_RATE: "0.2", CORRUPT_KINDS: "oversize" };
    await world.finished(world.generator(trouble));
    await settled(tab, await world.counted());
    const letters = (await world.dlq()).unresolved;
    assert.ok(letters >= 3, `${letters} dead letters are too few for this test`);
    assert.equal(await number(tab, "orders"), 60);

    await go(tab, "#/dlq?type=oversize");
    await tab.locator(CAUSES, { hasText: "oversize" }).waitFor();
    await until("all letters are listed", async () => (await tab.locator(NEWEST).count()) === letters);

    // The cause is healed: the processors take longer values.
    for (const child of small) {
        await world.stop(child);
    }
    world.processor({ MAX_VALUE_BYTES: "1048576" });

    const place = await tab.locator(`${NEWEST} a`).first().textContent();
    await tab.getByLabel(`Select ${place}`).check();
    await tab.getByRole("button", { name: "Replay selected" }).click();
    const dialog = tab.getByRole("dialog");
    const target = `${world.topic}.${world.group}.replay`;
    await dialog.getByRole("heading", { name: `Replay 1 dead letter to ${target}?` }).waitFor();
    await dialog.getByRole("button", { name: "Cancel" }).click();
    assert.equal((await world.stats()).replayed, 0, "a cancelled replay was sent");
    await tab.getByRole("button", { name: "Replay selected" }).click();
    await dialog.getByRole("button", { name: "Replay 1", exact: true }).click();
    await tab.locator("#notice", { hasText: `Replayed 1 dead letter to ${target}.` }).waitFor();
    await tab.locator(NEWEST, { hasText: place }).locator('[data-state="replayed"]').waitFor();
    await go(tab, "#/");
    await shows(tab, "orders", 61);
    await tab.locator('.recent .badge[data-state="replayed"]').first().waitFor();

    await go(tab, "#/dlq?type=oversize&state=unresolved");
    await until("the others are listed", async () => (await tab.locator(NEWEST).count()) === letters - 1);
    const other = await tab.locator(`${NEWEST} a`).first().textContent();
    await go(tab, `#/dlq/${other.replace(":", "/")}`);
    await tab.getByRole("heading", { name: `Dead letter ${other}` }).waitFor();
    await tab.getByRole("button", { name: "Dismiss" }).click();
    await dialog.getByLabel("Reason").fill("seen <b>twice</b>");
    await dialog.getByRole("button", { name: "Dismiss 1", exact: true }).click();
    await tab.locator(".history", { hasText: "seen <b>twice</b>" }).waitFor();

    await go(tab, "#/dlq?type=oversize");
    await tab.getByRole("button", { name: "Replay all that match" }).click();
    await dialog.getByRole("button", { name: `Replay ${letters - 2}`, exact: true }).click();
    await tab.locator("#notice", { hasText: `Replayed ${letters - 2} dead letter` }).waitFor();
    await go(tab, "#/");
    await shows(tab, "orders", 60 + letters - 1);
    await shows(tab, "lag", 0);
    const stats = await assertShowsStats(tab, world);
    assert.equal(stats.replayed, letters - 1);
    await assertWhole(tab);
});

inWorld("a product that is a script is text", { PERMANENT_PRICE_ABOVE: "500" }, async ({ world, context }) => {
    world.processor();
    const { url } = await world.dashboard();
    const tab = await open(context, url);
    await world.finished(world.generator({ ORDER_COUNT: "1" }));
    await world.produce(30, SCRIPT);
    await shows(tab, "lag", 0);
    await settled(tab, 31);
    const scripts = await tab.locator("script").count();

    for (const route of ["#/", "#/orders"]) {
        await go(tab, route);
        await tab.locator('td[data-field="product"]', { hasText: SCRIPT }).first().waitFor();
    }
    await go(tab, "#/dlq");
    await tab.locator(NEWEST, { hasText: SCRIPT }).first().waitFor();
    const place = await tab.locator(`${NEWEST} a`).first().textContent();
    await go(tab, `#/dlq/${place.replace(":", "/")}`);
    await tab.locator(".facts dd", { hasText: SCRIPT }).waitFor();
    assert.equal(await tab.locator("script").count(), scripts, "the page has got a script");
    assert.equal(await tab.evaluate(() => globalThis.ran), undefined, "the product ran");
    await assertWhole(tab);
});

inWorld("two tabs survive restarts of the broker and of the server", {}, async ({ world, context }) => {
    world.processor();
    const dashboard = await world.dashboard();
    const tabs = [await open(context, dashboard.url), await open(context, dashboard.url)];
    const since = await Promise.all(tabs.map(loaded));
    const generator = world.generator({ ORDER_RATE: "50" });
    for (const tab of tabs) {
        await until("orders flow", async () => (await number(tab, "orders")) > 50);
    }

    await broker("kill");
    try {
        for (const tab of tabs) {
            await tab.locator('[data-field="broker"][data-state="unreachable"]').waitFor();
            await tab.locator('.attention li[data-kind="bad"]', { hasText: "Broker" }).waitFor();
        }
    } finally {
        await broker("start");
    }
    const before_ = await number(tabs[0], "orders");
    for (const tab of tabs) {
        await tab.locator('[data-field="broker"][data-state="connected"]').waitFor();
        await until("orders flow again", async () => (await number(tab, "orders")) > before_ + 50);
    }

    await world.stop(dashboard);
    for (const tab of tabs) {
        await tab.locator('#stream[data-state="reconnecting"]').waitFor();
    }
    await world.dashboard({ DASHBOARD_ADDR: new URL(dashboard.url).host });
    await world.stop(generator);
    const records = await world.counted();
    for (const [index, tab] of tabs.entries()) {
        await live(tab);
        await settled(tab, records);
        await assertShowsStats(tab, world);
        await assertWhole(tab, since[index]);
    }
});

inWorld("a broker that does not answer is shown as unreachable", {}, async ({ world, context }) => {
    // The dashboard may end a connection with a request unread, which is an error to its other end.
    const silent = createServer((socket) => socket.on("error", () => socket.destroy())).listen(0, "127.0.0.1");
    await once(silent, "listening");
    try {
        const { url } = await world.dashboard({ BOOTSTRAP_SERVERS: `127.0.0.1:${silent.address().port}` });
        const tab = await open(context, url);
        const words = tab.locator(".attention", { hasText: "unreachable" });
        await words.waitFor();
        assert.match(await words.textContent(), /Nothing was read yet/);
        assert.doesNotMatch(await words.textContent(), /No processor runs|The numbers are incomplete/);
        await assertWhole(tab);
    } finally {
        silent.close();
    }
});

inWorld(
    "every page is accessible, in the light, in the dark and on a phone",
    { ERROR_SIMULATION_RATE: "0.3", MAX_RETRIES: "0" },
    async ({ world, context }) => {
        const tab = await afterHundredOrders(world, context);
        for (const [name, width, colorScheme] of [
            ["light", 1360, "light"],
            ["dark", 1360, "dark"],
            ["phone", 360, "light"],
        ]) {
            await tab.setViewportSize({ width, height: 800 });
            await tab.emulateMedia({ colorScheme });
            for (const [route, ready] of [
                ["#/", "section.recent tbody tr"],
                ["#/orders", ".orders tbody tr"],
                ["#/dlq", NEWEST],
                ["#/dlq/0/0", ".history"],
                ["#/nowhere", "h1"],
            ]) {
                await go(tab, route);
                await tab.locator(ready).first().waitFor();
                await assertAccessible(tab, `${route}, ${name}`);
                const over = await tab.evaluate(
                    () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
                );
                assert.equal(over, 0, `${route}, ${name}: wider than the screen`);
            }
        }
        await go(tab, "#/dlq");
        await tab.getByRole("button", { name: "Replay all" }).click();
        await tab.getByRole("dialog").waitFor();
        await assertAccessible(tab, "the question");
        await assertWhole(tab);
    },
);

inWorld(
    "everything can be reached by keyboard",
    { ERROR_SIMULATION_RATE: "0.3", MAX_RETRIES: "0" },
    async ({ world, context }) => {
        const tab = await afterHundredOrders(world, context);
        const tabTo = async (name) => {
            for (let presses = 0; presses < 200; presses += 1) {
                await tab.keyboard.press("Tab");
                const found = await tab.evaluate(() => {
                    const { activeElement: element } = document;
                    return (element.getAttribute("aria-label") ?? element.textContent).trim();
                });
                if (found === name) {
                    return;
                }
            }
            assert.fail(`${name} is not reached`);
        };
        await tabTo("Pause the processors");
        await tab.keyboard.press("Enter");
        await follow(tab, "processor", 1, "paused");
        await tab.keyboard.press("Enter");
        await follow(tab, "processor", 1, "running");

        await tabTo("Time that the charts are read at");
        await tab.keyboard.press("ArrowLeft");
        assert.match(await tab.locator("input.time").getAttribute("aria-valuetext"), /Average price of all orders/);

        await go(tab, "#/dlq");
        await tab.locator(NEWEST).first().waitFor();
        const place = await tab.locator(`${NEWEST} a`).first().textContent();
        await tabTo(`Select ${place}`);
        await tab.keyboard.press("Space");
        await tab.locator(".tools", { hasText: "1 selected" }).waitFor();
        await tab.getByRole("button", { name: "Dismiss selected" }).focus();
        await tab.keyboard.press("Enter");
        await tab.getByRole("dialog").waitFor();
        await tab.keyboard.type("by hand");
        await tab.keyboard.press("Enter");
        await tab.locator(NEWEST, { hasText: place }).locator('[data-state="dismissed"]').waitFor();
        await assertWhole(tab);
    },
);

inWorld("below a path of a proxy all of it works, and each token allows its own", {}, async ({ world, context }) => {
    world.processor();
    const tokens = { DASHBOARD_TOKEN: "open-sesame-and-change", DASHBOARD_READ_TOKEN: "open-sesame-and-see" };
    const { url } = await world.dashboard(tokens);
    const mounted = await world.mounted(url, "/some/orders/");
    const tab = await context.newPage();
    await tab.goto(mounted);
    const signIn = async (token) => {
        await tab.getByLabel("Token").fill(token);
        await tab.getByRole("button", { name: "Sign in" }).click();
        await live(tab);
    };
    await signIn(tokens.DASHBOARD_READ_TOKEN);
    await tab.getByText("read-only").waitFor();
    await follow(tab, "processor", 1, "running");
    assert.equal(await tab.getByRole("button", { name: /Pause|Resume/ }).count(), 0);
    await go(tab, "#/dlq");
    await tab.getByRole("heading", { name: "Dead letters", level: 1 }).waitFor();
    await tab.getByRole("button", { name: "Sign out" }).click();
    await go(tab, "#/");
    await signIn(tokens.DASHBOARD_TOKEN);
    await tab.getByRole("button", { name: /Pause/ }).first().waitFor();
    const [{ path }] = await context.cookies(mounted + "api/stats");
    assert.equal(path, "/some/orders/api");
});

inWorld("without the token nothing is shown, and read-only changes nothing", {}, async ({ world, context }) => {
    world.processor();
    const guarded = await world.dashboard({ DASHBOARD_TOKEN: "open-sesame-to-whom-it-may-concern" });
    const tab = await context.newPage();
    await tab.goto(`${guarded.url}#/dlq`);
    const token = tab.getByLabel("Token");
    await token.fill("wrong");
    await tab.getByRole("button", { name: "Sign in" }).click();
    await tab.getByRole("alert").filter({ hasText: "The token was not accepted" }).waitFor();
    await assertAccessible(tab, "the form for the token");
    assert.equal((await tab.request.get(`${guarded.url}api/stats`)).status(), 401);
    await token.fill("open-sesame-to-whom-it-may-concern");
    await tab.getByRole("button", { name: "Sign in" }).click();
    await tab.getByRole("heading", { name: "Dead letters", level: 1 }).waitFor();
    await live(tab);
    await assertAccessible(tab, "the page of somebody who is signed in");
    await tab.getByRole("button", { name: "Sign out" }).click();
    await token.waitFor();
    assert.equal((await tab.request.get(`${guarded.url}api/stats`)).status(), 401);
    assert.equal(await tab.getByRole("button", { name: "Sign out" }).count(), 0);

    const watched = await world.dashboard({ DASHBOARD_READ_ONLY: "true" });
    const other = await open(context, watched.url);
    await other.getByText("read-only").waitFor();
    assert.equal(await other.getByRole("button", { name: /Pause|Resume/ }).count(), 0);
    const refused = await other.evaluate(
        async () =>
            (
                await fetch("/api/control", {
                    method: "POST",
                    headers: { "Content-Type": "application/json" },
                    body: JSON.stringify({ target: "all", action: "pause" }),
                })
            ).status,
    );
    assert.equal(refused, 403);
    await follow(other, "processor", 1, "running");
});

inWorld("10,000 orders/s do not let the page grow", {}, async ({ t, world, context }) => {
    world.processor();
    world.processor();
    const { url } = await world.dashboard();
    const tab = await open(context, url);
    const session = await context.newCDPSession(tab);
    await session.send("Performance.enable");
    const measure = async () => {
        await session.send("HeapProfiler.collectGarbage");
        const { metrics } = await session.send("Performance.getMetrics");
        return Object.fromEntries(metrics.map(({ name, value: number_ }) => [name, number_]));
    };
    const generator = world.generator({ ORDER_RATE: "10000" });
    await until("100,000 orders", async () => (await number(tab, "orders")) > 100_000);
    const first = await measure();
    await until("300,000 orders", async () => (await number(tab, "orders")) > 300_000);
    const second = await measure();
    await world.stop(generator);
    await settled(tab, await world.counted());

    const cpu = (second.TaskDuration - first.TaskDuration) / (second.Timestamp - first.Timestamp);
    t.diagnostic(
        `the page takes ${(100 * cpu).toFixed(1)} % of a core, ${(second.JSHeapUsedSize / 2 ** 20).toFixed(1)} MiB of heap`,
    );
    assert.ok(second.Nodes <= first.Nodes * 1.1, `${first.Nodes} nodes have become ${second.Nodes}`);
    assert.equal(second.JSEventListeners, first.JSEventListeners);
    assert.ok(second.JSHeapUsedSize < first.JSHeapUsedSize + 2 ** 20, "the heap grows");
    await assertShowsStats(tab, world);
    await assertWhole(tab);
});

function microsOf(decimal) {
    const [whole, fraction = ""] = decimal.split(".");
    return BigInt(whole + fraction.padEnd(6, "0"));
}
