// One chart: lines over time, drawn as SVG in pixels. All its charts' elements are made once; drawing changes attributes.

import { setAttribute, setText, svg } from "./dom.js";

/** Room for the labels of the y axis, in pixels. */
export const LEFT = 58;
/** Room for the dots at the newest end, in pixels. */
export const RIGHT = 10;
const TOP = 8;
const BOTTOM = 6;
const TIME_LABELS = 18;
const Y_TICKS_MAX = 8;
const X_TICKS_MAX = 12;
// Points of a line that are further apart have a gap between them.
const GAP_MS = 3_500;
const TIME_STEPS_S = [5, 10, 15, 30, 60, 120, 300];

/**
 * Lines over one y axis.
 *
 * A series is `{ key, kind }`: the field of a point, and the class of its line. `fromZero` is whether the axis begins at
 * zero; `label` turns a tick into text; `hasTimes` is whether the times stand below.
 */
export class Chart {
    constructor({ series, fromZero, height, label, hasTimes }) {
        Object.assign(this, { series, fromZero, label, hasTimes });
        this.height = height + (hasTimes ? TIME_LABELS : 0);
        this.bottom = height - BOTTOM;
        this.grid = Array.from({ length: Y_TICKS_MAX }, () => ({
            line: svg("line", { class: "grid" }),
            text: svg("text", { class: "tick", "text-anchor": "end", x: LEFT - 8 }),
        }));
        this.times = Array.from({ length: X_TICKS_MAX }, () => ({
            line: svg("line", { class: "grid" }),
            text: svg("text", { class: "tick", "text-anchor": "middle", y: this.height - 4 }),
        }));
        this.lines = series.map(({ kind }) => svg("path", { class: `line ${kind}` }));
        this.dots = series.map(({ kind }) => svg("circle", { class: `dot ${kind}`, r: 3 }));
        this.cursor = svg("line", { class: "cursor", y1: 0, y2: this.bottom });
        const ticks = [...this.grid, ...this.times];
        this.element = svg(
            "svg",
            { "aria-hidden": "true", height: this.height, class: "chart" },
            ...ticks.map((tick) => tick.line),
            ...ticks.map((tick) => tick.text),
            ...this.lines,
            this.cursor,
            ...this.dots,
        );
    }

    /** Draws `points`, each with its time in `ms`, between two times, with the cursor at the point `at`. */
    draw(points, { from, to, width, at }) {
        setAttribute(this.element, "width", width);
        const plot = width - LEFT - RIGHT;
        const x = (ms) => LEFT + ((ms - from) / (to - from)) * plot;
        const [low, high] = this.range(points);
        const y = (value) => this.bottom - ((value - low) / (high - low)) * (this.bottom - TOP);
        this.drawGrid(low, high, y, width);
        this.drawTimes(from, to, x, plot);
        this.series.forEach(({ key }, index) => {
            setAttribute(this.lines[index], "d", path(points, key, x, y));
            const value = at?.[key] ?? null;
            const dot = this.dots[index];
            setAttribute(dot, "visibility", value === null ? "hidden" : null);
            if (value !== null) {
                setAttribute(dot, "cx", x(at.ms).toFixed(1));
                setAttribute(dot, "cy", y(value).toFixed(1));
            }
        });
        setAttribute(this.cursor, "visibility", at === null ? "hidden" : null);
        if (at !== null) {
            setAttribute(this.cursor, "x1", x(at.ms).toFixed(1));
            setAttribute(this.cursor, "x2", x(at.ms).toFixed(1));
        }
    }

    range(points) {
        let low = Infinity;
        let high = -Infinity;
        for (const { key } of this.series) {
            for (const point of points) {
                const value = point[key];
                if (value !== null) {
                    low = Math.min(low, value);
                    high = Math.max(high, value);
                }
            }
        }
        if (low > high) {
            return [0, 1];
        }
        low = this.fromZero ? 0 : low;
        if (high - low < 1e-9) {
            return this.fromZero ? [0, Math.max(1, high * 1.1)] : [low - 1, high + 1];
        }
        const margin = (high - low) * 0.08;
        return [this.fromZero ? 0 : low - margin, high + margin];
    }

    drawGrid(low, high, y, width) {
        const step = niceStep((high - low) / Math.max(2, this.bottom / 30));
        const first = Math.ceil(low / step);
        this.grid.forEach(({ line, text }, index) => {
            const value = (first + index) * step;
            const shown = value <= high;
            setAttribute(line, "visibility", shown ? null : "hidden");
            setAttribute(text, "visibility", shown ? null : "hidden");
            if (shown) {
                const at = Math.round(y(value)) + 0.5;
                setAttribute(line, "x1", LEFT);
                setAttribute(line, "x2", width - RIGHT);
                setAttribute(line, "y1", at);
                setAttribute(line, "y2", at);
                setAttribute(text, "y", at + 3.5);
                setText(text, this.label(value, step));
            }
        });
    }

    drawTimes(from, to, x, plot) {
        const most = Math.min(X_TICKS_MAX - 1, Math.max(2, Math.floor(plot / 80)));
        const span = (to - from) / 1000;
        const step = (TIME_STEPS_S.find((seconds) => span / seconds <= most) ?? 300) * 1000;
        const first = Math.ceil(from / step) * step;
        this.times.forEach(({ line, text }, index) => {
            const ms = first + index * step;
            const shown = ms <= to;
            setAttribute(line, "visibility", shown ? null : "hidden");
            setAttribute(text, "visibility", shown && this.hasTimes ? null : "hidden");
            if (shown) {
                const at = Math.round(x(ms)) + 0.5;
                setAttribute(line, "x1", at);
                setAttribute(line, "x2", at);
                setAttribute(line, "y1", TOP);
                setAttribute(line, "y2", this.bottom);
                setAttribute(text, "x", Math.min(at, LEFT + plot - 20));
                setText(text, new Date(ms).toISOString().slice(11, step < 60_000 ? 19 : 16));
            }
        });
    }
}

function path(points, key, x, y) {
    let text = "";
    let last = -Infinity;
    for (const point of points) {
        const value = point[key];
        if (value !== null) {
            text += `${point.ms - last > GAP_MS ? "M" : "L"}${x(point.ms).toFixed(1)} ${y(value).toFixed(1)}`;
            last = point.ms;
        }
    }
    return text;
}

function niceStep(least) {
    const power = 10 ** Math.floor(Math.log10(least));
    return power * [1, 2, 5, 10].find((factor) => factor * power >= least);
}
