// The dashboard's page: the latest data of the server, the page that is shown, and the frame around it.
//
// Events go into `store` and are drawn at the next frame, once, however many came. Reading order: live.js brings them,
// overview.js, orders.js, dlq.js and letter.js show them, dom.js is how.

import { get, onUnauthorized, remove } from "./client.js";
import { Dlq } from "./dlq.js";
import { setAttribute, setShown, setText } from "./dom.js";
import * as format from "./format.js";
import { Letter } from "./letter.js";
import { Live } from "./live.js";
import { login } from "./login.js";
import { announce, clearNotice, notice } from "./notices.js";
import { OrdersPage } from "./orders.js";
import { Overview } from "./overview.js";
import { Strip } from "./strip.js";
import { Unknown } from "./unknown.js";

const POINTS_MAX = 600;
const LETTERS_EVERY_MS = 3_000;
// Where only their number is shown, and never more than this share of the time is spent on counting them.
const TALLY_EVERY_MS = 15_000;
const LETTERS_SHARE = 0.05;

/** The latest data of the server, null before the first. `now` is its clock. */
const store = {
    session: null,
    stats: null,
    group: null,
    control: null,
    orders: null,
    points: [],
    letters: null,
    get stream() {
        return live.state;
    },
    get isReadOnly() {
        return this.session?.read_only ?? true;
    },
    clockAhead: 0,
    get now() {
        return Date.now() + this.clockAhead;
    },
};

const $ = (id) => document.getElementById(id);
const main = $("main");
const changed = new Set();
let frame = null;
let shown = null;
let lettersAt = 0;
let lettersTook = 0;
let lettersAsked = 0;
let lettersAnswered = 0;
let lettersSeen = "";
let reachable = "";

const refetch = () => fetchLetters();
const overview = new Overview();
const orders = new OrdersPage();
const dlq = new Dlq({ onChanged: refetch });
const letter = new Letter({ list: dlq, onChanged: refetch });
const unknown = new Unknown();
const signIn = login(() => {
    store.session = { ...store.session, authorized: true };
    begin();
});
const strip = new Strip($("strip"));
const live = new Live({ onSession, onOpen: () => fetchRest(), onEvent: receive, onState });

onUnauthorized(() => {
    if (shown !== signIn) {
        askForToken();
    }
});
globalThis.addEventListener("hashchange", () => route());
document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
});
$("sign-out").addEventListener("click", () => signOut());
document.addEventListener("visibilitychange", () => keepTime());
begin();
keepTime();

/** Shows the page of the address and opens the stream. */
function begin() {
    route();
    live.start();
}

/** Shows the form for the token. */
function askForToken() {
    store.session = { ...store.session, token_required: true, authorized: false, signed_in: false };
    live.stop();
    show(signIn, {});
}

async function signOut() {
    try {
        await remove("api/session");
        askForToken();
    } catch (error) {
        notice(`Not signed out: ${error.message}`, "bad");
    }
}

function isLetIn() {
    return store.session !== null && (store.session.authorized || !store.session.token_required);
}

/** Stores the session; returns whether this client is authorized. */
function onSession(session) {
    if (store.session !== null && store.session.version !== session.version) {
        // The page and its server are of one version.
        location.reload();
        return false;
    }
    store.session = session;
    mark("session");
    if (!isLetIn()) {
        askForToken();
        return false;
    }
    return true;
}

/** Fetches what the stream does not begin with. The rest is not fetched: an answer may be older than the stream. */
async function fetchRest() {
    fetchLetters();
    try {
        const { points } = await get("api/history");
        const known = timed(points);
        const last = known.at(-1)?.ms ?? -Infinity;
        keep([...known, ...store.points.filter(({ ms }) => ms > last)]);
    } catch {
        // The next time the stream opens.
    }
}

/** Stores an event. */
function receive(kind, data) {
    if (kind === "point") {
        keep([...store.points, ...timed([data])]);
        return;
    }
    store[kind] = data;
    if (kind === "stats") {
        if (data.connections.broker.state === "connected") {
            store.clockAhead = Date.parse(data.at) - Date.now();
        }
        tellConnections(data.connections);
    }
    mark(kind);
}

function keep(points) {
    store.points = points.slice(-POINTS_MAX);
    mark("points");
}

function timed(points) {
    return points.map((point) => ({ ...point, ms: Date.parse(point.at) }));
}

function mark(kind) {
    changed.add(kind);
    frame ??= requestAnimationFrame(draw);
}

function draw() {
    frame = null;
    const now = new Set(changed);
    changed.clear();
    strip.update(store, live);
    setShown($("read-only"), isLetIn() && store.isReadOnly);
    setShown($("sign-out"), store.session?.signed_in ?? false);
    if (store.stats !== null) {
        setText($("topic"), store.stats.topic);
        setText($("group"), store.stats.group);
    }
    shown.update(store, now);
    title();
}

