// Calls the dashboard's HTTP API.

const ANSWER_DEADLINE_MS = 15_000;
// The dead-letter topic is read to its end for a list.
const LIST_DEADLINE_MS = 120_000;
// A replay sends its letters before it answers.
const CHANGE_DEADLINE_MS = 600_000;

/** A failed request: its message is a sentence for people, `status` is 0 where the server could not be reached. */
export class ApiError extends Error {
    constructor(status, message) {
        super(message);
        this.status = status;
    }
}

let whenUnauthorized = () => {};

/** Calls `listener` whenever the server requires a token. */
export function onUnauthorized(listener) {
    whenUnauthorized = listener;
}

/** Returns what is at `path`; the empty ones of `query` are left out. */
export async function get(path, query = {}) {
    const filled = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
    const search = new URLSearchParams(filled).toString();
    const deadlineMs = path.startsWith("api/dlq") ? LIST_DEADLINE_MS : ANSWER_DEADLINE_MS;
    return call(search === "" ? path : `${path}?${search}`, deadlineMs, { cache: "no-store" });
}

/** Sends `body` to `path` and returns the answer, or null where it is empty. */
export async function post(path, body) {
    return call(path, CHANGE_DEADLINE_MS, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
    });
}

/** Ends what is at `path`. */
export async function remove(path) {
    return call(path, ANSWER_DEADLINE_MS, { method: "DELETE" });
}

async function call(path, deadlineMs, options) {
    let response;
    try {
        response = await fetch(path, { ...options, signal: AbortSignal.timeout(deadlineMs) });
    } catch (error) {
        const why = error.name === "TimeoutError" ? `no answer within ${deadlineMs / 1000} s` : "it cannot be reached";
        throw new ApiError(0, `The dashboard's server does not answer: ${why}.`);
    }
    if (response.ok) {
        return response.status === 204 ? null : response.json();
    }
    const words = await response.json().then(
        (body) => body.error,
        () => null,
    );
    if (response.status === 401 && path !== "api/session") {
        whenUnauthorized();
    }
    throw new ApiError(response.status, words ?? `The server answered with status ${response.status}.`);
}
