//! Settings: declared once as data, layered from defaults, a TOML file and the environment, judged all at once.
//!
//! A service describes its settings in one function, [`FromSettings::read`]: every call on [`Settings`] declares a
//! setting (name, default, what is allowed, one line of meaning) and returns its value. The same function gives the
//! values, the manual ([`manual()`], [`markdown_table`]) and the list of known names.
//!
//! The layers, later ones winning: the defaults in the code; the TOML file that `CONFIG_FILE` names, if set; the
//! environment, in which an empty variable counts as unset. Keys of the file are the same names in either case
//! (`order_rate = 5`); a list may be a TOML array. A key that nothing declares is a violation.
//!
//! Reading never stops at the first violation: a setting that is not usable is noted and reading continues with its
//! default, so that [`load`] reports every violation in one go.
//!
//! Reading order: `reading` (the kinds of settings), `layers` (where a value comes from), `manual` (what `--help` and the
//! documents print), `shared` (the settings that several services have), and the small parts of these.

mod declaration;
mod given;
mod layers;
mod manual;
mod names;
mod reading;
mod secret;
mod secret_url;
mod shared;
mod violation;

pub use self::declaration::Declaration;
pub use self::given::Environment;
pub use self::manual::{manual, markdown_table};
pub(crate) use self::reading::load_with_changes;
pub use self::reading::{FromSettings, Settings, declarations, load};
pub use self::secret::Secret;
pub use self::secret_url::SecretUrl;
pub use self::shared::{
    ConnectionSettings, GroupSettings, RuntimeSettings, TopicSettings, value_bytes_max,
};
pub use self::violation::{Violation, Violations};

#[cfg(test)]
mod tests;
