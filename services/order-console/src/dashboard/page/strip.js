// The strip below the heading: connections, group, uptime and version.

import { el, setAttribute, setShown, setText } from "./dom.js";
import * as format from "./format.js";

/** Broker, registry, group, uptime and version in one line. */
export class Strip {
    constructor(place) {
        this.place = place;
        this.broker = lamp("broker");
        this.registry = lamp("registry");
        this.group = fact("group");
        this.uptime = fact("up");
        this.version = fact("version");
        place.append(
            el(
                "dl",
                null,
                ...[this.broker, this.registry, this.group, this.uptime, this.version].map(({ element }) => element),
            ),
        );
    }

    update({ stats, group, now }) {
        setShown(this.place, stats !== null);
        if (stats === null) {
            return;
        }
        this.broker.update(stats.connections.broker, now);
        this.registry.update(stats.connections.registry, now);
        if (group !== null) {
            this.group.update(`${group.state}, ${format.countOf(group.members.length, "member")}`);
        }
        this.uptime.update(format.seconds(Math.floor(stats.uptime_seconds)));
        this.version.update(stats.version);
    }
}

function fact(name) {
    const value = el("dd", { "data-field": name });
    return { element: el("div", null, el("dt", null, name), value), update: (text) => setText(value, text) };
}

function lamp(name) {
    const words = el("span");
    const light = el("span", { class: "lamp", "aria-hidden": "true" });
    const value = el("dd", { "data-field": name, "data-state": "unknown" }, light, words);
    return {
        element: el("div", null, el("dt", null, name), value),
        update({ state, since, detail, address }, now) {
            setAttribute(value, "data-state", state);
            setAttribute(value, "title", detail);
            setText(words, `${address} ${state}${since === null ? "" : ` since ${format.time(since, now)}`}`);
        },
    };
}
