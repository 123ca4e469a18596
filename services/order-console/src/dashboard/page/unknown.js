// What is shown where the address names no page.

import { el } from "./dom.js";

/** A page that says so. */
export class Unknown {
    constructor() {
        this.title = "No such page";
        this.element = el(
            "div",
            { class: "sheet" },
            el(
                "section",
                null,
                el("h1", { tabindex: "-1" }, "No such page"),
                el("p", null, el("a", { href: "#/" }, "To the overview")),
            ),
        );
    }

    update() {}
}