function title() {
    const { stats, control } = store;
    const words = shown === null || shown === overview ? "" : `${shown.title} — `;
    if (stats === null) {
        document.title = `${words}orders`;
        return;
    }
    const troubled = Object.values(stats.connections).some(({ state }) => state === "unreachable" || state === "failing");
    const mark_ = live.state !== "live" ? "○" : troubled ? "▲" : control?.processor.desired === "paused" ? "■" : "●";
    const text = `${mark_} ${words}${format.count(stats.orders)} orders — ${stats.topic}`;
    if (document.title !== text) {
        document.title = text;
    }
}

// The pages

function route() {
    if (store.session !== null && !isLetIn()) {
        return;
    }
    const [path, search = ""] = location.hash.replace(/^#/, "").split("?");
    const place = /^\/dlq\/(\d+)\/(\d+)$/.exec(path);
    if (place !== null) {
        show(letter, { place: `${place[1]}:${place[2]}` });
    } else {
        const pages = { "": overview, "/": overview, "/orders": orders, "/dlq": dlq };
        show(pages[path] ?? unknown, { query: new URLSearchParams(search) });
    }
}

function show(page, place) {
    const isFirst = shown === null;
    const isOther = page !== shown;
    shown = page;
    page.enter?.(place);
    if (isOther) {
        main.replaceChildren(page.element);
    }
    for (const link of document.querySelectorAll("nav a")) {
        const here =
            link.getAttribute("href") ===
            (page === letter ? "#/dlq" : `#${location.hash.slice(1).split("?")[0] || "/"}`);
        setAttribute(link, "aria-current", here ? "page" : null);
    }
    for (const kind of ["session", "stats", "group", "control", "orders", "points"]) {
        changed.add(kind);
    }
    draw();
    if (page.fetch !== undefined && store.session !== null) {
        fetchLetters();
    }
    if (page === signIn) {
        signIn.focus();
    } else if (isOther && !isFirst) {
        clearNotice();
        globalThis.scrollTo(0, 0);
        page.element.querySelector("h1").focus({ preventScroll: true });
    }
}

// Dead letters: they are fetched, and no event brings them.

/** Fetches them; `lettersAsked` tells of the latest time, and an answer to an earlier one is not news any more. */
async function fetchLetters() {
    const startedAt = Date.now();
    lettersAt = startedAt;
    lettersSeen = lettersMark();
    lettersAsked += 1;
    const asked = lettersAsked;
    const page = shown;
    const [summary] = await Promise.all([
        page === dlq ? dlq.fetch() : get("api/dlq", { limit: 1 }).catch(() => null),
        page === letter ? letter.fetch() : null,
    ]);
    if (asked !== lettersAsked) {
        return;
    }
    lettersTook = Date.now() - startedAt;
    lettersAnswered = asked;
    if (summary !== null) {
        store.letters = summary;
        setText($("unresolved"), format.count(summary.unresolved));
        setAttribute($("unresolved"), "aria-label", `${format.count(summary.unresolved)} unresolved`);
        setShown($("unresolved"), summary.unresolved > 0);
        mark("letters");
    }
}

function lettersMark() {
    return `${store.stats?.dead_letters} ${store.stats?.replayed}`;
}

function refreshLetters() {
    const every = Math.max(
        shown === dlq || shown === letter ? LETTERS_EVERY_MS : TALLY_EVERY_MS,
        lettersTook / LETTERS_SHARE,
    );
    const waited = Date.now() - lettersAt;
    const isIdle = lettersAnswered === lettersAsked;
    if (live.state === "live" && isIdle && waited > every && (lettersMark() !== lettersSeen || waited > 10 * every)) {
        fetchLetters();
    }
}

// The frame

function onState() {
    const lamp = $("stream");
    setAttribute(lamp, "data-state", live.state);
    setAttribute(document.body, "data-stream", live.state);
    const words = {
        reconnecting: "Connection lost, connecting again.",
        stale: "The server does not send any more.",
        live: "Connected.",
    };
    if (words[live.state] !== undefined && !(live.state === "live" && store.stats === null)) {
        announce(words[live.state]);
    }
    streamWords();
    title();
    mark("stream");
}

function streamWords() {
    const since = format.time(live.since + store.clockAhead, store.now);
    const retry =
        live.retryAt === null
            ? ""
            : `, next try in ${format.seconds(Math.ceil(Math.max(0, live.retryAt - Date.now()) / 1000))}`;
    const words = {
        connecting: "connecting",
        live: "live",
        stale: `stale: silent since ${since}`,
        reconnecting: `reconnecting since ${since}${retry}`,
        hidden: "paused while hidden",
        closed: "signed out",
    };
    setText($("stream").lastElementChild, words[live.state]);
}

function tellConnections({ broker, registry }) {
    const now = [
        ["Broker", broker],
        ["Registry", registry],
    ]
        .map(([name, { state }]) => `${name} ${state}.`)
        .join(" ");
    if (reachable !== "" && reachable !== now) {
        announce(now);
    }
    reachable = now;
}

/** Runs the clock while the tab is visible. */
function keepTime() {
    clearInterval(keepTime.timer);
    if (!document.hidden) {
        keepTime.timer = setInterval(tick, 1_000);
        tick();
    }
}

function tick() {
    live.tick(Date.now());
    setText($("clock"), format.time(store.now, store.now));
    streamWords();
    refreshLetters();
    mark("clock");
}
