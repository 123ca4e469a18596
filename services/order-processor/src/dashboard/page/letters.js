// What is done about dead letters: a dry run first, then the question, then the deed.

import { post } from "./client.js";
import { ask } from "./dialog.js";
import * as format from "./format.js";
import { clearNotice, notice } from "./notices.js";

/** Sends chosen letters again, if the operator still wants to after having seen how many; returns whether it was done. */
export async function replay(chosen, target) {
    return tried("replay", async () => {
        const plan = await post("/api/dlq/replay", { ...chosen, dry_run: true });
        const left = leftAlone(plan.left_alone);
        const some = plan.chosen > 0;
        const done = await ask({
            question: some ? `Replay ${format.countOf(plan.chosen, "dead letter")} to ${target}?` : "Nothing to replay",
            details: [
                `${format.countOf(plan.matching, "letter matches", "letters match")}.${left === "" ? "" : ` Left alone: ${left}.`}`,
                some ? "Each is sent once, as the record that failed. Processors take it like a new order." : null,
            ].filter((text) => text !== null),
            verb: some ? `Replay ${format.count(plan.chosen)}` : null,
            asksReason: false,
            act: () => post("/api/dlq/replay", { ...chosen, dry_run: false }),
        });
        if (done === null) {
            return false;
        }
        const rest = [
            done.failed > 0 ? `${format.count(done.failed)} failed` : "",
            leftAlone(done.left_alone) === "" ? "" : `left alone: ${leftAlone(done.left_alone)}`,
        ].filter((text) => text !== "");
        notice(
            `Replayed ${format.countOf(done.sent, "dead letter")} to ${target}${rest.map((text) => `; ${text}`).join("")}.`,
            done.failed > 0 ? "bad" : "good",
        );
        return true;
    });
}

/** Puts chosen letters aside, if the operator still wants to and says why; returns whether it was done. */
export async function dismiss(chosen) {
    return tried("dismiss", async () => {
        const plan = await post("/api/dlq/dismiss", { ...chosen, dry_run: true });
        const some = plan.chosen > 0;
        const done = await ask({
            question: some ? `Dismiss ${format.countOf(plan.chosen, "dead letter")}?` : "Nothing to dismiss",
            details: [
                some
                    ? "They stay in the topic, and nobody has to work on them any more. order-processor dlq dismiss --undo takes them up again."
                    : "What was replayed or dismissed already is left alone.",
            ],
            verb: some ? `Dismiss ${format.count(plan.chosen)}` : null,
            asksReason: true,
            act: (reason) => post("/api/dlq/dismiss", { ...chosen, dry_run: false, reason }),
        });
        if (done === null) {
            return false;
        }
        notice(`Dismissed ${format.countOf(done.dismissed, "dead letter")}.`, "good");
        return true;
    });
}

async function tried(what, act) {
    clearNotice();
    try {
        return await act();
    } catch (error) {
        notice(`Could not ${what}: ${error.message}`, "bad");
        return false;
    }
}

function leftAlone(counts) {
    return Object.entries(counts)
        .filter(([, letters]) => letters > 0)
        .map(([reason, letters]) => `${format.count(letters)} ${reason.replaceAll("-", " ")}`)
        .join(", ");
}
