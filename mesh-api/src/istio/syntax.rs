//! Forms of names, hosts, addresses and numbers that several kinds check.

/// Whether `text` is a name as RFC 1123 has it: one label of at most 63 characters, or with `dots` several of them, of
/// at most 253 together.
pub(crate) fn is_dns1123(text: &str, dots: bool) -> bool {
    if dots {
        text.len() <= 253 && text.split('.').all(is_label)
    } else {
        is_label(text)
    }
}

fn is_label(text: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= 63
        && text.bytes().all(|b| alphanumeric(&b) || b == b'-')
        && text.as_bytes().first().is_some_and(alphanumeric)
        && text.as_bytes().last().is_some_and(alphanumeric)
}
