// The charts of the overview over one axis of time, with one cursor: moved by the pointer, or by its slider.

import { Chart, LEFT, RIGHT } from "./chart.js";
import { Rows, el, setAttribute, setShown, setText } from "./dom.js";
import * as format from "./format.js";

const SPAN_MIN_S = 60;
const TABLE_ROWS = 20;
const TABLE_STEP_S = 30;
// Half the width of the slider's thumb in style.css: the middle of the thumb is what stands under the cursor.
const THUMB_HALF_PX = 7;

const HINT = "Point at the charts, or move the slider, to read a moment.";
const COMPACT = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

const PANES = [
    {
        name: "Average price",
        series: [
            { key: "average", kind: "first", name: "of all orders", format: format.average },
            { key: "recent_average", kind: "second", name: "of the last 100", format: format.average },
        ],
        fromZero: false,
        height: 170,
        label: (value, step) => value.toFixed(step < 0.1 ? 2 : step < 1 ? 1 : 0),
    },
    {
        name: "Records per second",
        series: [
            { key: "produced_per_second", kind: "first", name: "produced", format: format.rate },
            { key: "consumed_per_second", kind: "second", name: "consumed", format: format.rate },
        ],
        fromZero: true,
        height: 104,
        label: (value) => COMPACT.format(value),
    },
    {
        name: "Lag, records",
        series: [{ key: "lag", kind: "first", name: "not yet processed", format: format.count }],
        fromZero: true,
        height: 84,
        label: (value) => COMPACT.format(value),
        hasTimes: true,
    },
];

/** The charts, their cursor, and the same as a table. */
export class Trends {
    constructor() {
        this.points = [];
        this.span = SPAN_MIN_S;
        this.cursorMs = null;
        this.width = 0;
        this.panes = PANES.map((pane) => {
            const values = pane.series.map(() => el("data"));
            const legend = pane.series.map(({ kind, name }, index) =>
                el(
                    "span",
                    { class: "key" },
                    el("span", { class: `swatch ${kind}`, "aria-hidden": "true" }),
                    `${name} `,
                    values[index],
                ),
            );
            const chart = new Chart(pane);
            const element = el(
                "div",
                { class: "pane" },
                el("p", { class: "legend" }, el("b", null, pane.name), ...legend),
                chart.element,
            );
            return { ...pane, values, chart, element };
        });
        this.slider = el("input", {
            type: "range",
            class: "time",
            max: "0",
            step: "1",
            value: "0",
            "aria-label": "Time that the charts are read at",
            on: { input: () => this.slid(), focus: () => this.tellSlider() },
        });
        this.readAt = el("output", { class: "read-at" });
        this.plots = el(
            "div",
            {
                class: "plots",
                on: {
                    pointermove: (event) => this.pointed(event),
                    pointerdown: (event) => this.pointed(event),
                    pointerleave: () => this.moveTo(null),
                },
            },
            ...this.panes.map((pane) => pane.element),
        );
        this.makeTable();
        this.element = el(
            "div",
            { class: "trends" },
            this.plots,
            el("div", { class: "scrub" }, this.slider, this.readAt),
            this.table,
        );
        new ResizeObserver(([entry]) => {
            this.width = Math.floor(entry.contentRect.width);
            this.draw();
        }).observe(this.plots);
    }

    makeTable() {
        const columns = ["time, UTC", "average", "last 100", "produced/s", "consumed/s", "lag"];
        const body = el("tbody");
        this.rows = new Rows(body, () => {
            const cells = columns.map((_, index) =>
                el(index === 0 ? "th" : "td", index === 0 ? { scope: "row" } : { class: "n" }),
            );
            return {
                element: el("tr", null, ...cells),
                update(point) {
                    const { at, average, recent_average, produced_per_second, consumed_per_second, lag } = point;
                    [
                        format.time(at, point.ms),
                        format.average(average),
                        format.average(recent_average),
                        format.rate(produced_per_second),
                        format.rate(consumed_per_second),
                        format.count(lag),
                    ].forEach((text, index) => setText(cells[index], text));
                },
            };
        });
        const grid = el(
            "table",
            { "aria-label": "The charts as a table" },
            el(
                "thead",
                null,
                el(
                    "tr",
                    null,
                    ...columns.map((name, index) => el("th", { scope: "col", class: index === 0 ? null : "n" }, name)),
                ),
            ),
            body,
        );
        const box = el(
            "div",
            { class: "scroll", role: "group", "aria-label": "The charts as a table", tabindex: "0" },
            grid,
        );
        this.table = el(
            "details",
            { class: "as-table", on: { toggle: () => this.drawTable() } },
            el("summary", null, "The charts as a table"),
            box,
        );
    }

