//! The metrics and the health of a service, over HTTP.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::service::{PATIENCE, Service};

const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A sample of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The name with its suffix, such as `_total`.
    pub name: String,
    /// The labels by name.
    pub labels: BTreeMap<String, String>,
    /// The value of the sample.
    pub value: f64,
}

/// The metrics of one service.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// All samples, in sequence.
    pub samples: Vec<Sample>,
}

impl Metrics {
    /// Gets the metrics of a service.
    ///
    /// # Errors
    /// When the service does not answer with metrics.
    pub async fn of(service: &Service) -> Result<Self> {
        let (status, body) = get(service, "/metrics").await?;
        ensure!(status == 200, "HTTP {status}: {body}");
        Self::parse(&body)
    }

    /// Gets the metrics of a service until `is_reached` accepts them; `what` names the condition in the error.
    ///
    /// # Errors
    /// When the condition does not hold within [`PATIENCE`].
    pub async fn when(
        service: &Service,
        what: &str,
        is_reached: impl Fn(&Self) -> bool + Send + Sync,
    ) -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metrics = Self::of(service).await?;
            if is_reached(&metrics) {
                return Ok(metrics);
            }
            if deadline < Instant::now() {
                bail!("{what} was not reached: {metrics:#?}");
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Reads `OpenMetrics` text.
    ///
    /// # Errors
    /// When a line is not a sample.
    pub fn parse(text: &str) -> Result<Self> {
        ensure!(text.ends_with("# EOF\n"), "the text does not end as it should: {text}");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| sample(line).with_context(|| format!("read this sample: {line}"));
        Ok(Self { samples: lines.map(sample).collect::<Result<_>>()? })
    }

    /// Returns the samples with this name and these labels.
    pub fn matching(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&Sample> {
        let has = |sample: &Sample, (label, value): &(&str, &str)| {
            sample.labels.get(*label).is_some_and(|found| found == value)
        };
        let of_name = self.samples.iter().filter(|sample| sample.name == name);
        of_name.filter(|sample| labels.iter().all(|label| has(sample, label))).collect()
    }

    /// Returns the sum of the samples with this name and these labels, 0 without samples.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).iter().map(|sample| sample.value).sum()
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    // No label of these tests has a comma or a quotation mark.
    let label = |text: &str| {
        let (name, value) = text.split_once('=')?;
        Some((name.to_owned(), value.strip_prefix('"')?.strip_suffix('"')?.to_owned()))
    };
    let labels = labels.split(',').filter(|text| !text.is_empty()).map(label);
    Some(Sample {
        name: name.to_owned(),
        labels: labels.collect::<Option<_>>()?,
        value: value.parse().ok()?,
    })
}

/// Sends a `GET` request to a service, and returns the status and the body.
///
/// # Errors
/// When the service does not answer.
pub async fn get(service: &Service, path: &str) -> Result<(u16, String)> {
    let address = service.http_address().await?;
    let asked = async {
        let mut stream = TcpStream::connect(&address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = timeout(PATIENCE, asked).await.context("wait for an answer")??;
    let (head, body) = answer.split_once("\r\n\r\n").context("find the end of the head")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.with_context(|| format!("find the status: {head}"))?, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let text = "# TYPE a counter\na_total{x=\"1\",y=\"2\"} 3\na_total{x=\"1\",y=\"4\"} 5\nb -0.5\n# EOF\n";
        let metrics = Metrics::parse(text).expect("this is well formed");
        assert_eq!(metrics.sum("a_total", &[("x", "1")]).to_bits(), 8.0_f64.to_bits());
        assert_eq!(metrics.matching("a_total", &[("y", "4")]).len(), 1);
        assert_eq!(metrics.matching("b", &[])[0].value.to_bits(), (-0.5_f64).to_bits());
        assert!(Metrics::parse("a{x=1} 2\n# EOF\n").is_err());
        assert!(Metrics::parse("a 2\n").is_err(), "half a text");
    }
}
