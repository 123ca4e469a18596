// The form for the token.

import { post } from "./client.js";
import { el, setAttribute, setText } from "./dom.js";

/** Returns a page that asks for the token and calls `onDone` once it was right. */
export function login(onDone) {
    const token = el("input", {
        id: "token",
        name: "token",
        type: "password",
        required: true,
        autocomplete: "current-password",
        "aria-describedby": "token-help",
    });
    const button = el("button", { type: "submit", class: "primary" }, "Sign in");
    const failure = el("p", { class: "failure", role: "alert" });
    const submit = async (event) => {
        event.preventDefault();
        setAttribute(button, "disabled", true);
        setText(failure, "");
        try {
            await post("api/session", { token: token.value });
            onDone();
        } catch (error) {
            setText(failure, error.status === 401 ? `The token was not accepted: ${error.message}` : error.message);
            token.select();
        } finally {
            setAttribute(button, "disabled", false);
        }
    };
    const form = el(
        "form",
        { class: "login", on: { submit } },
        el("h1", { tabindex: "-1" }, "Sign in"),
        el("p", { id: "token-help" }, "This dashboard requires the token of its setting DASHBOARD_TOKEN, or of DASHBOARD_READ_TOKEN to read only."),
        el("p", { class: "field" }, el("label", { for: "token" }, "Token"), token),
        failure,
        el("p", { class: "buttons" }, button),
    );
    return { title: "Sign in", element: el("div", { class: "sheet" }, form), focus: () => token.focus(), update() {} };
}
