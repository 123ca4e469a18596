//! What the names of topics and hosts may have in them.

/// Returns whether a topic's name can have this text in it: up to `chars_max` characters that Kafka allows.
pub(super) fn is_part_of_topic(text: &str, chars_max: usize) -> bool {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    text.len() <= chars_max && text.chars().all(is_legal)
}

/// Returns whether the text is `host:port`, the host not empty and possibly an IPv6 address in brackets.
pub(super) fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let is_name = |host: &str| host.chars().all(|c| c.is_alphanumeric() || "-._".contains(c));
    let is_address =
        |host: &str| host.chars().all(|c| c.is_ascii_alphanumeric() || ":.%".contains(c));
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = bracketed.map_or_else(|| is_name(host), is_address);
    !host.is_empty() && is_host && port.parse::<u16>().is_ok()
}
