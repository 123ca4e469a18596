// Pause and resume of a role: its desired state, the instances that have followed, and the switch.

import { post } from "./client.js";
import { Rows, badge, el, setAttribute, setShown, setText } from "./dom.js";
import * as format from "./format.js";
import { announce, notice } from "./notices.js";

const INSTANCES_SHOWN = 6;

/** Returns how many instances of a role are in the desired state, and how many there are. */
export function followers(role) {
    return {
        following: role.instances.filter(({ state }) => state === role.desired).length,
        all: role.instances.length,
    };
}

/** The switch of one role, "generator" or "processor". */
export class Switch {
    constructor(target, name) {
        Object.assign(this, { target, name });
        this.role = null;
        this.sent = null;
        this.state = badge();
        this.following = el("span", { class: "following", "data-field": `${target}-following` });
        this.command = el("p", { class: "told" });
        this.button = el("button", {
            type: "button",
            class: "switch",
            "data-field": `${target}-switch`,
            on: {
                click: () => this.flip(),
            },
        });
        this.list = el("ul", { class: "instances" });
        this.more = el("p", { class: "told" });
        this.rows = new Rows(this.list, () => {
            const lamp = badge();
            const name_ = el("span", { class: "instance" });
            return {
                element: el("li", null, lamp.element, name_),
                update({ name: text, state }) {
                    lamp.update(state);
                    setText(name_, format.shortName(text));
                    setAttribute(name_, "title", text);
                },
            };
        });
        this.element = el(
            "div",
            { class: "control" },
            el("p", { class: "wanted" }, this.state.element, this.following, this.button),
            this.command,
            this.list,
            this.more,
        );
    }

    /** Shows the state of the role. */
    update(role, isReadOnly, now) {
        this.role = role;
        const { following, all } = followers(role);
        this.state.update(role.desired, following === all || all === 0 ? role.desired : `${role.desired}: commanded`);
        const verb = role.desired;
        setText(
            this.following,
            all === 0 ? "no instance has reported" : `${format.count(following)} of ${format.count(all)} ${verb}`,
        );
        setAttribute(this.element, "data-desired", role.desired);
        const parts = [
            role.at === null ? null : `since ${format.time(role.at, now)}`,
            role.by === null ? null : `by ${role.by}`,
        ];
        setText(this.command, parts.filter((part) => part !== null).join(" "));
        setShown(this.command, role.at !== null || role.by !== null);
        const strays = [...role.instances].sort((a, b) => Number(a.state === verb) - Number(b.state === verb));
        this.rows.show(strays.slice(0, INSTANCES_SHOWN), ({ name }) => name);
        setShown(this.more, all > INSTANCES_SHOWN);
        setText(this.more, `and ${format.count(all - INSTANCES_SHOWN)} more`);
        setShown(this.button, !isReadOnly);
        const action = this.action();
        const label = action === "pause" ? "Pause" : "Resume";
        setText(this.button, label);
        setAttribute(this.button, "aria-label", `${label} the ${this.name}`);
        setAttribute(this.button, "data-action", action);
        this.announceWhenAllFollow(following, all);
    }

    action() {
        return this.role.desired === "running" ? "pause" : "resume";
    }

    async flip() {
        const action = this.action();
        this.sent = { action, at: performance.now() };
        setAttribute(this.button, "aria-busy", "true");
        try {
            // The stream shows the result; its events may be later than this answer.
            await post("api/control", { target: this.target, action });
        } catch (error) {
            this.sent = null;
            notice(`Could not ${action} the ${this.name}: ${error.message}`, "bad");
        } finally {
            setAttribute(this.button, "aria-busy", null);
        }
    }

    announceWhenAllFollow(following, all) {
        const desired = this.sent?.action === "pause" ? "paused" : "running";
        if (this.sent === null || this.role.desired !== desired || following < all || all === 0) {
            return;
        }
        const took = format.seconds((performance.now() - this.sent.at) / 1000);
        this.sent = null;
        const what = `${this.name[0].toUpperCase()}${this.name.slice(1)}`;
        announce(`${what} ${desired}: ${following} of ${all}, after ${took}.`);
        setText(this.command, `${this.command.textContent}, all ${desired} after ${took}`);
    }
}
