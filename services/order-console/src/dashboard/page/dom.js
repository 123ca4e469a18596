// Makes and changes elements. What comes from Kafka only ever becomes text nodes and attribute values.

const SVG = "http://www.w3.org/2000/svg";

/** Returns a new HTML element; an attribute that is null, undefined or false is left out, `on` holds event listeners. */
export function el(tag, attributes, ...children) {
    return furnish(document.createElement(tag), attributes, children);
}

/** Returns a new SVG element. */
export function svg(tag, attributes, ...children) {
    return furnish(document.createElementNS(SVG, tag), attributes, children);
}

function furnish(element, attributes, children) {
    const { on, ...plain } = attributes ?? {};
    for (const [name, value] of Object.entries(plain)) {
        setAttribute(element, name, value);
    }
    for (const [type, listener] of Object.entries(on ?? {})) {
        element.addEventListener(type, listener);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
}

/** Sets the text of an element unless it is the same. */
export function setText(element, text) {
    const node = element.firstChild;
    if (node === null) {
        element.append(text);
    } else if (node.nodeValue !== text || node.nextSibling !== null) {
        if (node.nodeType === Node.TEXT_NODE && node.nextSibling === null) {
            node.nodeValue = text;
        } else {
            element.replaceChildren(text);
        }
    }
}

/** Sets an attribute that differs; null, undefined and false remove it. */
export function setAttribute(element, name, value) {
    if (value === null || value === undefined || value === false) {
        if (element.hasAttribute(name)) {
            element.removeAttribute(name);
        }
        return;
    }
    const text = value === true ? "" : String(value);
    if (element.getAttribute(name) !== text) {
        element.setAttribute(name, text);
    }
}

/** Shows or hides an element. */
export function setShown(element, shown) {
    if (element.hidden === shown) {
        element.hidden = !shown;
    }
}

/**
 * Rows that are kept by key: a row is made once, updated with every item of its key, and removed with the last one.
 *
 * `make(key)` returns `{ element, update(item) }`. The first `fixed` children of the parent are none of the rows.
 */
export class Rows {
    constructor(parent, make, fixed = 0) {
        this.parent = parent;
        this.make = make;
        this.fixed = fixed;
        this.rows = new Map();
    }

    /** Shows `items`, in their order. */
    show(items, keyOf) {
        const keys = items.map(keyOf);
        // First: a row that stays is not moved, and keeps the focus, because others go.
        const kept = new Set(keys);
        for (const [key, { element }] of [...this.rows]) {
            if (!kept.has(key)) {
                element.remove();
                this.rows.delete(key);
            }
        }
        items.forEach((item, index) => {
            const key = keys[index];
            let row = this.rows.get(key);
            if (row === undefined) {
                row = this.make(key);
                this.rows.set(key, row);
            }
            row.update(item);
            const there = this.parent.children[this.fixed + index] ?? null;
            if (there !== row.element) {
                this.parent.insertBefore(row.element, there);
            }
        });
    }
}

/** A table in a box that scrolls sideways where the screen is narrow; columns are `[heading, class]`. */
export function table(label, columns, ...bodies) {
    const head = el("tr", null, ...columns.map(([name, kind]) => el("th", { scope: "col", class: kind }, name)));
    const parts = bodies.length === 0 ? [el("tbody")] : bodies;
    const grid = el("table", { "aria-label": label }, el("thead", null, head), ...parts);
    return el("div", { class: "scroll", role: "group", "aria-label": label, tabindex: "0" }, grid);
}

/** A moment as an element: the short form in sight, the whole one at the pointer. */
export function moment(format) {
    const element = el("time");
    return {
        element,
        update(time) {
            setText(element, time === null ? "—" : format(time));
            setAttribute(element, "datetime", time);
            setAttribute(element, "title", time);
        },
    };
}

/** A state as a shape and a word, so that it does not depend on colours. */
export function badge() {
    const shape = el("span", { "aria-hidden": "true", class: "shape" });
    const word = el("span");
    const element = el("span", { class: "badge" }, shape, word);
    return {
        element,
        update(state, text = state) {
            setAttribute(element, "data-state", state);
            setText(shape, SHAPES[state] ?? "▪");
            setText(word, text);
        },
    };
}

const SHAPES = {
    processed: "●",
    retrying: "◐",
    waiting: "○",
    "dead-lettered": "▲",
    replayed: "◆",
    unresolved: "▲",
    dismissed: "□",
    running: "▶",
    paused: "■",
    unknown: "?",
};
