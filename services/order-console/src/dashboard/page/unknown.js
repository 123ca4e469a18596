// The page for unknown addresses.

import { el } from "./dom.js";

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
