//! One client connection, which answers one request at a time, in order.
//!
//! As a real broker, it does not read the next request while one waits for its response, such as a `JoinGroup`.

use bytes::Bytes;
use kafka_core::NodeId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::broker::dispatch::{CallError, dispatch};
use crate::broker::owner::Owner;

/// The largest request, as `socket.request.max.bytes` of a real broker.
const REQUEST_BYTES_MAX: usize = 100 * 1024 * 1024;

/// Why a connection ended before the client closed it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("socket failed")]
    Socket(#[from] std::io::Error),
    #[error("cannot answer the request")]
    Call(#[from] CallError),
    /// The size in front of a request is out of range.
    #[error("request size {size} is not in 0..={REQUEST_BYTES_MAX}")]
    Size { size: i32 },
}

/// Serves a connection to `node` until the client closes it or exceeds the idle limit.
///
/// # Errors
/// [`ConnectionError`]; the caller closes the connection.
pub(crate) async fn serve(
    owner: &Owner,
    node: NodeId,
    client_host: &str,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> Result<(), ConnectionError> {
    loop {
        let idle_max = owner.with_state(|state, _| state.settings.idle_max);
        let request = read_request(&mut stream);
        let request = match idle_max {
            None => request.await?,
            Some(idle_max) => timeout(idle_max, request).await.unwrap_or(Ok(None))?,
        };
        let Some(request) = request else { return Ok(()) };
        let answer = dispatch(owner, node, client_host, request).await?;
        if let Some(response) = answer.response {
            stream.write_all(&response).await?;
        }
        // As in Kafka, a client over its quota gets its response, and waits for the next.
        sleep(answer.throttle).await;
    }
}

async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<Bytes>, ConnectionError> {
    let size = match stream.read_i32().await {
        Ok(size) => size,
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let bytes = usize::try_from(size)
        .ok()
        .filter(|bytes| *bytes <= REQUEST_BYTES_MAX)
        .ok_or(ConnectionError::Size { size })?;
    let mut request = vec![0; bytes];
    stream.read_exact(&mut request).await?;
    Ok(Some(Bytes::from(request)))
}
