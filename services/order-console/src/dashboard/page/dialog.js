// Asks before letters are replayed or dismissed.

import { el, setAttribute, setText } from "./dom.js";

const dialog = document.getElementById("dialog");

/**
 * Asks, and runs `act(reason)` after a yes; the dialog stays until that is done, and shows errors.
 *
 * `question` is the heading, `details` are sentences below it, `verb` is what the button says, null where there is
 * nothing to do, and `asksReason` is whether a reason has to be given. Returns what `act` returned, or null.
 */
export function ask({ question, details, verb, asksReason, act }) {
    return new Promise((resolve) => {
        let result = null;
        const failure = el("p", { class: "failure", role: "alert" });
        const reason = el("input", {
            type: "text",
            id: "reason",
            name: "reason",
            required: true,
            pattern: ".*\\S.*",
            title: "a reason in words",
            maxlength: "500",
            autocomplete: "off",
        });
        const confirm = el("button", { type: "submit", class: "primary" }, verb ?? "");
        const cancel = el("button", { type: "button" }, verb === null ? "Close" : "Cancel");
        const form = el(
            "form",
            { method: "dialog" },
            el("h2", { id: "dialog-heading" }, question),
            ...details.map((text) => el("p", null, text)),
            asksReason && verb !== null
                ? el(
                      "p",
                      { class: "field" },
                      el("label", { for: "reason" }, "Reason, for other operators"),
                      reason,
                  )
                : null,
            failure,
            el("p", { class: "buttons" }, verb === null ? null : confirm, cancel),
        );
        let isWorking = false;
        form.addEventListener("submit", async (event) => {
            event.preventDefault();
            isWorking = true;
            setAttribute(confirm, "disabled", true);
            setText(confirm, "Working…");
            setText(failure, "");
            try {
                result = await act(reason.value.trim());
                dialog.close();
            } catch (error) {
                setText(failure, error.message);
                setText(confirm, verb);
                setAttribute(confirm, "disabled", false);
            } finally {
                isWorking = false;
            }
        });
        dialog.replaceChildren(form);
        // The dialog waits for the result of what was begun. A browser may close it all the same at the second request.
        dialog.oncancel = (event) => {
            if (isWorking) {
                event.preventDefault();
            }
        };
        cancel.addEventListener("click", () => {
            if (!isWorking) {
                dialog.close();
            }
        });
        dialog.onclose = () => {
            dialog.replaceChildren();
            resolve(result);
        };
        dialog.showModal();
        (asksReason && verb !== null ? reason : cancel).focus();
    });
}
