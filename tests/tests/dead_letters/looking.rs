//! Looking at dead letters, whoever wrote them.
