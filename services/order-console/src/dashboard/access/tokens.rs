//! The tokens.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::settings::DashboardSettings;

/// A SHA-256 hash. Hashes have one length, and hide how much of a guess is right.
pub(crate) type Hash = [u8; 32];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// It allows to read and to change.
    Full,
    /// It allows to read.
    Read,
}

/// The tokens that are set, hashed.
pub(crate) struct Tokens {
    full: Option<Hash>,
    read: Option<Hash>,
}

impl Token {
    /// Returns its name, for the record of what was done.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Full => "full-token",
            Self::Read => "read-token",
        }
    }
}

impl Tokens {
    pub(crate) fn of(settings: &DashboardSettings) -> Self {
        let [full, read] = [&settings.token, &settings.read_token]
            .map(|token| token.as_ref().map(|token| hash(token.reveal())));
        Self { full, read }
    }

    pub(crate) fn are_set(&self) -> bool {
        self.full.is_some() || self.read.is_some()
    }

    /// Returns which of the tokens `text` is, in a time that does not depend on where it differs.
    pub(crate) fn find(&self, text: &str) -> Option<Token> {
        let hash = hash(text);
        let is = |token: &Option<Hash>| token.is_some_and(|token| hash.ct_eq(&token).into());
        match (is(&self.full), is(&self.read)) {
            (true, _) => Some(Token::Full),
            (false, true) => Some(Token::Read),
            (false, false) => None,
        }
    }
}

pub(crate) fn hash(text: &str) -> Hash {
    Sha256::digest(text.as_bytes()).into()
}
