// Makes docs/screenshots of the real dashboard: two processors, a generator, and trouble enough to have something to show.

import { mkdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { go, launch, number, open } from "./page.mjs";
import { World, until } from "./world.mjs";

const FOLDER = path.resolve(fileURLToPath(import.meta.url), "../../../docs/screenshots");
const DESK = { width: 1360, height: 1000 };
const PHONE = { width: 390, height: 844 };
// So that the charts have something to tell.
const MINUTES = Number(process.env.MINUTES ?? 3);

const world = new World("shop", {
    ORDERS_TOPIC: "orders",
    ORDERS_DLQ_TOPIC: "orders-dlq",
    CONSUMER_GROUP_ID: "order-processor-group",
    CONTROL_TOPIC: "orders-control",
    ERROR_SIMULATION_RATE: "0.01",
    RETRY_BACKOFF_SECONDS: "0.5",
});
const browser = await launch();
mkdirSync(FOLDER, { recursive: true });
try {
    world.processor({ GROUP_INSTANCE_ID: "processor-1" });
    world.processor({ GROUP_INSTANCE_ID: "processor-2" });
    const { url } = await world.dashboard();
    const context = await browser.newContext({ viewport: DESK, deviceScaleFactor: 1.5, colorScheme: "light" });
    const tab = await open(context, url);
    world.generator({ ORDER_RATE: "900", CORRUPT_RATE: "0.0002" });
    world.generator({ ORDER_RATE: "300", SEED: "8" });
    await until("orders flow", async () => (await number(tab, "orders")) > 1_000);
    await tab.waitForTimeout(MINUTES * 60_000);

    await shoot(tab, "overview");
    await tab.emulateMedia({ colorScheme: "dark" });
    await shoot(tab, "overview-dark");
    await tab.emulateMedia({ colorScheme: "light" });
    await go(tab, "#/dlq");
    const letter = tab
        .locator('[aria-label="Newest dead letters"] tbody tr', { hasText: "simulated" })
        .locator("a")
        .first();
    await letter.waitFor();
    await tab.getByRole("checkbox").nth(1).check();
    await tab.getByRole("checkbox").nth(2).check();
    await shoot(tab, "dead-letters");
    await letter.click();
    await tab.locator(".history").waitFor();
    await shoot(tab, "letter");
    await go(tab, "#/");
    await tab.setViewportSize(PHONE);
    await shoot(tab, "phone");
} finally {
    await browser.close();
    await world.end();
}

async function shoot(tab, name) {
    // The pointer and the focus are nowhere, and the page is at its top.
    await tab.mouse.move(0, 0);
    await tab.evaluate(() => {
        document.activeElement.blur();
        globalThis.scrollTo(0, 0);
    });
    await tab.waitForTimeout(1_200);
    await tab.screenshot({ path: path.join(FOLDER, `${name}.png`) });
}
