// The dead letters: by cause, and the newest that match the filters of the address.

import { Rows, badge, el, moment, setAttribute, setShown, setText, table } from "./dom.js";
import * as format from "./format.js";
import { dismiss, fetchFor, replay } from "./letters.js";

const FILTERS = ["type", "state", "key", "partition"];
const LIMIT = 50;
const SELECTED_MAX = 1_000;
const CAUSE_COLUMNS = [
    ["type", null],
    ["message", null],
    ["failed in", null],
    ["letters", "n"],
    ["unresolved", "n"],
    ["replayed", "n"],
    ["dismissed", "n"],
    ["first", null],
    ["last", null],
    ["example", null],
];
const LETTER_COLUMNS = [
    ["place", null],
    ["state", null],
    ["type", null],
    ["order", null],
    ["product", null],
    ["price", "n"],
    ["failed", null],
    ["failed in", null],
    ["attempts", "n"],
    ["replays", "n"],
    ["message", null],
];

/** Returns the name of the topic that replays go to. */
export function replayTopic({ stats, letters }) {
    return stats?.replay_topic ?? `the replay topic of ${letters?.group ?? "the group"}`;
}

/** Returns the address of the list with these filters. */
export function addressOf(filter) {
    const search = new URLSearchParams(Object.entries(filter).filter(([, value]) => value !== "")).toString();
    return search === "" ? "#/dlq" : `#/dlq?${search}`;
}

/** The page of all dead letters. */
export class Dlq {
    constructor({ onChanged }) {
        this.title = "Dead letters";
        this.onChanged = onChanged;
        this.filter = Object.fromEntries(FILTERS.map((name) => [name, ""]));
        this.selected = new Set();
        this.shown = [];
        this.store = null;
        this.asked = 0;
        this.counts = el("p", { class: "told", "data-field": "dlq-counts" });
        this.asOf = el("span", { class: "told" });
        this.failure = el("p", { class: "failure", role: "alert" });
        this.makeCauses();
        this.makeForm();
        this.makeLetters();
        const again = el("button", { type: "button", on: { click: () => this.onChanged() } }, "Refresh");
        this.element = el(
            "div",
            { class: "sheet" },
            el(
                "section",
                { "aria-labelledby": "dlq-heading" },
                el(
                    "div",
                    { class: "head" },
                    el("h1", { id: "dlq-heading", tabindex: "-1" }, "Dead letters"),
                    this.asOf,
                    again,
                ),
                this.counts,
                this.failure,
            ),
            el(
                "section",
                { "aria-labelledby": "causes-heading" },
                el("div", { class: "head" }, el("h2", { id: "causes-heading" }, "By cause")),
                this.causes,
                this.noCauses,
            ),
            el(
                "section",
                { "aria-labelledby": "newest-heading" },
                el("div", { class: "head" }, el("h2", { id: "newest-heading" }, "Newest")),
                this.form,
                this.tools,
                this.letters,
                this.noLetters,
            ),
        );
    }

    makeCauses() {
        const body = el("tbody");
        this.causeRows = new Rows(body, causeRow);
        this.causes = table("Dead letters by cause", CAUSE_COLUMNS, body);
        this.noCauses = el("p", { class: "empty" }, "No dead letters.");
    }

    makeForm() {
        this.types = el("datalist", { id: "types" });
        this.typeRows = new Rows(this.types, (type) => ({ element: el("option", { value: type }), update() {} }));
        const text = (name, label, more) =>
            this.field(name, label, el("input", { name, id: `filter-${name}`, autocomplete: "off", ...more }));
        const states = ["", "unresolved", "replayed", "dismissed"].map((state) =>
            el("option", { value: state }, state || "any"),
        );
        const clear = el(
            "button",
            {
                type: "button",
                class: "plain",
                on: {
                    click: () => {
                        location.hash = "#/dlq";
                    },
                },
            },
            "Clear",
        );
        this.form = el(
            "form",
            {
                class: "filters",
                role: "search",
                "aria-label": "Filters",
                on: {
                    submit: (event) => {
                        event.preventDefault();
                        this.apply();
                    },
                },
            },
            text("type", "Type", { list: "types", type: "text" }),
            this.field(
                "state",
                "State",
                el("select", { name: "state", id: "filter-state", on: { change: () => this.apply() } }, ...states),
            ),
            text("key", "Key", { type: "text" }),
            text("partition", "Partition it failed in", { type: "number", min: "0", step: "1", inputmode: "numeric" }),
            el("p", { class: "buttons" }, el("button", { type: "submit" }, "Filter"), clear),
            this.types,
        );
    }

