//! The suites that stop their broker or damage its disk.

mod cluster;
mod disk;
mod fetch_limits;
