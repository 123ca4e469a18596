// One dead letter: its cause, its state, its value, and all its bytes.

import { badge, el, setText, table } from "./dom.js";
import { addressOf, replayTopic } from "./dlq.js";
import * as format from "./format.js";
import { dismiss, fetchFor, replay } from "./letters.js";

/** The page of one dead letter. */
export class Letter {
    constructor({ list, onChanged }) {
        this.list = list;
        this.onChanged = onChanged;
        this.title = "Dead letter";
        this.place = "";
        this.store = null;
        this.letter = null;
        this.asked = 0;
        this.heading = el("h1", { tabindex: "-1" });
        this.state = badge();
        this.back = el("a", { href: "#/dlq" }, "All dead letters");
        this.replay = this.button("Replay", () => replay({ places: [this.place] }, replayTopic(this.store)));
        this.dismiss = this.button("Dismiss", () => dismiss({ places: [this.place] }));
        this.tools = el("span", { class: "tools" }, this.replay, this.dismiss);
        this.failure = el("p", { class: "failure", role: "alert" });
        this.body = el("div", { class: "letter" });
        this.element = el(
            "div",
            { class: "sheet" },
            el(
                "section",
                null,
                el("p", { class: "back" }, this.back),
                el("div", { class: "head" }, this.heading, this.state.element, this.tools),
                this.failure,
            ),
            this.body,
        );
    }

    button(text, run) {
        return el(
            "button",
            {
                type: "button",
                on: {
                    click: async () => {
                        if (await run()) {
                            this.onChanged();
                        }
                    },
                },
            },
            text,
        );
    }

    enter({ place }) {
        if (place !== this.place) {
            this.letter = null;
            this.body.replaceChildren();
        }
        this.place = place;
        this.title = `Dead letter ${place}`;
        setText(this.heading, this.title);
        this.back.setAttribute("href", addressOf(this.list.filter));
        this.state.element.hidden = this.letter === null;
        this.tools.hidden = true;
    }

    fetch() {
        return fetchFor(this, `api/dlq/${this.place.replace(":", "/")}`);
    }

    update(store, changed) {
        this.store = store;
        if (changed.has("session")) {
            this.showTools();
        }
    }

    showTools() {
        this.tools.hidden = this.letter === null || (this.store?.isReadOnly ?? true);
    }

    show(letter) {
        const text = JSON.stringify(letter);
        this.state.element.hidden = false;
        this.state.update(letter.state);
        if (text !== this.letter) {
            this.letter = text;
            this.body.replaceChildren(
                cause(letter),
                order(letter),
                history(letter),
                bytes("Key", letter.key),
                bytes("Value", letter.value),
                headers(letter.headers, letter.headers_left_out),
                terminal(letter),
            );
        }
        this.showTools();
    }
}

function section(name, ...parts) {
    const id = `letter-${name.toLowerCase().replaceAll(" ", "-")}`;
    return el("section", { "aria-labelledby": id }, el("h2", { id }, name), ...parts);
}

function facts(...pairs) {
    const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
    return el(
        "dl",
        { class: "facts" },
        ...known.map(([label, value]) => el("div", null, el("dt", null, label), el("dd", null, String(value)))),
    );
}

function cause(letter) {
    const source =
        letter.topic === null
            ? null
            : `${letter.topic}, partition ${letter.source_partition ?? "?"}, offset ${letter.source_offset ?? "?"}`;
    return section(
        "Cause",
        el("p", { class: "reason" }, letter.message ?? "No message."),
        facts(
            ["type", letter.type],
            ["class", letter.class],
            ["stage", letter.stage],
            ["failed in", source],
            ["group", letter.group],
            ["attempts", letter.attempts === null ? null : format.count(letter.attempts)],
            ["written by", letter.author],
        ),
    );
}

function order(letter) {
    if (letter.order_id === null && letter.product === null && letter.price === null) {
        return section(
            "Order",
            el(
                "p",
                { class: "told" },
                letter.decode_error === null
                    ? "The value is not an order."
                    : `The value cannot be decoded: ${letter.decode_error}`,
            ),
        );
    }
    return section(
        "Order",
        facts(
            ["order id", letter.order_id],
            ["product", letter.product],
            ["price", letter.price === null ? null : format.price(letter.price)],
            ["format", letter.value_format],
            ["but", letter.decode_error],
        ),
    );
}

function history(letter) {
    const steps = [
        [letter.produced_at, "produced"],
        [
            letter.failed_at,
            letter.attempts === null ? "failed" : `failed, after ${format.countOf(letter.attempts, "attempt")}`,
        ],
        [letter.written_at, `written to the dead-letter topic at ${letter.place}`],
        letter.replay_count > 0
            ? [null, `before that it had been replayed ${format.countOf(letter.replay_count, "time")}`]
            : null,
        letter.dismissal === null
            ? null
            : [letter.dismissal.at, `dismissed by ${letter.dismissal.by}: ${letter.dismissal.reason}`],
        letter.state === "replayed" ? [null, "replayed"] : null,
        letter.state === "unresolved" ? [null, "unresolved"] : null,
    ].filter((step) => step !== null && step[1] !== "" && !(step[0] === null && step[1] === "produced"));
    return section(
        "History",
        el(
            "ol",
            { class: "history" },
            ...steps.map(([time, text]) =>
                el(
                    "li",
                    null,
                    time === null
                        ? el("span", { class: "when" })
                        : el("time", { class: "when", datetime: time }, format.dateTime(time)),
                    el("span", null, text),
                ),
            ),
        ),
    );
}

function bytes(name, value) {
    if (value === null) {
        return section(name, el("p", { class: "told" }, `null: the record has no ${name.toLowerCase()}.`));
    }
    const dump = el("pre", { class: "dump", tabindex: "0", "aria-label": `${name} in hexadecimal` }, value.hex);
    return section(
        name,
        el("p", { class: "told" }, format.countOf(value.bytes, "byte")),
        value.text === null ? null : el("p", { class: "text" }, value.text),
        dump,
    );
}

function headers(all, leftOut) {
    if (all.length === 0) {
        return section("Headers", el("p", { class: "told" }, "None."));
    }
    const rows = all.map(({ name, value }) =>
        el(
            "tr",
            null,
            el("th", { scope: "row", class: "id" }, name),
            el(
                "td",
                { class: value === null || value.text === null ? "id" : null },
                value === null ? "null" : (value.text ?? value.hex),
            ),
            el("td", { class: "n" }, value === null ? "" : format.count(value.bytes)),
        ),
    );
    return section(
        "Headers",
        table(
            "Headers",
            [
                ["name", null],
                ["value", null],
                ["bytes", "n"],
            ],
            el("tbody", null, ...rows),
        ),
        leftOut === 0 ? null : el("p", { class: "told" }, `and ${format.count(leftOut)} more`),
    );
}

function terminal({ place }) {
    return section("In a terminal", el("p", { class: "text" }, `order-console dlq show ${place}`));
}
