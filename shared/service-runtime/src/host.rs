//! Where this process runs.

/// Returns the name that the machine or container has for itself.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
