//! A consumer group as its coordinator describes it: its members, their hosts and their partitions.
//!
//! DescribeGroups: <https://kafka.apache.org/protocol#The_Messages_DescribeGroups>. It describes groups of the classic
//! protocol; a group that does not exist is `Dead`.

use kafka_core::TopicPartition;
use kafka_core::consumer_protocol::Assignment;
use kafka_protocol::ResponseError;
use kafka_protocol::messages;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::protocol::StrBytes;

use crate::cluster::Cluster;
use crate::error::ClientError;

/// A consumer group at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// The state by Kafka's name: `Stable`, `PreparingRebalance`, `CompletingRebalance`, `Empty`, `Dead`.
    pub state: String,
    /// The assignor of the generation; `None` if the group is not stable.
    pub assignor: Option<String>,
    /// The `host:port` of the group's coordinator.
    pub coordinator: String,
    /// The members, by member id.
    pub members: Vec<GroupMember>,
}

/// One member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// The member id.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// The client id.
    pub client_id: String,
    /// The client's address in the broker's form: `/127.0.0.1`.
    pub host: String,
    /// The assigned partitions, ascending; `None` if the assignment is not of the consumer protocol.
    pub partitions: Option<Vec<TopicPartition>>,
}

/// Describes a group, from its coordinator.
///
/// # Errors
/// A retriable [`ClientError`] while the coordinator is moving or cannot be reached: call again. Any other
/// [`ClientError::Refused`]: the group may not be described.
///
/// # Cancel safety
/// Cancel safe.
pub async fn describe_group(
    cluster: &Cluster,
    group_id: &str,
) -> Result<GroupDescription, ClientError> {
    let coordinator = cluster.coordinator(group_id);
    let group = StrBytes::from_string(group_id.to_owned()).into();
    let request = messages::DescribeGroupsRequest::default().with_groups(vec![group]);
    let (address, response) = coordinator.call_once(&request).await?;
    let what = || format!("describe group {group_id}");
    let described = response
        .groups
        .into_iter()
        .next()
        .ok_or_else(|| ClientError::refused(what(), ResponseError::UnknownServerError))?;
    match ResponseError::try_from_code(described.error_code) {
        None => Ok(read(described, &address)),
        Some(error) => {
            coordinator.note_error(&address, error);
            Err(ClientError::refused(what(), error))
        }
    }
}

fn read(described: DescribedGroup, coordinator: &str) -> GroupDescription {
    let assignor = described.protocol_data.to_string();
    let mut members: Vec<GroupMember> = described.members.into_iter().map(member).collect();
    members.sort_by(|one, other| one.member_id.cmp(&other.member_id));
    GroupDescription {
        state: described.group_state.to_string(),
        assignor: Some(assignor).filter(|name| !name.is_empty()),
        coordinator: coordinator.to_owned(),
        members,
    }
}

fn member(described: DescribedGroupMember) -> GroupMember {
    let assignment = Assignment::decode(&described.member_assignment);
    GroupMember {
        member_id: described.member_id.to_string(),
        instance_id: described.group_instance_id.map(|id| id.to_string()),
        client_id: described.client_id.to_string(),
        host: described.client_host.to_string(),
        partitions: assignment.ok().map(partitions),
    }
}

fn partitions(assignment: Assignment) -> Vec<TopicPartition> {
    let topics = assignment.partitions.into_iter();
    topics
        .flat_map(|(topic, indexes)| {
            indexes.into_iter().map(move |index| TopicPartition::new(topic.as_str(), index))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::*;

    #[test]
    fn members_are_described_with_their_partitions() {
        let assignment = Assignment {
            partitions: BTreeMap::from([
                ("orders".to_owned(), vec![0, 2]),
                ("replay".to_owned(), vec![1]),
            ]),
            ..Assignment::default()
        };
        let described = DescribedGroup::default()
            .with_group_state(text("Stable"))
            .with_protocol_data(text("cooperative-sticky"))
            .with_members(vec![
                described_member("b", Bytes::from_static(b"\x7f")),
                described_member("a", assignment.encode().unwrap())
                    .with_group_instance_id(Some(text("one"))),
                described_member("c", Bytes::new()),
            ]);

        let group = read(described, "broker:9092");

        assert_eq!(
            (group.state.as_str(), group.assignor.as_deref()),
            ("Stable", Some("cooperative-sticky"))
        );
        let tp = |topic, index| TopicPartition::new(topic, index);
        let held = vec![tp("orders", 0), tp("orders", 2), tp("replay", 1)];
        let found: Vec<_> = group
            .members
            .iter()
            .map(|m| (m.member_id.as_str(), m.instance_id.as_deref(), m.partitions.clone()))
            .collect();
        assert_eq!(
            found,
            [("a", Some("one"), Some(held)), ("b", None, None), ("c", None, Some(vec![]))]
        );
        assert_eq!(group.members[0].host, "/10.0.0.1");
    }

    #[test]
    fn a_group_that_is_not_stable_has_no_assignor() {
        let group = read(DescribedGroup::default().with_group_state(text("Dead")), "");
        assert_eq!((group.state.as_str(), group.assignor), ("Dead", None));
    }

    fn described_member(id: &'static str, assignment: Bytes) -> DescribedGroupMember {
        DescribedGroupMember::default()
            .with_member_id(text(id))
            .with_client_id(text("client"))
            .with_client_host(text("/10.0.0.1"))
            .with_member_assignment(assignment)
    }

    fn text(text: &'static str) -> StrBytes {
        StrBytes::from_static_str(text)
    }
}
