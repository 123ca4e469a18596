use std::sync::{Arc, Mutex};
use std::time::Duration;

use fuzz::{Outcome, Target};
use order_avro::{ORDER_SCHEMA, SchemaId};
use schema_registry::{RegistryConfig, RegistryError, SchemaRegistry};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

const STATUSES: [u16; 8] = [200, 404, 409, 422, 401, 500, 204, 301];
const SUBJECT: &str = "orders-value";
/// The longest error text in bytes: the client cuts the registry's messages.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// The registry's responses: the status, the first body and all later bodies.
#[derive(Debug, Default)]
struct Answers {
    status: u16,
    first: Option<Vec<u8>>,
    later: Vec<u8>,
}

/// A registry on loopback, and its client.
struct Bench {
    runtime: Runtime,
    answers: Arc<Mutex<Answers>>,
    client: SchemaRegistry,
    /// The id of the next lookup: the client caches ids.
    id: u32,
    _server: JoinSet<()>,
}

#[test]
fn registry_answer() {
    let turn = fuzz::turn();
    let mut bench = Bench::new();
    let target = Target {
        name: "registry_answer",
        executions: 1_000,
        seeds: seeds(),
        memory: |input| 128 * input.len() + (1 << 20),
        mend: None,
        decode: Box::new(move |input| bench.ask(input)),
        check: |_, asked| match asked {
            Ok(what) => Outcome::accepted(what.as_str()),
            Err(what) => Outcome::refused(what.as_str()),
        },
    };
    fuzz::run(&turn, target, crate::LEFT);
}

/// The call, the status, the first body, and after a zero the later bodies.
fn input(call: u8, status: u8, first: &str, later: &str) -> Vec<u8> {
    [&[call, status][..], first.as_bytes(), b"\0", later.as_bytes()].concat()
}

fn seeds() -> Vec<Vec<u8>> {
    let text = ORDER_SCHEMA.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ");
    let schema = format!(r#"{{"schema":"{text}","schemaType":"AVRO"}}"#);
    let top = r#"{"schema":"{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"x\",\"type\":\"E\"}]}",
        "references":[{"name":"E","subject":"e","version":2}]}"#;
    let referred = r#"{"subject":"e","version":2,"id":7,
        "schema":"{\"type\":\"enum\",\"name\":\"E\",\"symbols\":[\"A\"]}"}"#;
    let error = r#"{"error_code":40403,"message":"Schema not found"}"#;
    vec![
        input(0, 0, &schema, ""),
        input(0, 0, top, referred),
        input(0, 0, r#"{"schema":"{}","schemaType":"PROTOBUF"}"#, ""),
        input(0, 1, error, error),
        input(1, 0, &schema, ""),
        input(1, 1, "<html>not found</html>", &schema),
        input(2, 0, r#"{"id":7}"#, ""),
        input(2, 2, r#"{"error_code":409,"message":"incompatible"}"#, ""),
        input(2, 3, r#"{"error_code":42201,"message":"invalid"}"#, ""),
        input(3, 0, "[1,2]", ""),
        input(3, 1, r#"{"error_code":40401,"message":"no subject"}"#, ""),
    ]
}

impl Bench {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let answers = Arc::new(Mutex::new(Answers::default()));
        let mut server = JoinSet::new();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        server.spawn_on(serve(listener, Arc::clone(&answers)), runtime.handle());
        let mut config = RegistryConfig::new(url);
        config.attempts_max = 1;
        config.retry_backoff = Duration::ZERO;
        config.retry_backoff_max = Duration::ZERO;
        let client = SchemaRegistry::new(config).unwrap();
        Self { runtime, answers, client, id: 0, _server: server }
    }

    /// Makes a call, and returns the kind of its result.
    fn ask(&mut self, input: &[u8]) -> Result<String, String> {
        let (call, rest) = input.split_first().unwrap_or((&0, &[]));
        let (status, bodies) = rest.split_first().unwrap_or((&0, &[]));
        let mut bodies = bodies.splitn(2, |byte| *byte == 0).map(<[u8]>::to_vec);
        *self.answers.lock().unwrap() = Answers {
            status: STATUSES[usize::from(*status) % STATUSES.len()],
            first: bodies.next(),
            later: bodies.next().unwrap_or_default(),
        };
        self.id += 1;
        let (client, id) = (&self.client, self.id);
        let asked = self.runtime.block_on(async {
            match call % 4 {
                0 => client.schema_by_id(id).await.map(|schema| schema.bytes().to_string()),
                1 => {
                    let guid = SchemaId::Guid(u128::from(id).to_be_bytes());
                    client.schema_by_id(guid).await.map(|schema| schema.bytes().to_string())
                }
                2 => client.register(SUBJECT, ORDER_SCHEMA).await.map(|_id| "id".to_owned()),
                _ => client.probe(SUBJECT).await.map(|()| "there".to_owned()),
            }
        });
        asked.map_err(|error| told(&error))
    }
}

/// Returns the kind of an error, without the id of the lookup.
fn told(error: &RegistryError) -> String {
    let text = error.to_string();
    assert!(text.len() <= TEXT_BYTES_MAX, "{text}");
    if let RegistryError::Unavailable { outage, .. } = error {
        format!("unavailable {outage:?}")
    } else if let RegistryError::InvalidSchema { reason, .. } = error {
        // The rest may be the registry's message.
        let words: Vec<_> = reason.split(' ').take(2).collect();
        format!("invalid {}", crate::words(&words.join(" ")))
    } else {
        crate::kind(error)
    }
}

async fn serve(listener: TcpListener, answers: Arc<Mutex<Answers>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(answer(stream, Arc::clone(&answers)));
    }
}

/// Answers every request of a connection.
async fn answer(mut stream: TcpStream, answers: Arc<Mutex<Answers>>) {
    let mut request = Vec::new();
    loop {
        while !is_whole(&request) {
            if !matches!(stream.read_buf(&mut request).await, Ok(1..)) {
                return;
            }
        }
        request.clear();
        let (status, body) = {
            let mut answers = answers.lock().unwrap();
            (answers.status, answers.first.take().unwrap_or_else(|| answers.later.clone()))
        };
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
        let body = if status == 204 { &[][..] } else { &body };
        let head = if status == 204 { "HTTP/1.1 204 X\r\n\r\n" } else { &head };
        if stream.write_all(&[head.as_bytes(), body].concat()).await.is_err() {
            return;
        }
    }
}

/// Returns whether the request is complete, by the length in its head.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    length.is_none_or(|length| length.trim().parse::<usize>().unwrap() <= body.len())
}
