//! Topics and their configuration.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest, FetchRequest,
    MetadataRequest,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::client::{Client, batch, fetch_request, name, start};
use embedded_kafka::{BrokerOptions, EmbeddedKafka};

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

async fn create(client: &mut Client, topic: CreatableTopic) -> CreatableTopicResult {
    let request = CreateTopicsRequest::default().with_topics(vec![topic]);
    client.ask(7, &request).await.topics[0].clone()
}

fn topic(topic: &str) -> CreatableTopic {
    let topic = CreatableTopic::default().with_name(name(topic));
    topic.with_num_partitions(-1).with_replication_factor(-1)
}

async fn metadata(client: &mut Client, topics: Option<Vec<&str>>) -> Vec<MetadataResponseTopic> {
    let topics = topics.map(|names| {
        names
            .into_iter()
            .map(|topic| MetadataRequestTopic::default().with_name(Some(name(topic))))
            .collect()
    });
    let request =
        MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(false);
    client.ask(12, &request).await.topics
}

async fn config(client: &mut Client, topic: &str, key: &str) -> DescribeConfigsResourceResult {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(topic))
        .with_configuration_keys(Some(vec![text(key)]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    client.ask(4, &request).await.results[0].configs[0].clone()
}

#[tokio::test]
async fn a_topic_is_created_with_its_configuration_and_described_by_name_and_id() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    client
        .create_topic("orders", -1, &[("retention.ms", "-1"), ("cleanup.policy", "compact")])
        .await;
    let by_name = metadata(&mut client, Some(vec!["orders"])).await.remove(0);
    assert_eq!((by_name.error_code, by_name.partitions.len()), (0, 3), "the broker's default");
    let asked = MetadataRequestTopic::default().with_name(None).with_topic_id(by_name.topic_id);
    let request = MetadataRequest::default().with_topics(Some(vec![asked]));
    let by_id = client.ask(12, &request).await.topics.remove(0);
    assert_eq!(by_id.name, Some(name("orders")));
    let retention = config(&mut client, "orders", "retention.ms").await;
    assert_eq!((retention.value.as_deref(), retention.config_source), (Some("-1"), 1));
    let size = config(&mut client, "orders", "max.message.bytes").await;
    assert_eq!((size.value.as_deref(), size.config_source), (Some("1048588"), 5));
}

#[tokio::test]
async fn invalid_topics_are_refused() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("orders.dlq", 1, &[]).await;
    let unknown_config =
        CreatableTopicConfig::default().with_name(text("nonsense")).with_value(Some(text("1")));
    let elsewhere =
        CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1), BrokerId(2)]);
    for (refused, expected) in [
        (topic("orders.dlq"), ResponseError::TopicAlreadyExists),
        (topic("orders_dlq"), ResponseError::InvalidTopicException),
        (topic("no spaces"), ResponseError::InvalidTopicException),
        (topic(&"x".repeat(250)), ResponseError::InvalidTopicException),
        (topic("a").with_num_partitions(0), ResponseError::InvalidPartitions),
        (topic("a").with_num_partitions(10_001), ResponseError::PolicyViolation),
        (topic("a").with_replication_factor(3), ResponseError::InvalidReplicationFactor),
        (topic("a").with_configs(vec![unknown_config]), ResponseError::InvalidConfig),
        (topic("a").with_assignments(vec![elsewhere]), ResponseError::InvalidReplicaAssignment),
    ] {
        let result = create(&mut client, refused).await;
        assert_eq!(result.error_code, expected.code(), "{:?}", result.error_message);
        assert!(result.error_message.is_some());
    }
    let twice = CreateTopicsRequest::default().with_topics(vec![topic("a"), topic("a")]);
    for result in client.ask(7, &twice).await.topics {
        assert_eq!(result.error_code, ResponseError::InvalidRequest.code());
    }
    let tried =
        CreateTopicsRequest::default().with_topics(vec![topic("a")]).with_validate_only(true);
    assert_eq!(client.ask(7, &tried).await.topics[0].error_code, 0);
    let all = metadata(&mut client, None).await;
    assert_eq!(all.len(), 1, "nothing was created: {all:?}");
}

#[tokio::test]
async fn metadata_requests_create_topics_when_client_and_broker_allow_it() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    let asked = MetadataRequestTopic::default().with_name(Some(name("wanted")));
    let request = MetadataRequest::default().with_topics(Some(vec![asked]));
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    assert_eq!(metadata(&mut client, Some(vec!["wanted"])).await[0].error_code, unknown);
    assert_eq!(client.ask(12, &request).await.topics[0].partitions.len(), 3);

    let options = BrokerOptions { auto_create_topics: false, ..BrokerOptions::default() };
    let strict = EmbeddedKafka::start(options).await.unwrap();
    let mut client = Client::connect(&strict).await;
    assert_eq!(client.ask(12, &request).await.topics[0].error_code, unknown);
    let asked = MetadataRequestTopic::default().with_name(Some(name("no spaces")));
    let request = MetadataRequest::default().with_topics(Some(vec![asked]));
    let invalid = ResponseError::InvalidTopicException.code();
    assert_eq!(client.ask(12, &request).await.topics[0].error_code, invalid);
}

#[tokio::test]
async fn a_topic_created_again_has_another_id_and_no_records() {
    let broker = start().await;
    let mut client = Client::connect(&broker).await;
    client.create_topic("orders", 1, &[]).await;
    client.produce("orders", batch(&["a"])).await;
    let before = metadata(&mut client, Some(vec!["orders"])).await[0].topic_id;
    let by_id = DeleteTopicState::default().with_name(None).with_topic_id(before);
    let request = DeleteTopicsRequest::default().with_topics(vec![by_id]);
    let deleted = client.ask(6, &request).await.responses.remove(0);
    assert_eq!((deleted.error_code, deleted.name), (0, Some(name("orders"))));
    let again = client.ask(6, &request).await.responses.remove(0);
    assert_eq!(again.error_code, ResponseError::UnknownTopicId.code());
    client.create_topic("orders", 1, &[]).await;
    let after = metadata(&mut client, Some(vec!["orders"])).await[0].topic_id;
    assert!((before != after) && (after != Uuid::nil()));
    assert_eq!(client.fetch("orders", 0).await.high_watermark, 0);

    let mut stale = fetch_request("orders", 0);
    stale.topics[0].topic = name("");
    stale.topics[0].topic_id = before;
    let response = client.ask(13, &stale).await;
    let code = response.responses[0].partitions[0].error_code;
    assert_eq!(code, ResponseError::UnknownTopicId.code());
}

#[tokio::test]
async fn deleting_a_topic_ends_its_waiting_fetches() {
    let broker = start().await;
    let mut consumer = Client::connect(&broker).await;
    consumer.create_topic("orders", 1, &[]).await;
    let request = fetch_request("orders", 0).with_min_bytes(1).with_max_wait_ms(100_000);
    consumer.send(12, &request).await;
    let mut other = Client::connect(&broker).await;
    let request = DeleteTopicsRequest::default().with_topic_names(vec![name("orders")]);
    assert_eq!(other.ask(5, &request).await.responses[0].error_code, 0);
    let response = consumer.receive::<FetchRequest>(12).await;
    let code = response.responses[0].partitions[0].error_code;
    assert_eq!(code, ResponseError::UnknownTopicOrPartition.code());
}