    field(name, label, input) {
        return el("p", { class: "field" }, el("label", { for: `filter-${name}` }, label), input);
    }

    makeLetters() {
        const body = el("tbody");
        this.letterRows = new Rows(body, (place) => letterRow(place, this));
        this.all = el("input", {
            type: "checkbox",
            "aria-label": "Select all shown",
            on: { change: () => this.selectAll() },
        });
        this.letters = table("Newest dead letters", LETTER_COLUMNS, body);
        this.pick = el("th", { scope: "col" }, this.all);
        this.letters.querySelector("thead tr").prepend(this.pick);
        this.noLetters = el("p", { class: "empty" }, "No dead letter matches.");
        this.selection = el("span", { class: "told" });
        const button = (run) =>
            el("button", {
                type: "button",
                on: {
                    click: async () => {
                        if (await run()) {
                            this.selected.clear();
                            this.onChanged();
                        }
                    },
                },
            });
        this.replaySelected = button(() => replay(this.places(), replayTopic(this.store)));
        this.dismissSelected = button(() => dismiss(this.places()));
        this.replayAll = button(() => replay({ filter: this.chosenFilter() }, replayTopic(this.store)));
        this.dismissAll = button(() => dismiss({ filter: this.chosenFilter() }));
        this.tools = el(
            "div",
            { class: "tools", role: "group", "aria-label": "What to do" },
            this.selection,
            this.replaySelected,
            this.dismissSelected,
            this.replayAll,
            this.dismissAll,
        );
    }

    /** Reads the filters of the address. */
    enter({ query }) {
        const filter = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
        if (addressOf(filter) !== addressOf(this.filter)) {
            this.selected.clear();
        }
        this.filter = filter;
        for (const name of FILTERS) {
            this.form.elements[name].value = filter[name];
        }
    }

    apply() {
        const filter = Object.fromEntries(FILTERS.map((name) => [name, this.form.elements[name].value.trim()]));
        location.hash = addressOf(filter);
    }

    fetch() {
        return fetchFor(this, "api/dlq", { ...this.filter, limit: LIMIT });
    }

    update(store, changed) {
        this.store = store;
        if (changed.has("session")) {
            this.showTools();
        }
    }

    show(letters) {
        setText(this.asOf, `as of ${format.time(this.store.now, this.store.now)}`);
        const { topic, unresolved, replayed, dismissed, repeats, other_groups: others, unreadable } = letters;
        const more = [
            [repeats, "repeated"],
            [others, "of other groups"],
            [unreadable, "unreadable"],
        ]
            .filter(([number]) => number > 0)
            .map(([number, words]) => `, ${format.count(number)} ${words}`)
            .join("");
        setText(
            this.counts,
            `${topic}: ${format.countOf(letters.letters, "dead letter")}, ${format.count(unresolved)} unresolved, ` +
                `${format.count(replayed)} replayed, ${format.count(dismissed)} dismissed${more}`,
        );
        this.causeRows.show(letters.causes, (cause) =>
            JSON.stringify([cause.type, cause.class, cause.topic, cause.author]),
        );
        setShown(this.causes, letters.causes.length > 0);
        setShown(this.noCauses, letters.causes.length === 0);
        this.typeRows.show([...new Set(letters.causes.map(({ type }) => type))], (type) => type);
        this.shown = letters.newest;
        this.showLetters();
    }

    showLetters() {
        this.letterRows.show(this.shown, ({ place }) => place);
        setShown(this.letters, this.shown.length > 0);
        setShown(this.noLetters, this.shown.length === 0);
        this.showTools();
    }

