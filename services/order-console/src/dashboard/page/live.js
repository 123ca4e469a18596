// The stream of events: opened, watched, opened again. Nothing runs while the tab is hidden.
//
//            first event                     5 s of silence
// connecting ───────────► live ◄──────────────────────────► stale
//     ▲                    │ error                            │ 15 s of silence
//     │ delay over         ▼                                  │
//     └───────────── reconnecting ◄───────────────────────────┘
//
// A hidden tab closes the stream (`hidden`) and a visible one connects again. A server that wants a token ends it
// (`closed`) until `start` is called again. A server that ends a stream for its age says so before (`renew`), and the state
// stays as it is.

import { get } from "./client.js";

const KINDS = ["stats", "orders", "group", "control", "point"];
const STALE_AFTER_MS = 5_000;
const GIVEN_UP_AFTER_MS = 15_000;
const DELAY_FIRST_MS = 500;
const DELAY_MAX_MS = 15_000;

/** The events of the server, while the tab is visible. */
export class Live {
    /**
     * `onSession(session)` gets the session before each attempt and returns whether to connect,
     * `onOpen()` that events begin, with all that there is but the history, `onEvent(kind, data)` each event, and
     * `onState()` that `state`, `since` or `retryAt` (ms since 1970) have changed.
     */
    constructor({ onSession, onOpen, onEvent, onState }) {
        Object.assign(this, { onSession, onOpen, onEvent, onState });
        this.state = "closed";
        this.since = Date.now();
        this.retryAt = null;
        this.heardAt = 0;
        this.failures = 0;
        this.attempt = 0;
        this.source = null;
        this.timer = null;
        document.addEventListener("visibilitychange", () => this.visibilityChanged());
        globalThis.addEventListener("online", () => this.retryNow());
    }

    /** Opens the stream, or opens it again. */
    start() {
        this.close();
        this.failures = 0;
        if (document.hidden) {
            this.turn("hidden");
        } else {
            this.turn("connecting");
            this.connect();
        }
    }

    /** Ends the stream. */
    stop() {
        this.close();
        this.turn("closed");
    }

    /** Ends the wait for the next attempt. */
    retryNow() {
        if (this.state === "reconnecting" && this.timer !== null) {
            this.close();
            this.connect();
        }
    }

    /** Checks once a second whether the stream is silent. */
    tick(now) {
        if (this.state !== "live" && this.state !== "stale") {
            return;
        }
        const silence = now - this.heardAt;
        if (silence > GIVEN_UP_AFTER_MS) {
            this.retryLater();
        } else if (silence > STALE_AFTER_MS) {
            this.turn("stale", this.heardAt);
        }
    }

    visibilityChanged() {
        if (this.state === "closed") {
            return;
        }
        if (document.hidden) {
            this.close();
            this.turn("hidden");
        } else {
            this.start();
        }
    }

    async connect() {
        const attempt = this.attempt;
        try {
            const session = await get("api/session");
            if (attempt !== this.attempt || !this.onSession(session)) {
                return;
            }
        } catch {
            if (attempt === this.attempt) {
                this.retryLater();
            }
            return;
        }
        const source = new EventSource("api/events");
        this.source = source;
        this.heardAt = Date.now();
        source.onopen = () => this.onOpen();
        source.onerror = () => this.retryLater();
        for (const kind of KINDS) {
            source.addEventListener(kind, (event) => {
                this.heard();
                this.onEvent(kind, JSON.parse(event.data));
            });
        }
        source.addEventListener("renew", () => this.renew());
        // A server that accepts the connection and sends nothing counts as lost, too.
        this.timer = setTimeout(() => this.retryLater(), GIVEN_UP_AFTER_MS);
    }

    /** Opens the next stream when the server asks for it: no event was lost. */
    renew() {
        this.close();
        this.connect();
    }

    heard() {
        this.heardAt = Date.now();
        this.failures = 0;
        clearTimeout(this.timer);
        this.timer = null;
        this.turn("live");
    }

    retryLater() {
        const lostAt = this.state === "stale" ? this.since : Date.now();
        this.close();
        const delay = Math.min(DELAY_MAX_MS, DELAY_FIRST_MS * 2 ** this.failures) * (0.8 + 0.4 * Math.random());
        this.failures = Math.min(this.failures + 1, 16);
        this.retryAt = Date.now() + delay;
        this.timer = setTimeout(() => {
            this.timer = null;
            this.retryAt = null;
            this.connect();
        }, delay);
        this.turn("reconnecting", lostAt);
    }

    close() {
        this.attempt += 1;
        clearTimeout(this.timer);
        this.timer = null;
        this.retryAt = null;
        this.source?.close();
        this.source = null;
    }

    turn(state, since = Date.now()) {
        if (this.state !== state) {
            this.state = state;
            this.since = since;
            this.onState();
        }
    }
}
