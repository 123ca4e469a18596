//! The suites that stop their broker or damage its disk.

use tokio::sync::Mutex;

mod chaos;
mod cluster;
mod disk;
mod fetch_limits;

/// The tests of a cluster share its brokers, so they run one after the other.
static ALONE: Mutex<()> = Mutex::const_new(());
