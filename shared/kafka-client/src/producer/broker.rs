//! The connection to one broker over which batches are sent: up to five requests in flight.

use std::collections::VecDeque;
use std::time::Duration;

use kafka_core::NodeId;
use kafka_core::producer::BATCHES_SENT_MAX;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::cluster::Cluster;
use crate::connection::pipeline::{Pipeline, SendError};
use crate::error::{ClientError, chain};

/// Most requests in flight to one broker: as many as a partition may have batches in.
pub(super) const IN_FLIGHT_MAX: usize = BATCHES_SENT_MAX;

/// The number of a request, unique in a producer.
pub(super) type RequestId = u64;

/// A request to send.
pub(super) struct Request {
    pub(super) id: RequestId,
    pub(super) message: ProduceRequest,
    /// How long the broker may take to answer.
    pub(super) timeout: Duration,
}

/// What came of a request.
pub(super) enum Answer {
    Response(Box<ProduceResponse>),
    /// Nothing of it was written.
    Unsent(String),
    /// The broker may have acted on it, or may still do so.
    Unanswered(String),
}

/// Sends the requests of the channel to broker `node` in order and reports what comes of each, until the channel is closed.
pub(super) async fn run(
    cluster: Cluster,
    node: NodeId,
    mut requests: mpsc::Receiver<Request>,
    answers: mpsc::Sender<(RequestId, Answer)>,
) {
    let mut next = None;
    while let Some(request) = take(&mut next, &mut requests).await {
        match connect(&cluster, node).await {
            Ok(pipeline) => {
                next = Some(request);
                serve(pipeline, &mut next, &mut requests, &answers).await;
            }
            Err(error) => {
                let failure = chain(&error);
                send(&answers, request.id, Answer::Unsent(failure.clone())).await;
                // Those behind it need not try the same broker again, one after the other.
                while let Ok(request) = requests.try_recv() {
                    send(&answers, request.id, Answer::Unsent(failure.clone())).await;
                }
            }
        }
    }
}

/// Sends requests until the connection fails, or is found closed while it is idle; then `next` is the request that was not sent.
async fn serve(
    mut pipeline: Pipeline<ProduceRequest>,
    next: &mut Option<Request>,
    requests: &mut mpsc::Receiver<Request>,
    answers: &mpsc::Sender<(RequestId, Answer)>,
) {
    let mut in_flight = VecDeque::new();
    let failure = loop {
        let throttled_until = pipeline.throttled_until().filter(|until| *until > Instant::now());
        let can_send = pipeline.in_flight() < IN_FLIGHT_MAX && throttled_until.is_none();
        tokio::select! {
            biased;
            response = pipeline.receive() => match (response, in_flight.pop_front()) {
                (Ok(response), Some(id)) => {
                    send(answers, id, Answer::Response(Box::new(response))).await;
                }
                (Ok(_), None) => {}
                (Err(error), oldest) => {
                    in_flight.extend(oldest);
                    break chain(&error);
                }
            },
            request = take(next, requests), if can_send => {
                let Some(request) = request else { return };
                if in_flight.is_empty() && !pipeline.is_open() {
                    *next = Some(request);
                    return;
                }
                match pipeline.send(&request.message, request.timeout).await {
                    Ok(()) => in_flight.push_back(request.id),
                    Err(SendError { is_begun, error }) => {
                        let cause = chain(&error);
                        if is_begun {
                            in_flight.push_back(request.id);
                        } else {
                            send(answers, request.id, Answer::Unsent(cause.clone())).await;
                        }
                        break cause;
                    }
                }
            }
            () = sleep_until(throttled_until.unwrap_or_else(Instant::now)), if throttled_until.is_some() => {}
        }
    };
    for id in in_flight {
        send(answers, id, Answer::Unanswered(failure.clone())).await;
    }
}

async fn connect(cluster: &Cluster, node: NodeId) -> Result<Pipeline<ProduceRequest>, ClientError> {
    let address = cluster.known().address(node).cloned().ok_or_else(|| {
        ClientError::refused("name a leader's address", ResponseError::LeaderNotAvailable)
    })?;
    Ok(Pipeline::new(cluster.connect(&address).await?)?)
}

/// Returns the request that was kept, or the next one of the channel.
///
/// # Cancel safety
/// Cancel safe.
async fn take(
    next: &mut Option<Request>,
    requests: &mut mpsc::Receiver<Request>,
) -> Option<Request> {
    match next.take() {
        Some(request) => Some(request),
        None => requests.recv().await,
    }
}

async fn send(answers: &mpsc::Sender<(RequestId, Answer)>, id: RequestId, answer: Answer) {
    // The producer's loop lives as long as this task.
    if answers.send((id, answer)).await.is_err() {
        tracing::debug!("the producer has ended");
    }
}
