//! The client against a registry that answers as the test says.
#![expect(clippy::expect_used, reason = "a test ends where its premises do")]

mod calls;

mod permissions;

mod references;

mod bounds;

mod fake;
