//! Texts from outside, and numbers, as people read them.

mod grouped;
mod printable;

pub use grouped::grouped;
pub(crate) use printable::Escaped;
pub use printable::{escaped, is_printable, printable};
