// Recent orders: a list of rows whose text changes; the operator can hold it still to read it.

import { Rows, badge, el, moment, setAttribute, setShown, setText, table } from "./dom.js";
import * as format from "./format.js";

const COLUMNS = [
    ["time", null],
    ["state", null],
    ["attempts", "n"],
    ["order", "id"],
    ["product", null],
    ["price", "n"],
    ["partition:offset", null],
    ["failure", null],
    ["other key", "id"],
];
const REPLAYS = /\.replay$/;

/** The table of recent orders; at most `rowsMax` of them. */
export class Orders {
    constructor(rowsMax) {
        this.rowsMax = rowsMax;
        this.latest = [];
        this.isHeld = false;
        const body = el("tbody");
        this.rows = new Rows(body, makeRow);
        this.empty = el("p", { class: "empty" }, "No orders yet.");
        this.table = table("Recent orders", COLUMNS, body);
        this.hold = el("button", { type: "button", "aria-pressed": "false", on: { click: () => this.turn() } }, "Hold");
        this.element = el("div", { class: "orders" }, this.table, this.empty);
    }

    /** Shows orders, the newest first. */
    update(orders) {
        this.latest = orders;
        if (!this.isHeld) {
            this.rows.show(orders.slice(0, this.rowsMax), (_, index) => index);
            setShown(this.empty, orders.length === 0);
            setShown(this.table, orders.length > 0);
        }
    }

    turn() {
        this.isHeld = !this.isHeld;
        setAttribute(this.hold, "aria-pressed", String(this.isHeld));
        setAttribute(this.element, "data-held", this.isHeld ? "" : null);
        this.update(this.latest);
    }
}

function makeRow() {
    const time = moment(format.timeExact);
    const state = badge();
    const [attempts, order, product, price, place, failure, key] = COLUMNS.slice(2).map(([name, kind]) =>
        el("td", { class: kind, "data-field": name }),
    );
    return {
        element: el(
            "tr",
            null,
            el("td", null, time.element),
            el("td", null, state.element),
            attempts,
            order,
            product,
            price,
            place,
            failure,
            key,
        ),
        update(item) {
            time.update(item.produced_at);
            state.update(item.status);
            setText(order, item.order_id ?? format.NONE);
            setText(product, item.product ?? format.NONE);
            setText(price, format.price(item.price));
            setText(key, item.key === null || item.key === item.order_id ? "" : item.key);
            setText(place, `${item.partition}:${item.offset}${REPLAYS.test(item.topic) ? " replayed" : ""}`);
            setAttribute(place, "title", item.topic);
            setText(attempts, item.attempts === null ? "" : format.count(item.attempts));
            setText(failure, [item.error_type, item.note].filter((text) => text !== null).join(": "));
        },
    };
}

/** The page of recent orders alone. */
export class OrdersPage {
    constructor() {
        this.title = "Orders";
        this.orders = new Orders(100);
        this.element = el(
            "div",
            { class: "sheet" },
            el(
                "section",
                { "aria-labelledby": "orders-heading" },
                el(
                    "div",
                    { class: "head" },
                    el("h1", { id: "orders-heading", tabindex: "-1" }, "Recent orders"),
                    this.orders.hold,
                ),
                this.orders.element,
            ),
        );
    }

    update({ orders }) {
        if (orders !== null) {
            this.orders.update(orders.orders);
        }
    }
}
