//! Whether an instance is alive.

use std::collections::BTreeSet;
use std::time::Instant;

use control_topic::record::Role;
use control_topic::view::{self, ControlView};

/// Returns whether an instance is alive: a processor while it is a member of the group, any other while it reports.
pub(super) fn is_alive(
    view: &ControlView,
    role: Role,
    instance: &view::Instance,
    members: Option<&BTreeSet<String>>,
    now: Instant,
) -> bool {
    match (role, members, &instance.report.member_id) {
        (Role::Processor, Some(members), Some(member_id)) => members.contains(member_id),
        // The members are unknown, or it has not joined yet.
        (Role::Processor | Role::Generator, _, _) => view.is_alive(instance, now),
    }
}
