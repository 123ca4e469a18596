// Fetches, replays and dismisses dead letters. A dry run counts them first; after a yes no others than those are changed.

import { get, post } from "./client.js";
import { ask } from "./dialog.js";
import { setText } from "./dom.js";
import * as format from "./format.js";
import { clearNotice, notice } from "./notices.js";

/** Replays selected letters if the operator confirms their number; returns whether it was done. */
export async function replay(chosen, target) {
    return tried("replay", async () => {
        const plan = await post("api/dlq/replay", { ...chosen, dry_run: true });
        clearNotice();
        const left = leftAlone(plan.left_alone);
        const some = plan.chosen > 0;
        const done = await ask({
            question: some ? `Replay ${format.countOf(plan.chosen, "dead letter")} to ${target}?` : "Nothing to replay",
            details: [
                `${format.countOf(plan.matching, "letter matches", "letters match")}.${left === "" ? "" : ` Left alone: ${left}.`}`,
                some ? "Each is sent once, as the record that failed. Processors process it like a new order." : null,
            ].filter((text) => text !== null),
            verb: some ? `Replay ${format.count(plan.chosen)}` : null,
            asksReason: false,
            act: () => post("api/dlq/replay", { ...chosen, before: plan.before, dry_run: false }),
        });
        if (done === null) {
            return false;
        }
        const rest = [
            done.error === null ? "" : `not all of them: ${done.error}`,
            done.failed > 0 ? `${format.count(done.failed)} failed` : "",
            leftAlone(done.left_alone) === "" ? "" : `left alone: ${leftAlone(done.left_alone)}`,
        ].filter((text) => text !== "");
        notice(
            `Replayed ${format.countOf(done.sent, "dead letter")} to ${target}${rest.map((text) => `; ${text}`).join("")}.`,
            done.failed > 0 || done.error !== null ? "bad" : "good",
        );
        return true;
    });
}

/** Dismisses selected letters if the operator confirms and gives a reason; returns whether it was done. */
export async function dismiss(chosen) {
    return tried("dismiss", async () => {
        const plan = await post("api/dlq/dismiss", { ...chosen, dry_run: true });
        clearNotice();
        const some = plan.chosen > 0;
        const done = await ask({
            question: some ? `Dismiss ${format.countOf(plan.chosen, "dead letter")}?` : "Nothing to dismiss",
            details: [
                some
                    ? "They stay in the topic and need no more work. order-console dlq dismiss --undo reopens them."
                    : "Letters that were replayed or dismissed are left alone.",
            ],
            verb: some ? `Dismiss ${format.count(plan.chosen)}` : null,
            asksReason: true,
            act: (reason) => post("api/dlq/dismiss", { ...chosen, before: plan.before, dry_run: false, reason }),
        });
        if (done === null) {
            return false;
        }
        notice(`Dismissed ${format.countOf(done.dismissed, "dead letter")}.`, "good");
        return true;
    });
}

/**
 * Fetches the data of `page` and shows it, or why it could not be fetched; returns it, or null. An answer to an earlier
 * request is not shown.
 */
export async function fetchFor(page, path, query) {
    page.asked += 1;
    const asked = page.asked;
    try {
        const letters = await get(path, query);
        if (asked === page.asked) {
            setText(page.failure, "");
            page.show(letters);
        }
        return letters;
    } catch (error) {
        if (asked === page.asked && error.status !== 401) {
            setText(page.failure, error.message);
        }
        return null;
    }
}

let isUnderWay = false;

async function tried(what, act) {
    // One question at a time.
    if (isUnderWay) {
        return false;
    }
    isUnderWay = true;
    notice("Counting the dead letters…", "good");
    try {
        return await act();
    } catch (error) {
        notice(`Could not ${what}: ${error.message}`, "bad");
        return false;
    } finally {
        isUnderWay = false;
    }
}

function leftAlone(counts) {
    return Object.entries(counts)
        .filter(([, letters]) => letters > 0)
        .map(([reason, letters]) => `${format.count(letters)} ${reason.replaceAll("-", " ")}`)
        .join(", ");
}
