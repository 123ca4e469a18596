//! What a replay would do, and what it has done.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use service_runtime::grouped;

use super::choice::Reason;
use super::sending::Delivered;
use super::{Destination, Request};
use crate::dlq::dead_letters;
use crate::dlq::letter::Letter;
use crate::dlq::render::{Align, short, table};
use crate::dlq::topic_log::TopicLog;
use crate::dlq::walk::PassedOver;

/// The most causes that are told apart.
const CAUSES_MAX: usize = 1_000;

/// What is to be sent, counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) chosen: u64,
    pub(super) by_cause: BTreeMap<(String, String), u64>,
    pub(super) by_partition: BTreeMap<i32, u64>,
    pub(super) left: BTreeMap<Reason, u64>,
    pub(super) passed_over: PassedOver,
}

impl Plan {
    /// Counts a letter that is to be sent to that partition.
    pub(super) fn add(&mut self, letter: &Letter<'_>, partition: i32) {
        self.chosen += 1;
        let topic = letter.cause.topic.clone().unwrap_or_else(|| "-".to_owned());
        let mut cause = (letter.cause.type_or_label().to_owned(), topic);
        if self.by_cause.len() >= CAUSES_MAX && !self.by_cause.contains_key(&cause) {
            cause = ("other causes".to_owned(), "-".to_owned());
        }
        *self.by_cause.entry(cause).or_default() += 1;
        *self.by_partition.entry(partition).or_default() += 1;
    }

    /// Counts a letter that is not sent.
    pub(super) fn leave(&mut self, reason: Reason) {
        *self.left.entry(reason).or_default() += 1;
    }
}

/// All there is to say at the end.
pub(super) struct Summary<'a> {
    pub(super) request: &'a Request,
    pub(super) target: &'a TopicLog,
    pub(super) plan: Plan,
    /// Absent where nothing was to be sent.
    pub(super) delivered: Option<Delivered>,
}

impl Summary<'_> {
    /// Returns the summary as the operator wants it.
    pub(super) fn print(&self) -> String {
        if self.request.is_json { self.json().to_string() + "\n" } else { self.text() }
    }

    fn json(&self) -> Value {
        let Plan { chosen, by_cause, by_partition, left, passed_over } = &self.plan;
        let causes: Vec<Value> = by_cause
            .iter()
            .map(|((error_type, topic), letters)| {
                json!({ "type": error_type, "topic": topic, "letters": letters })
            })
            .collect();
        let left: BTreeMap<&str, u64> =
            left.iter().map(|(reason, letters)| (reason.as_str(), *letters)).collect();
        let mut object = json!({
            "topic": self.target.name,
            "chosen": chosen,
            "causes": causes,
            "partitions": by_partition,
            "left_alone": left,
            "repeats": passed_over.repeats,
            "other_groups": passed_over.other_groups,
        });
        if let Some(Delivered { sent, by_partition, refused, gone }) = &self.delivered {
            object["sent"] = json!(sent);
            object["partitions"] = json!(by_partition);
            object["refused"] = json!(refused);
            object["gone"] = json!(gone);
        }
        object
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let topic = &self.target.name;
        // Writing to a string cannot fail.
        let mut line = |words: &str| writeln!(text, "{words}").unwrap_or_default();
        match &self.delivered {
            None => {
                let chosen = dead_letters(self.plan.chosen);
                line(&format!("{chosen} would be sent to {topic}"));
                self.partitions(&self.plan.by_partition, &mut line);
            }
            Some(delivered) => {
                let (sent, chosen) = (grouped(delivered.sent), dead_letters(self.plan.chosen));
                line(&format!("sent {sent} of {chosen} to {topic}"));
                self.partitions(&delivered.by_partition, &mut line);
                for (count, words) in [
                    (delivered.refused, "refused by the broker"),
                    (delivered.gone, "incomplete, and the record cannot be had any more"),
                ] {
                    if count > 0 {
                        line(&format!("not sent: {} {words}", grouped(count)));
                    }
                }
            }
        }
        for (reason, letters) in &self.plan.left {
            line(&format!("left alone: {} {}", grouped(*letters), reason.as_str()));
        }
        if self.plan.passed_over.other_groups > 0 {
            let letters = grouped(self.plan.passed_over.other_groups);
            line(&format!("left alone: {letters} of other groups"));
        }
        if self.delivered.is_none() && !self.plan.by_cause.is_empty() {
            text.push('\n');
            text.push_str(&self.causes());
        }
        text
    }

    fn partitions(&self, by_partition: &BTreeMap<i32, u64>, line: &mut impl FnMut(&str)) {
        let partitions: Vec<String> = by_partition
            .iter()
            .map(|(partition, letters)| format!("{partition}: {}", grouped(*letters)))
            .collect();
        if !partitions.is_empty() {
            line(&format!("by partition: {}", partitions.join("  ")));
        }
        if self.request.destination == Destination::Source && self.delivered.is_none() {
            line("every group that reads this topic will see them");
        }
    }

    fn causes(&self) -> String {
        let mut rows = vec![["TYPE", "TOPIC", "LETTERS"].map(str::to_owned).to_vec()];
        rows.extend(self.plan.by_cause.iter().map(|((error_type, topic), letters)| {
            vec![short(error_type), short(topic), grouped(*letters)]
        }));
        table(&[Align::Left, Align::Left, Align::Right], &rows)
    }
}
