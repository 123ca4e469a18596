//! `dlq replay`: what a replay would do, or has done.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::ensure;
use serde_json::{Value, json};
use service_runtime::grouped;

use crate::cli::output::{print, print_json};
use crate::dlq::queue::DeadLetterQueue;
use crate::dlq::reading::Interrupted;
use crate::replay::{self, Delivered, Plan, Report, Request};
use crate::text::{Align, dead_letters, short, table};

/// Sends letters again, or counts those that would be, and prints the result.
pub(super) async fn run(
    mut queue: DeadLetterQueue,
    request: &Request,
    is_json: bool,
) -> anyhow::Result<()> {
    let report = replay::execute(&mut queue, request, &talk).await?;
    if is_json {
        print_json(&json(&report))?;
    } else {
        print(&text(&report, request))?;
    }
    let failed = report.delivered.as_ref().map_or(0, Delivered::failed);
    let outcome = report.outcome;
    if outcome.as_ref().is_err_and(anyhow::Error::is::<Interrupted>) {
        talk("interrupted; what was not sent is still a dead letter");
        return Ok(());
    }
    outcome?;
    ensure!(failed == 0, "{} could not be sent", dead_letters(failed));
    Ok(())
}

/// Writes a line to the operator, beside the data on standard output.
fn talk(line: &str) {
    // Nothing can be done about a closed stderr.
    writeln!(std::io::stderr(), "{line}").unwrap_or_default();
}

fn json(report: &Report) -> Value {
    let Plan { chosen, by_cause, by_partition, left, skipped } = &report.plan;
    let causes: Vec<Value> = by_cause
        .iter()
        .map(|((error_type, topic), letters)| {
            json!({ "type": error_type, "topic": topic, "letters": letters })
        })
        .collect();
    let left: BTreeMap<&str, u64> =
        left.iter().map(|(reason, letters)| (reason.as_str(), *letters)).collect();
    let mut object = json!({
        "topic": report.topic,
        "chosen": chosen,
        "causes": causes,
        "partitions": by_partition,
        "left_alone": left,
        "repeats": skipped.repeats,
        "other_groups": skipped.other_groups,
    });
    if let Some(Delivered { sent, by_partition, refused, gone }) = &report.delivered {
        object["sent"] = json!(sent);
        object["partitions"] = json!(by_partition);
        object["refused"] = json!(refused);
        object["gone"] = json!(gone);
    }
    object
}

/// Says what a replay would do, or has done.
fn text(report: &Report, request: &Request) -> String {
    let Report { topic, plan, delivered, .. } = report;
    let mut text = String::new();
    // Writing to a string cannot fail.
    let mut line = |line: &str| writeln!(text, "{line}").unwrap_or_default();
    match delivered {
        None => {
            let chosen = dead_letters(plan.chosen);
            line(&format!("{chosen} would be sent to {topic}"));
            partitions(&plan.by_partition, &mut line);
            if request.to_source {
                line("every group that reads this topic will see them");
            }
        }
        Some(delivered) => {
            let (sent, chosen) = (grouped(delivered.sent), dead_letters(plan.chosen));
            line(&format!("sent {sent} of {chosen} to {topic}"));
            partitions(&delivered.by_partition, &mut line);
            for (count, reason) in [
                (delivered.refused, "refused by the broker"),
                (delivered.gone, "incomplete, and the record no longer exists"),
            ] {
                if count > 0 {
                    line(&format!("not sent: {} {reason}", grouped(count)));
                }
            }
        }
    }
    for (reason, letters) in &plan.left {
        line(&format!("left alone: {} {}", grouped(*letters), reason.as_str()));
    }
    if plan.skipped.other_groups > 0 {
        let letters = grouped(plan.skipped.other_groups);
        line(&format!("left alone: {letters} of other groups"));
    }
    if delivered.is_none() && !plan.by_cause.is_empty() {
        let mut rows = vec![["TYPE", "TOPIC", "LETTERS"].map(str::to_owned).to_vec()];
        rows.extend(plan.by_cause.iter().map(|((error_type, topic), letters)| {
            vec![short(error_type), short(topic), grouped(*letters)]
        }));
        text.push('\n');
        text.push_str(&table(&[Align::Left, Align::Left, Align::Right], &rows));
    }
    text
}

fn partitions(by_partition: &BTreeMap<i32, u64>, line: &mut impl FnMut(&str)) {
    let partitions: Vec<String> = by_partition
        .iter()
        .map(|(partition, letters)| format!("{partition}: {}", grouped(*letters)))
        .collect();
    if !partitions.is_empty() {
        line(&format!("by partition: {}", partitions.join("  ")));
    }
}
