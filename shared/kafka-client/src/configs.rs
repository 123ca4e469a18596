//! The configuration of topics and brokers.
//!
//! DescribeConfigs: <https://kafka.apache.org/protocol#The_Messages_DescribeConfigs>.

use kafka_protocol::ResponseError;
use kafka_protocol::messages;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::protocol::StrBytes;

use crate::cluster::Cluster;
use crate::error::ClientError;

/// DescribeConfigs' resource types.
const TOPIC_RESOURCE: i8 = 2;
const BROKER_RESOURCE: i8 = 4;

/// Returns the value of configuration `name` of a topic, its own or the broker's default; `None` if there is none.
///
/// # Errors
/// As [`crate::topics::ensure_topics`]; a client without the right to describe configurations is refused.
///
/// # Cancel safety
/// Cancel safe.
pub async fn topic_config(
    cluster: &Cluster,
    topic: &str,
    name: &str,
) -> Result<Option<String>, ClientError> {
    let response = cluster.call_any(&request(TOPIC_RESOURCE, topic, name)).await?;
    read(response, name, || format!("describe the configuration of {topic}"))
}

/// Returns the value of configuration `name` of the broker that coordinates a group; `None` if there is none.
///
/// # Errors
/// A retriable [`ClientError`] while no broker coordinates the group; a client without the right to describe configurations is refused.
///
/// # Cancel safety
/// Cancel safe.
pub async fn coordinator_config(
    cluster: &Cluster,
    group_id: &str,
    name: &str,
) -> Result<Option<String>, ClientError> {
    let coordinator = cluster.coordinator(group_id).find().await?;
    // A broker describes only its own configuration, by its node id.
    let brokers =
        cluster.metadata(&[]).await.map(|_no_topics| cluster.known().node(&coordinator))?;
    let Some(node) = brokers else {
        let error = ResponseError::CoordinatorNotAvailable;
        return Err(ClientError::refused(format!("describe the broker at {coordinator}"), error));
    };
    let response =
        cluster.call(&coordinator, &request(BROKER_RESOURCE, &node.to_string(), name)).await?;
    read(response, name, || format!("describe the configuration of broker {node}"))
}

fn request(resource_type: i8, resource: &str, name: &str) -> messages::DescribeConfigsRequest {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(resource_type)
        .with_resource_name(StrBytes::from_string(resource.to_owned()))
        .with_configuration_keys(Some(vec![StrBytes::from_string(name.to_owned())]));
    messages::DescribeConfigsRequest::default().with_resources(vec![resource])
}

fn read(
    response: messages::DescribeConfigsResponse,
    name: &str,
    what: impl Fn() -> String,
) -> Result<Option<String>, ClientError> {
    let mut found = None;
    for result in response.results {
        if let Some(error) = ResponseError::try_from_code(result.error_code) {
            return Err(ClientError::refused(what(), error));
        }
        let config = result.configs.into_iter().find(|config| config.name.as_str() == name);
        found = config.and_then(|config| config.value).map(|value| value.to_string());
    }
    Ok(found)
}
