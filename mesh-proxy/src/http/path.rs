//! Paths in one form, so that routes and policies see what the application will see.

use std::borrow::Cow;

use crate::snapshot::{EscapedSlashes, HttpConnectionManager};

/// What to do with a request after its path was looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Normalized<'a> {
    /// Go on with this path (without query).
    Path(Cow<'a, str>),
    /// Answer 400.
    Reject,
    /// Redirect the caller to this path.
    Redirect(String),
}

/// Brings a path (without query) into the form that the manager asks for. Paths that are in it already are not copied.
pub(super) fn normalize<'a>(path: &'a str, manager: &HttpConnectionManager) -> Normalized<'a> {
    let mut path = Cow::Borrowed(path);
    let mut redirect = false;
    if manager.escaped_slashes != EscapedSlashes::Keep && has_escaped_slash(&path) {
        match manager.escaped_slashes {
            EscapedSlashes::Reject => return Normalized::Reject,
            EscapedSlashes::UnescapeAndRedirect => redirect = true,
            EscapedSlashes::Keep | EscapedSlashes::UnescapeAndForward => {}
        }
        path = Cow::Owned(unescape_slashes(&path));
    }
    if manager.normalize_path && !is_plain(&path) {
        match remove_dots(&path) {
            Some(clean) => path = Cow::Owned(clean),
            None => return Normalized::Reject,
        }
    }
    if manager.merge_slashes && path.contains("//") {
        path = Cow::Owned(merge_slashes(&path));
    }
    if redirect {
        Normalized::Redirect(path.into_owned())
    } else {
        Normalized::Path(path)
    }
}

/// Whether there is nothing that [`remove_dots`] would change: no dot segments, plain or escaped, no backslashes.
fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.first() == Some(&b'/')
        && !bytes.contains(&b'\\')
        && !bytes.windows(2).any(|w| w == b"/.")
        && !bytes
            .windows(3)
            .any(|w| w[0] == b'%' && w[1] == b'2' && w[2].eq_ignore_ascii_case(&b'e'))
}

fn has_escaped_slash(path: &str) -> bool {
    path.as_bytes().windows(3).any(is_escaped_slash)
}

fn is_escaped_slash(w: &[u8]) -> bool {
    matches!(w, [b'%', b'2', b'f' | b'F'] | [b'%', b'5', b'c' | b'C'])
}

fn unescape_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.as_bytes().windows(3).position(is_escaped_slash) {
        out.push_str(&rest[..at]);
        out.push(if rest.as_bytes()[at + 1] == b'2' { '/' } else { '\\' });
        rest = &rest[at + 3..];
    }
    out.push_str(rest);
    out
}

fn merge_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut slash = false;
    for c in path.chars() {
        if !(slash && c == '/') {
            out.push(c);
        }
        slash = c == '/';
    }
    out
}

/// RFC 3986's dot segments; `%2e` is a dot and `\` a slash, as browsers and Envoy have it. `None` for a path that does not
/// begin with a slash.
fn remove_dots(path: &str) -> Option<String> {
    let slashed = path.replace('\\', "/");
    let mut segments: Vec<Cow<'_, str>> = Vec::new();
    let mut rest = slashed.strip_prefix('/')?.split('/').peekable();
    while let Some(segment) = rest.next() {
        let last = rest.peek().is_none();
        let dots = unescape_dots(segment);
        match dots.as_ref() {
            "." => {
                if last {
                    segments.push(Cow::Borrowed(""));
                }
            }
            ".." => {
                segments.pop();
                if last {
                    segments.push(Cow::Borrowed(""));
                }
            }
            _ => segments.push(dots),
        }
    }
    let mut out = String::with_capacity(slashed.len());
    for segment in segments {
        out.push('/');
        out.push_str(&segment);
    }
    if out.is_empty() {
        out.push('/');
    }
    Some(out)
}

fn unescape_dots(segment: &str) -> Cow<'_, str> {
    if segment.contains("%2e") || segment.contains("%2E") {
        Cow::Owned(segment.replace("%2e", ".").replace("%2E", "."))
    } else {
        Cow::Borrowed(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments() {
        for (from, to) in [
            ("/a/b/../c", "/a/c"),
            ("/a/./b", "/a/b"),
            ("/..", "/"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/%2e%2E/a", "/a"),
            ("/a/%2e%2e/b", "/b"),
            (r"/a\..\b", "/b"),
            ("/a//../b", "/a/b"),
            ("/.hidden", "/.hidden"),
            ("/a/...", "/a/..."),
        ] {
            assert_eq!(remove_dots(from).as_deref(), Some(to), "{from}");
            // Once is enough.
            assert_eq!(remove_dots(to).as_deref(), Some(to), "{to}");
        }
        assert_eq!(remove_dots("*"), None);
    }

    #[test]
    fn plain_paths_are_known() {
        assert!(is_plain("/api/catalog"));
        assert!(is_plain("/a.b/c"));
        assert!(!is_plain("/a/../b"));
        assert!(!is_plain("/a/%2E%2e"));
        assert!(!is_plain(r"/a\b"));
    }

    #[test]
    fn slashes() {
        assert_eq!(merge_slashes("//a///b/"), "/a/b/");
        assert_eq!(unescape_slashes("/a%2Fb%5cc%25"), "/a/b\\c%25");
        assert!(has_escaped_slash("/a%2fb"));
        assert!(!has_escaped_slash("/a%20b"));
    }
}
