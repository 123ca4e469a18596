// What needs an operator's attention, derived from the data of the server.

import { followers } from "./control.js";
import { Rows, el, setAttribute, setShown, setText } from "./dom.js";
import * as format from "./format.js";

/** Returns what needs attention as `{ id, kind, text, href }`, the worst first; `kind` is "bad" or "note". */
export function concerns({ stats, group, control, letters, stream, now }) {
    const found = [];
    const add = (id, kind, text, href = null) => found.push({ id, kind, text, href });
    if (stats !== null && (stream === "reconnecting" || stream === "stale")) {
        add(
            "server",
            "bad",
            `The dashboard's server does not answer.${stats.at === null ? "" : ` Everything here is of ${format.time(stats.at, now)}.`}`,
        );
    }
    if (stats !== null) {
        connections(stats, add, now);
    }
    if (group !== null && group.state !== "Unknown" && group.members.length === 0) {
        add("no-members", "bad", `No processor runs: the group ${group.group} has no members (${group.state}).`);
    }
    if (control !== null) {
        paused("generator", control.generator, "The generator", add, now);
        paused("processor", control.processor, "The processors", add, now);
    }
    if (letters !== null && letters.unresolved > 0) {
        const text = `${format.countOf(letters.unresolved, "dead letter")} unresolved.`;
        add("letters", "note", text, "#/dlq?state=unresolved");
    }
    if (stats !== null && !stats.complete) {
        const partial = stats.partitions
            .filter(({ complete }) => !complete)
            .map(
                ({ topic, partition, since, truncated }) =>
                    `${topic} ${partition}${since === null ? "" : ` since offset ${format.count(since)}`}` +
                    (truncated > 0 ? ` with ${format.count(truncated)} offsets that the log has lost` : ""),
            );
        const where =
            partial.length > 4
                ? `${partial.slice(0, 4).join(", ")} and ${partial.length - 4} more`
                : partial.join(", ");
        add("incomplete", "note", `The numbers are incomplete: ${where || "some partitions"}.`);
    }
    return found;
}

function connections({ connections: { broker, registry }, at }, add, now) {
    for (const [id, name, { state, since, detail, address }] of [
        ["broker", "Broker", broker],
        ["registry", "Registry", registry],
    ]) {
        if (state === "unreachable" || state === "failing") {
            const long =
                since === null
                    ? ""
                    : ` since ${format.time(since, now)} (${format.seconds(Math.round(format.age(since, now)))})`;
            const known = at === null ? "Nothing was read yet." : `The numbers are those of ${format.time(at, now)}.`;
            const numbers = id === "broker" ? ` ${known}` : "";
            add(id, "bad", `${name} ${address} ${state}${long}${detail === null ? "" : `: ${detail}`}.${numbers}`);
        }
    }
}

function paused(id, role, name, add, now) {
    const { following, all } = followers(role);
    const since = role.at === null ? "" : ` since ${format.time(role.at, now)}`;
    if (role.desired === "paused") {
        add(
            `${id}-paused`,
            "note",
            `${name} ${id === "generator" ? "is" : "are"} paused${since}${role.by === null ? "" : ` by ${role.by}`}.`,
        );
    }
    if (following < all) {
        add(
            `${id}-behind`,
            "note",
            `${name}: ${format.count(all - following)} of ${format.count(all)} not yet ${role.desired}.`,
        );
    }
}

/** The list of concerns, or a sentence where there is none. */
export class Attention {
    constructor() {
        const list = el("ul");
        this.rows = new Rows(list, () => {
            const shape = el("span", { class: "shape", "aria-hidden": "true" });
            const text = el("span");
            const link = el("a", { hidden: true }, "Look at them");
            const element = el("li", null, shape, text, " ", link);
            return {
                element,
                update(concern) {
                    setAttribute(element, "data-kind", concern.kind);
                    setText(shape, concern.kind === "bad" ? "▲" : "■");
                    setText(text, concern.text);
                    setShown(link, concern.href !== null);
                    setAttribute(link, "href", concern.href);
                },
            };
        });
        this.none = el("p", { class: "told" }, "Nothing needs attention.");
        this.element = el(
            "section",
            { class: "attention", "aria-labelledby": "attention-heading" },
            el("h2", { id: "attention-heading", class: "unseen" }, "Attention"),
            list,
            this.none,
        );
    }

    update(found) {
        this.rows.show(found, ({ id }) => id);
        setShown(this.none, found.length === 0);
    }
}
