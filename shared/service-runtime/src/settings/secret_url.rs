//! URLs that may carry a user and a password.

use std::fmt::{self, Debug, Display};

/// An `http` or `https` URL that never shows its password when it is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    pub(super) fn new(url: &str) -> Self {
        Self(url.to_owned())
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let authority = rest.split('/').next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let usable = matches!(scheme, "http" | "https")
            && !host.is_empty()
            && !text.contains(char::is_whitespace);
        usable.then(|| Self::new(text))
    }

    /// Returns the URL with its password, for the one who connects.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.0))
    }
}

impl Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// Returns the text with the password of `scheme://user:password@…` replaced by `***`.
///
/// The last `@` before the path ends the password, and a user without a password is replaced too: it may be a token.
pub(super) fn redact(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let Some((credentials, host)) = rest.rsplit_once('@') else {
        return text.to_owned();
    };
    match credentials.split_once(':') {
        Some((user, _password)) => format!("{scheme}://{user}:***@{host}"),
        None => format!("{scheme}://***@{host}"),
    }
}
