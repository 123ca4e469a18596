//! URLs that may carry a user, a password or a token.

use std::fmt::{self, Debug, Display};

use url::{Position, Url};

/// Stands for what is not printed.
pub(super) const HIDDEN: &str = "***";

/// How much of a URL may be printed besides scheme, host and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// The name of its user and its path.
    Path,
    /// Nothing.
    Origin,
}

/// An `http` or `https` URL, or several separated by commas, that never shows its secrets when it is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl {
    text: String,
    shown: String,
}

impl SecretUrl {
    /// Reads one URL, or several where `shown` allows paths. Returns `None` for everything else.
    pub(super) fn parse(text: &str, shown: Shown) -> Option<Self> {
        let items = match shown {
            Shown::Path => text.split(',').map(str::trim).collect(),
            Shown::Origin => vec![text],
        };
        let shown: Option<Vec<String>> = items.into_iter().map(|item| show(item, shown)).collect();
        Some(Self { text: text.to_owned(), shown: shown?.join(", ") })
    }

    /// Returns the URL with its secrets, for the one who connects.
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// Returns what may be printed of one URL, or `None` where it is not usable.
fn show(item: &str, shown: Shown) -> Option<String> {
    let url = Url::parse(item).ok()?;
    let is_usable = matches!(url.scheme(), "http" | "https") && !item.contains(char::is_whitespace);
    let host = url.host_str().filter(|host| is_usable && !host.contains(','))?;
    // A user without a password may be a token.
    let user = match (url.username(), url.password(), shown) {
        ("", None, _) => String::new(),
        // An escaped character may belong to a password that holds an @.
        (user, Some(_), Shown::Path) if !user.contains('%') => format!("{user}:{HIDDEN}@"),
        (..) => format!("{HIDDEN}@"),
    };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = url.path();
    let rest = match shown {
        Shown::Path if path == "/" => "",
        // A slash in a password makes the rest of it a path.
        Shown::Path if path.contains('@') => "/***",
        Shown::Path => path,
        Shown::Origin if url[Position::BeforePath..] == *"/" => "",
        Shown::Origin => "/***",
    };
    let query = match (url.query().or(url.fragment()), shown) {
        (Some(_), Shown::Path) => "?***",
        (Some(_), Shown::Origin) | (None, _) => "",
    };
    Some(format!("{}://{user}{host}{port}{rest}{query}", url.scheme()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        let shown = |text, shown| SecretUrl::parse(text, shown).map(|url| url.to_string());
        for (text, with_path, origin) in [
            ("http://host:8081", Some("http://host:8081"), Some("http://host:8081")),
            ("https://host/v7/", Some("https://host/v7/"), Some("https://host/***")),
            ("http://me:pw@host/x", Some("http://me:***@host/x"), Some("http://***@host/***")),
            ("http://token@host", Some("http://***@host"), Some("http://***@host")),
            ("http://host/?key=pw#pw", Some("http://host?***"), Some("http://host/***")),
            ("http://host/hook/pw", Some("http://host/hook/pw"), Some("http://host/***")),
            ("http://a:pw@b, https://c:pw@d", Some("http://a:***@b, https://c:***@d"), None),
            ("host:8081", None, None),
            ("ftp://me:pw@host", None, None),
            ("http://", None, None),
            ("http://me:p w@host", None, None),
        ] {
            let expected = [with_path, origin].map(|text| text.map(str::to_owned));
            assert_eq!([shown(text, Shown::Path), shown(text, Shown::Origin)], expected, "{text}");
        }
    }
}
