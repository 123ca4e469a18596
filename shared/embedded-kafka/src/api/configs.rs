//! `DescribeConfigs`: the full configuration of topics, and the settings of the broker that clients look up.

use kafka_core::NodeId;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use crate::api::request::{RequestContext, text};
use crate::groups::SESSION_TIMEOUT_MAX;
use crate::refusal::Refusal;
use crate::state::State;
use crate::topics::config::{
    ConfigType, KNOWN_CONFIGS, KnownConfig, MAX_MESSAGE_BYTES_DEFAULT, TopicConfig,
};

const TOPIC_RESOURCE: i8 = 2;
const BROKER_RESOURCE: i8 = 4;

const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// Returns the code of the source of a topic's configuration.
pub(crate) fn source_of(overridden: Option<&str>) -> i8 {
    if overridden.is_some() { SOURCE_TOPIC } else { SOURCE_DEFAULT }
}

/// Answers `DescribeConfigs`.
pub(crate) fn describe_configs(
    state: &mut State,
    context: &RequestContext,
    request: &DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let describe = |resource: &DescribeConfigsResource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match describe_resource(state, context.node, resource) {
            Ok(mut configs) => {
                if let Some(wanted) = &resource.configuration_keys {
                    configs.retain(|config| wanted.contains(&config.name));
                }
                if !request.include_synonyms {
                    for config in &mut configs {
                        config.synonyms.clear();
                    }
                }
                result.with_configs(configs)
            }
            Err(refusal) => result
                .with_error_code(refusal.error.code())
                .with_error_message(Some(text(refusal.message))),
        }
    };
    let results = request.resources.iter().map(describe).collect();
    DescribeConfigsResponse::default().with_results(results)
}

fn describe_resource(
    state: &State,
    node: NodeId,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC_RESOURCE => {
            let topic = state.topics.get(name).ok_or_else(unknown_topic)?;
            Ok(KNOWN_CONFIGS.iter().map(|known| describe_topic(&topic.config, known)).collect())
        }
        BROKER_RESOURCE if name.is_empty() || (name == node.to_string()) => {
            Ok(describe_broker(state, node))
        }
        BROKER_RESOURCE => Err(invalid(format!(
            "Unexpected broker id, expected {node} or empty string, but received {name}"
        ))),
        // Groups, client metrics and loggers have no configuration here.
        _ => Ok(Vec::new()),
    }
}

fn describe_topic(config: &TopicConfig, known: &KnownConfig) -> DescribeConfigsResourceResult {
    let overridden = config.overridden(known.name);
    let default = config.default_of(known);
    let synonym = |value: &str, source| {
        DescribeConfigsSynonym::default()
            .with_name(text(known.name))
            .with_value(Some(text(value)))
            .with_source(source)
    };
    let mut synonyms: Vec<_> =
        overridden.iter().map(|value| synonym(value, SOURCE_TOPIC)).collect();
    synonyms.push(synonym(&default, SOURCE_DEFAULT));
    DescribeConfigsResourceResult::default()
        .with_name(text(known.name))
        .with_value(Some(text(overridden.unwrap_or(&default))))
        .with_config_source(source_of(overridden))
        .with_synonyms(synonyms)
        .with_config_type(known.kind.code())
}

fn describe_broker(state: &State, node: NodeId) -> Vec<DescribeConfigsResourceResult> {
    let settings = &state.settings;
    let entry = |name: &str, kind: ConfigType, value: String| {
        DescribeConfigsResourceResult::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
            .with_read_only(true)
            .with_config_source(SOURCE_STATIC_BROKER)
            .with_config_type(kind.code())
    };
    let millis = |duration: std::time::Duration| duration.as_millis().to_string();
    let (int, boolean) = (ConfigType::Int, ConfigType::Boolean);
    vec![
        entry("auto.create.topics.enable", boolean, settings.auto_create_topics.to_string()),
        entry("broker.id", int, node.to_string()),
        entry("default.replication.factor", int, state.cluster.running().count().to_string()),
        entry("fetch.max.bytes", int, settings.fetch_bytes_max.to_string()),
        entry("group.max.session.timeout.ms", int, millis(SESSION_TIMEOUT_MAX)),
        entry("group.min.session.timeout.ms", int, millis(settings.groups.min_session_timeout)),
        entry("message.max.bytes", int, MAX_MESSAGE_BYTES_DEFAULT.to_owned()),
        entry("min.insync.replicas", int, settings.min_insync_replicas.to_string()),
        entry("num.partitions", int, settings.default_partitions.to_string()),
        entry("offset.metadata.max.bytes", int, state.groups.metadata_chars_max.to_string()),
    ]
}

fn unknown_topic() -> Refusal {
    let error = ResponseError::UnknownTopicOrPartition;
    Refusal::new(error, "This server does not host this topic-partition.")
}

fn invalid(message: String) -> Refusal {
    Refusal::new(ResponseError::InvalidRequest, message)
}
