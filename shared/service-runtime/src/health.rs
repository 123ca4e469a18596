//! Health: named checks that the service sets and `/readyz` shows, and whether it should be killed, for `/healthz`.

mod checks;
mod waiting;

pub use checks::{Check, Health};
pub use waiting::Waiting;