    /** Shows points as they came from the API, the oldest first, each with its time in `ms`. */
    show(points) {
        this.points = points;
        this.draw();
        this.drawTable();
    }

    draw() {
        const last = this.points.at(-1);
        if (this.width === 0 || last === undefined) {
            return;
        }
        const seen = (last.ms - this.points[0].ms) / 1000;
        this.span = Math.max(SPAN_MIN_S, Math.ceil(seen));
        const view = { from: last.ms - this.span * 1000, to: last.ms, width: this.width, at: this.pointAtCursor() };
        for (const pane of this.panes) {
            pane.chart.draw(this.points, view);
            pane.series.forEach(({ key, format: words }, index) =>
                setText(pane.values[index], this.cursorMs === null ? "" : words(view.at[key])),
            );
        }
        setAttribute(this.slider, "min", -this.span);
        const ago = (view.at.ms - last.ms) / 1000;
        if (Number(this.slider.value) !== Math.round(ago)) {
            this.slider.value = String(Math.round(ago));
        }
        setText(this.readAt, this.cursorMs === null ? HINT : `read at ${format.time(view.at.at, last.ms)}`);
        this.slider.style.marginLeft = `${LEFT - THUMB_HALF_PX}px`;
        this.slider.style.width = `${this.width - LEFT - RIGHT + 2 * THUMB_HALF_PX}px`;
    }

    drawTable() {
        setShown(this.table, this.points.length > 0);
        if (!this.table.open) {
            return;
        }
        const every = this.points.filter(
            (point, index) => index === this.points.length - 1 || Math.floor(point.ms / 1000) % TABLE_STEP_S === 0,
        );
        this.rows.show(every.slice(-TABLE_ROWS).reverse(), (_, index) => index);
    }

    pointAtCursor() {
        if (this.cursorMs === null) {
            return this.points.at(-1);
        }
        let nearest = this.points[0];
        for (const point of this.points) {
            if (Math.abs(point.ms - this.cursorMs) < Math.abs(nearest.ms - this.cursorMs)) {
                nearest = point;
            }
        }
        return nearest;
    }

    moveTo(ms) {
        this.cursorMs = ms;
        this.draw();
    }

    pointed(event) {
        const last = this.points.at(-1);
        if (last === undefined) {
            return;
        }
        const plot = this.width - LEFT - RIGHT;
        const share = (event.clientX - this.plots.getBoundingClientRect().left - LEFT) / plot;
        this.moveTo(last.ms - (1 - Math.min(1, Math.max(0, share))) * this.span * 1000);
    }

    slid() {
        const ago = Number(this.slider.value);
        const last = this.points.at(-1);
        if (last !== undefined) {
            this.moveTo(ago === 0 ? null : last.ms + ago * 1000);
            this.tellSlider();
        }
    }

    /** Describes the values under the cursor, only after it was moved: screen readers would read every second. */
    tellSlider() {
        const point = this.pointAtCursor();
        if (point === undefined) {
            return;
        }
        const words = this.panes.flatMap((pane) =>
            pane.series.map(({ key, name, format: wordsOf }) => `${pane.name} ${name} ${wordsOf(point[key])}`),
        );
        setAttribute(this.slider, "aria-valuetext", `${format.time(point.at, point.ms)}: ${words.join("; ")}`);
    }
}
