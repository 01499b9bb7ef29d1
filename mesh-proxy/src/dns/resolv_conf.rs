//! The two lines of `resolv.conf` that the DNS proxy needs.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

const PORT: u16 = 53;
/// Between two looks at the file.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// `nameserver` and `search`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ResolvConf {
    pub(super) nameservers: Vec<SocketAddr>,
    /// Lower case, without trailing dots.
    pub(super) search: Vec<String>,
}

impl ResolvConf {
    /// Reads the text; lines that make no sense are skipped, as libc does.
    pub(super) fn parse(text: &str) -> Self {
        let mut conf = ResolvConf::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // A scope (`fe80::1%eth0`) cannot be kept in an address.
                    let address = words.next().map(|w| w.split('%').next().unwrap_or(w));
                    let address = address.and_then(|w| w.parse::<IpAddr>().ok());
                    conf.nameservers.extend(address.map(|ip| SocketAddr::new(ip, PORT)));
                }
                Some("search" | "domain") => {
                    let clean = |w: &str| w.trim_end_matches('.').to_ascii_lowercase();
                    conf.search = words.map(clean).filter(|w| !w.is_empty()).collect();
                }
                _ => {}
            }
        }
        conf
    }
}

/// A file that is read again when it changes.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    conf: Arc<ResolvConf>,
    looked: Instant,
    modified: Option<SystemTime>,
}

impl Watched {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        Ok(Watched {
            path: path.to_owned(),
            state: Mutex::new(State {
                conf: Arc::new(ResolvConf::parse(&text)),
                looked: Instant::now(),
                modified: modified(path),
            }),
        })
    }

    pub(super) fn get(&self) -> Arc<ResolvConf> {
        let mut state = self.state.lock();
        if state.looked.elapsed() >= LOOK_AGAIN {
            state.looked = Instant::now();
            let now = modified(&self.path);
            if now != state.modified
                && let Ok(text) = std::fs::read_to_string(&self.path)
            {
                state.conf = Arc::new(ResolvConf::parse(&text));
                state.modified = now;
            }
        }
        Arc::clone(&state.conf)
    }
}

pub(super) fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|m| m.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_matter() {
        let conf = ResolvConf::parse(
            "# comment\nsearch Shop.svc.cluster.local. svc.cluster.local\nnameserver 10.96.0.10\nnameserver fe80::1%eth0\n\
             nameserver nonsense\noptions ndots:5\n",
        );
        let expected = ["10.96.0.10:53", "[fe80::1]:53"].map(|a| a.parse().expect("an address"));
        assert_eq!(conf.nameservers, expected);
        assert_eq!(conf.search, ["shop.svc.cluster.local", "svc.cluster.local"]);
    }
}
