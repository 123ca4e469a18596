//! Which topics a group's consumers subscribe to.

use bytes::{Buf, Bytes};
use kafka_protocol::messages::ConsumerProtocolSubscription;
use kafka_protocol::protocol::Decodable;

use crate::groups::group::{Group, GroupState};

const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

impl Group {
    /// Returns whether the group is one of consumers.
    pub(crate) fn has_consumers(&self) -> bool {
        self.protocol_type() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// Returns whether a consumer of the group subscribes to a topic; when that cannot be read, one may.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        if !self.has_consumers() || (self.state() == GroupState::Empty) {
            return false;
        }
        let Some(protocol) = self.protocol_name() else {
            return true;
        };
        self.members().any(|(_, member)| subscribes(member.metadata(protocol), topic))
    }
}

fn subscribes(mut subscription: Bytes, topic: &str) -> bool {
    // Every version of a subscription begins as version 0 does, after its own number.
    if subscription.remaining() < 2 {
        return true;
    }
    subscription.advance(2);
    ConsumerProtocolSubscription::decode(&mut subscription, 0)
        .map_or(true, |subscription| subscription.topics.iter().any(|name| name.as_str() == topic))
}
