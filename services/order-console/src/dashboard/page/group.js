// The group: its partitions with their lag, and its members.

import { Rows, badge, el, setAttribute, setShown, setText, table } from "./dom.js";
import * as format from "./format.js";

const ROWS_MAX = 200;
const PARTITION_COLUMNS = [
    ["partition", null],
    ["lag", "n"],
    ["lag, time", "n"],
    ["orders", "n"],
    ["average", "n"],
    ["waiting", "n"],
    ["retries", "n"],
    ["dead letters", "n"],
    ["committed", "n"],
    ["log end", "n"],
    ["member", null],
];
const MEMBER_COLUMNS = [
    ["member", null],
    ["state", null],
    ["host", null],
    ["partitions", null],
    ["lag", "n"],
];

/** Lag and numbers of each partition, a block of rows for each topic. */
export class Partitions {
    constructor() {
        const box = table("Partitions", PARTITION_COLUMNS);
        box.querySelector("tbody").remove();
        this.blocks = new Rows(box.firstChild, topicBlock, 1);
        this.more = el("p", { class: "told" });
        this.element = el("div", null, box, this.more);
    }

    update(stats, group) {
        const shown = stats.partitions.slice(0, ROWS_MAX);
        const names = new Map(group?.members.map((member) => [member.member_id, format.memberName(member)]));
        const lagMax = Math.max(1, ...shown.map(({ lag }) => lag));
        const topics = new Map();
        for (const partition of shown) {
            const name = partition.member === null ? "none" : (names.get(partition.member) ?? partition.member);
            const rows = topics.get(partition.topic) ?? [];
            rows.push({ ...partition, lagMax, name });
            topics.set(partition.topic, rows);
        }
        this.blocks.show([...topics], ([topic]) => topic);
        const left = stats.partitions.length - shown.length;
        setShown(this.more, left > 0);
        setText(this.more, `and ${format.countOf(left, "partition")} more`);
    }
}

function topicBlock(topic) {
    const heading = el(
        "tr",
        { class: "topic" },
        el("th", { scope: "rowgroup", colspan: PARTITION_COLUMNS.length }, topic),
    );
    const element = el("tbody", null, heading);
    const rows = new Rows(element, partitionRow, 1);
    return { element, update: ([, partitions]) => rows.show(partitions, ({ partition }) => partition) };
}

function partitionRow() {
    const bar = el("span", { class: "bar", "aria-hidden": "true" });
    const lag = el("span", { "data-field": "lag" });
    const number = el("th", { scope: "row" });
    const cells = Object.fromEntries(
        ["lag_seconds", "orders", "average", "waiting", "retries", "dead_letters", "committed", "log_end"].map(
            (field) => [field, el("td", { class: "n", "data-field": field })],
        ),
    );
    const member = el("td");
    let share = null;
    const element = el("tr", null, number, el("td", { class: "n lag" }, bar, lag), ...Object.values(cells), member);
    return {
        element,
        update(item) {
            setText(number, String(item.partition));
            setText(lag, format.count(item.lag));
            setText(cells.lag_seconds, format.seconds(item.lag_seconds));
            setText(cells.orders, format.count(item.orders) + (item.complete ? "" : "*"));
            setAttribute(cells.orders, "title", item.complete ? null : `counts since offset ${item.since ?? "?"}`);
            setText(cells.average, format.average(item.average));
            setText(cells.waiting, format.count(item.waiting));
            setText(cells.retries, format.count(item.retries));
            setText(cells.dead_letters, format.count(item.dead_letters));
            setText(cells.committed, format.count(item.committed_offset));
            setText(cells.log_end, format.count(item.log_end));
            setText(member, item.name);
            setAttribute(element, "data-member", item.member === null ? "none" : null);
            const next = (item.lag / item.lagMax).toFixed(3);
            if (next !== share) {
                share = next;
                bar.style.transform = `scaleX(${next})`;
            }
        },
    };
}

/** The members with their partitions. */
export class Members {
    constructor() {
        const body = el("tbody");
        this.rows = new Rows(body, memberRow);
        this.state = el("p", { class: "told", "data-field": "group-state" });
        this.table = table("Members", MEMBER_COLUMNS, body);
        this.empty = el("p", { class: "empty" }, "The group has no members: no orders are processed.");
        this.element = el("div", null, this.state, this.table, this.empty);
    }

    update(group) {
        const parts = [
            group.group,
            group.state,
            group.assignor,
            group.coordinator === null ? null : `coordinator ${group.coordinator}`,
        ];
        setText(this.state, parts.filter((part) => part !== null).join(" · "));
        this.rows.show(group.members.slice(0, ROWS_MAX), ({ member_id: id }) => id);
        setShown(this.empty, group.members.length === 0);
        setShown(this.table, group.members.length > 0);
    }
}

function memberRow(id) {
    const name = el("th", { scope: "row", title: id });
    const state = badge();
    const host = el("td");
    const partitions = el("td", { class: "held" });
    const lag = el("td", { class: "n" });
    return {
        element: el("tr", null, name, el("td", null, state.element), host, partitions, lag),
        update(member) {
            setText(name, format.memberName(member));
            state.update(member.state);
            setAttribute(state.element, "title", member.since === null ? null : `since ${member.since}`);
            setText(host, member.host);
            setText(partitions, held(member.partitions));
            setText(lag, format.count(member.lag));
        },
    };
}

function held(partitions) {
    const byTopic = new Map();
    for (const { topic, partition } of partitions) {
        byTopic.set(topic, [...(byTopic.get(topic) ?? []), partition]);
    }
    const words = [...byTopic].map(([topic, numbers]) => `${topic} ${numbers.join(" ")}`);
    return words.length === 0 ? "none" : words.join(", ");
}
