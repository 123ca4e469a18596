//! Members of other programs with odd subscriptions: the leader and the group continue.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use end_to_end::Scenario;
use end_to_end::service::field;
use end_to_end::verdict::Simulation;
use kafka_client::cluster::Cluster;
use kafka_client::config::BrokerConfig;
use kafka_client::connection::Connection;
use kafka_core::consumer_protocol::{Assignment, Subscription};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::{
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;

const ORDERS: u64 = 1_000;
const PROTOCOL_TYPE: StrBytes = StrBytes::from_static_str("consumer");
const PROTOCOL: StrBytes = StrBytes::from_static_str("cooperative-sticky");
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_survives_an_unreadable_subscription() -> Result<()> {
    // Kafka forwards a negative version. It refuses all members of the group for bytes that end too soon.
    let unreadable = Bytes::from_static(b"\xff\xff\x00\x00\x00\x00");
    let line = "this member's subscription cannot be read";
    let warning = check_guest("unreadable-guest", unreadable, line).await?;
    let member = field(&warning, "member")?;
    ensure!(member.as_str().is_some_and(|id| id.starts_with("guest-")), "{warning}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_does_not_wait_for_topics_without_metadata() -> Result<()> {
    let topics = vec!["no such topic!".to_owned(), "nowhere".to_owned()];
    let odd = Subscription { topics, ..Subscription::default() }.encode()?;
    let line = "the cluster does not describe topics of the group";
    let warning = check_guest("odd-guest", odd, line).await?;
    ensure!(warning.contains("no such topic!") && warning.contains("nowhere"), "{warning}");
    Ok(())
}

/// Joins a processor's group with this `subscription`, and returns the processor's warning. The guest gets no partitions,
/// and the processor counts every order.
async fn check_guest(name: &str, subscription: Bytes, warning: &str) -> Result<String> {
    let scenario = Scenario::open(name)
        .await?
        .with("ORDER_RATE", "1000")
        .with("ORDER_COUNT", &ORDERS.to_string());
    let processor = scenario.processor("processor-1")?.start()?;
    processor.line("partitions assigned").await?;
    let mut guest = Guest::join(&scenario, &subscription).await?;
    let warning = processor.line(warning).await?;
    let assignment = guest.sync().await?;
    ensure!(assignment.partitions.is_empty(), "the guest got {assignment:?}");
    let mut generator = scenario.generator("generator")?.start()?;
    generator.expect_exit(0).await?;
    scenario.check_exact(ORDERS, Simulation::OFF).await?;
    guest.leave().await?;
    processor.drain().await?;
    Ok(warning)
}

/// Another program's member of the processor's group.
struct Guest {
    connection: Connection,
    group: String,
    member_id: StrBytes,
    generation: i32,
}

impl Guest {
    async fn join(scenario: &Scenario, subscription: &Bytes) -> Result<Self> {
        let servers = vec![scenario.platform().bootstrap_servers().to_owned()];
        let cluster = Cluster::new(BrokerConfig::new(servers, "guest"));
        let group = scenario.group().to_owned();
        let mut connection = cluster.coordinator(&group).connect().await?;
        let named = join(&mut connection, &group, StrBytes::default(), subscription).await?;
        let member_id = named.member_id;
        ensure!(named.error_code == ResponseError::MemberIdRequired.code(), "no id was given");
        let joined = join(&mut connection, &group, member_id.clone(), subscription).await?;
        ensure!(joined.error_code == 0, "the guest was refused: {}", joined.error_code);
        let generation = joined.generation_id;
        Ok(Self { connection, group, member_id, generation })
    }

    async fn sync(&mut self) -> Result<Assignment> {
        let request = SyncGroupRequest::default()
            .with_group_id(StrBytes::from_string(self.group.clone()).into())
            .with_member_id(self.member_id.clone())
            .with_generation_id(self.generation)
            .with_protocol_type(Some(PROTOCOL_TYPE))
            .with_protocol_name(Some(PROTOCOL));
        let answer = self.connection.call(&request, PATIENCE).await?;
        ensure!(answer.error_code == 0, "the guest got no assignment: {}", answer.error_code);
        Assignment::decode(&answer.assignment).context("read the guest's assignment")
    }

    async fn leave(mut self) -> Result<()> {
        let request = LeaveGroupRequest::default()
            .with_group_id(StrBytes::from_string(self.group).into())
            .with_members(vec![MemberIdentity::default().with_member_id(self.member_id)]);
        self.connection.call(&request, PATIENCE).await?;
        Ok(())
    }
}

async fn join(
    connection: &mut Connection,
    group: &str,
    member_id: StrBytes,
    subscription: &Bytes,
) -> Result<JoinGroupResponse> {
    let protocol =
        JoinGroupRequestProtocol::default().with_name(PROTOCOL).with_metadata(subscription.clone());
    let request = JoinGroupRequest::default()
        .with_group_id(StrBytes::from_string(group.to_owned()).into())
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(30_000)
        .with_member_id(member_id)
        .with_protocol_type(PROTOCOL_TYPE)
        .with_protocols(vec![protocol]);
    Ok(connection.call(&request, PATIENCE).await?)
}
