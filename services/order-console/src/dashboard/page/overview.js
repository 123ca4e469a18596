// The overview: rates, the average, lag by partition, members, and the latest orders.

import { Attention, concerns } from "./attention.js";
import { Switch } from "./control.js";
import { el, setAttribute, setText } from "./dom.js";
import * as format from "./format.js";
import { Members, Partitions } from "./group.js";
import { Orders } from "./orders.js";
import { Trends } from "./trends.js";

const ORDERS_SHOWN = 15;

/** A named number. `<data>` holds the value as the API gave it beside what is read. */
class Readout {
    constructor(field, label, unit = "") {
        this.value = el("data", { "data-field": field }, format.NONE);
        const tail = unit === "" ? null : el("span", { class: "unit" }, ` ${unit}`);
        this.element = el("div", { class: "readout" }, el("dt", null, label), el("dd", null, this.value, tail));
    }

    set(text, raw) {
        setText(this.value, text);
        setAttribute(this.value, "value", raw ?? "");
    }
}

/** The overview page. */
export class Overview {
    constructor() {
        this.title = "Overview";
        this.attention = new Attention();
        this.generator = new Switch("generator", "generator");
        this.processor = new Switch("processor", "processors");
        this.trends = new Trends();
        this.partitions = new Partitions();
        this.members = new Members();
        this.orders = new Orders(ORDERS_SHOWN);
        this.fields = {};
        this.element = el(
            "div",
            { class: "sheet" },
            el("h1", { class: "unseen", tabindex: "-1" }, "Overview"),
            this.attention.element,
            this.flow(),
            this.averages(),
            this.section("partitions", "Lag by partition", this.partitions.element),
            this.section("members", "Members", this.members.element),
            this.section(
                "recent",
                "Recent orders",
                this.orders.element,
                this.orders.hold,
                el("a", { href: "#/orders" }, "More"),
            ),
        );
    }

    readouts(kind, ...specs) {
        const made = specs.map(([field, label, unit]) => {
            this.fields[field] = new Readout(field, label, unit);
            return this.fields[field].element;
        });
        return el("dl", { class: kind }, ...made);
    }

    flow() {
        const station = (kind, heading, ...parts) =>
            el("div", { class: `station ${kind}` }, el("h3", null, heading), ...parts);
        return el(
            "section",
            { class: "flow", "aria-labelledby": "flow-heading" },
            el("h2", { id: "flow-heading", class: "unseen" }, "Flow"),
            station(
                "produced",
                "Generator",
                this.readouts("big", ["produced", "produced"], ["produced-rate", "rate", "/s"]),
                this.generator.element,
            ),
            station(
                "logged",
                "In the log",
                this.readouts("big", ["lag", "lag", "records"], ["lag-seconds", "lag, time"]),
                this.readouts("small", ["waiting", "wait for a retry, or behind one"]),
            ),
            station(
                "consumed",
                "Processors",
                this.readouts("big", ["consumed", "consumed"], ["consumed-rate", "rate", "/s"]),
                this.processor.element,
            ),
            station(
                "outcome",
                "What became of them",
                this.readouts(
                    "outcomes",
                    ["orders", "processed"],
                    ["dead-letters", "dead letters"],
                    ["retries", "retries"],
                    ["replayed", "replayed"],
                ),
            ),
        );
    }

    averages() {
        return el(
            "section",
            { class: "average", "aria-labelledby": "average-heading" },
            el("h2", { id: "average-heading", class: "unseen" }, "Average"),
            this.readouts(
                "column",
                ["average", "running average"],
                ["recent-average", "average of the last 100"],
                ["revenue", "revenue"],
                ["min", "lowest price"],
                ["max", "highest price"],
            ),
            this.trends.element,
        );
    }

    section(id, name, body, ...tools) {
        return el(
            "section",
            { class: id, "aria-labelledby": `${id}-heading` },
            el("div", { class: "head" }, el("h2", { id: `${id}-heading` }, name), ...tools),
            body,
        );
    }

    /** Shows changes; `changed` names the changed parts of the store. */
    update(store, changed) {
        const { stats, group, control, orders, points, now } = store;
        if (stats !== null && changed.has("stats")) {
            this.showStats(stats);
        }
        if (stats !== null && (changed.has("stats") || changed.has("group"))) {
            this.partitions.update(stats, group);
        }
        if (group !== null && changed.has("group")) {
            this.members.update(group);
        }
        if (control !== null && (changed.has("control") || changed.has("session"))) {
            this.generator.update(control.generator, store.isReadOnly, now);
            this.processor.update(control.processor, store.isReadOnly, now);
        }
        if (orders !== null && changed.has("orders")) {
            this.orders.update(orders.orders);
        }
        if (changed.has("points")) {
            this.trends.show(points);
        }
        this.attention.update(concerns(store));
    }

    showStats(stats) {
        const { produced, consumed } = stats;
        for (const [field, text, raw] of [
            ["produced", format.count(produced.total), produced.total],
            ["produced-rate", format.rate(produced.per_second), produced.per_second],
            ["consumed", format.count(consumed.total), consumed.total],
            ["consumed-rate", format.rate(consumed.per_second), consumed.per_second],
            ["lag", format.count(stats.lag), stats.lag],
            ["lag-seconds", format.seconds(stats.lag_seconds), stats.lag_seconds],
            ["waiting", format.count(stats.waiting), stats.waiting],
            ["orders", format.count(stats.orders), stats.orders],
            ["retries", format.count(stats.retries), stats.retries],
            ["dead-letters", format.count(stats.dead_letters), stats.dead_letters],
            ["replayed", format.count(stats.replayed), stats.replayed],
            ["average", format.average(stats.average), stats.average],
            ["recent-average", format.average(stats.recent_average), stats.recent_average],
            ["revenue", format.decimal(stats.revenue), stats.revenue],
            ["min", format.price(stats.min), stats.min],
            ["max", format.price(stats.max), stats.max],
        ]) {
            this.fields[field].set(text, raw);
        }
    }
}