    showTools() {
        const isReadOnly = this.store?.isReadOnly ?? true;
        setShown(this.tools, !isReadOnly && this.shown.length > 0);
        setAttribute(this.letters, "data-read-only", isReadOnly ? "" : null);
        const size = this.selected.size;
        const hidden = size - this.shown.filter(({ place }) => this.selected.has(place)).length;
        setText(
            this.selection,
            `${format.count(size)} selected${hidden > 0 ? ` (${format.count(hidden)} no longer shown)` : ""}`,
        );
        setText(this.replaySelected, "Replay selected");
        setText(this.dismissSelected, "Dismiss selected");
        for (const button of [this.replaySelected, this.dismissSelected]) {
            setAttribute(button, "disabled", size === 0);
        }
        const which = addressOf(this.filter) === "#/dlq" ? "all" : "all that match";
        setText(this.replayAll, `Replay ${which}`);
        setText(this.dismissAll, `Dismiss ${which}`);
        this.all.checked = this.shown.length > 0 && hidden === 0 && size === this.shown.length;
        this.all.indeterminate = size > 0 && !this.all.checked;
    }

    select(place, isSelected) {
        if (isSelected && this.selected.size < SELECTED_MAX) {
            this.selected.add(place);
        } else {
            this.selected.delete(place);
        }
        this.showLetters();
    }

    selectAll() {
        this.selected = new Set(this.all.checked ? this.shown.map(({ place }) => place) : []);
        this.showLetters();
    }

    places() {
        return { places: [...this.selected] };
    }

    chosenFilter() {
        const { partition, ...rest } = this.filter;
        const texts = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== ""));
        return partition === "" ? texts : { ...texts, partition: Number(partition) };
    }
}

function causeRow() {
    const link = el("a");
    const written = el("span", { class: "sub" });
    const [message, topic] = [el("td", { class: "message" }), el("td")];
    const numbers = ["letters", "unresolved", "replayed", "dismissed"].map((field) => [
        field,
        el("td", { class: "n", "data-field": field }),
    ]);
    const [first, last] = [moment(format.time), moment(format.time)];
    const example = el("a");
    return {
        element: el(
            "tr",
            null,
            el("th", { scope: "row" }, link, written),
            message,
            topic,
            ...numbers.map(([, cell]) => cell),
            el("td", null, first.element),
            el("td", null, last.element),
            el("td", null, example),
        ),
        update(cause) {
            setText(link, cause.type);
            setAttribute(link, "href", addressOf({ type: cause.type }));
            setText(written, [cause.class, cause.author].filter((text) => text !== null).join(", "));
            setText(message, cause.message ?? "");
            setText(topic, cause.topic ?? format.NONE);
            for (const [field, cell] of numbers) {
                setText(cell, format.count(cause[field]));
            }
            first.update(cause.first);
            last.update(cause.last);
            setText(example, cause.example ?? "");
            setAttribute(example, "href", cause.example === null ? null : letterAddress(cause.example));
        },
    };
}

/** Returns the address of the letter at a place. */
export function letterAddress(place) {
    return `#/dlq/${place.replace(":", "/")}`;
}

function letterRow(place, page) {
    const box = el("input", {
        type: "checkbox",
        "aria-label": `Select ${place}`,
        on: {
            change: (event) => page.select(place, event.target.checked),
        },
    });
    const state = badge();
    const failed = moment(format.time);
    const link = el("a", { href: letterAddress(place) }, place);
    const [type, order, product, price, source, attempts, replays, message] = [
        null,
        "id",
        "cut",
        "n",
        null,
        "n",
        "n",
        "cut",
    ].map((kind) => el("td", { class: kind }));
    return {
        element: el(
            "tr",
            null,
            el("td", null, box),
            el("th", { scope: "row" }, link),
            el("td", null, state.element),
            type,
            order,
            product,
            price,
            el("td", null, failed.element),
            source,
            attempts,
            replays,
            message,
        ),
        update(letter) {
            box.checked = page.selected.has(place);
            state.update(letter.state);
            setText(type, letter.type);
            setText(order, letter.order_id ?? format.NONE);
            setText(product, letter.product ?? format.NONE);
            setText(price, format.price(letter.price));
            failed.update(letter.failed_at);
            setText(source, source_(letter));
            setText(attempts, letter.attempts === null ? "" : format.count(letter.attempts));
            setText(replays, letter.replay_count === 0 ? "" : format.count(letter.replay_count));
            setText(message, letter.message ?? "");
        },
    };
}

function source_({ topic, source_partition: partition, source_offset: offset }) {
    return topic === null ? format.NONE : `${topic} ${partition ?? "?"}:${offset ?? "?"}`;
}
