// Notices: in sight and to screen readers, or to screen readers alone.

import { el } from "./dom.js";

const place = document.getElementById("notice");
const announcer = document.getElementById("announcer");

/** Shows the result of an action until it is closed or replaced; `kind` is "good" or "bad". */
export function notice(text, kind) {
    place.replaceChildren(
        el(
            "p",
            { class: `said ${kind}` },
            el("span", null, text),
            el("button", { type: "button", class: "plain", on: { click: () => place.replaceChildren() } }, "Close"),
        ),
    );
}

/** Removes what `notice` shows. */
export function clearNotice() {
    place.replaceChildren();
}

/** Announces a visible change to screen readers. */
export function announce(text) {
    announcer.textContent = text;
}
