//! What a picture shows.

use super::look::Look;
use crate::top::state::State;
use crate::view::body::Snapshot;

#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) state: &'a State,
    pub(crate) look: Look,
}
