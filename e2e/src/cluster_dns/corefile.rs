//! What a Corefile as kubeadm writes it says to this server.

/// The parts that are done here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// Port of the first server block.
    pub(super) port: u16,
    /// Zone of the plugin `kubernetes`, in lower case without a last dot.
    pub(super) zone: String,
    /// Seconds for which answers may be kept.
    pub(super) ttl: u32,
    /// Plugins that are not done here, as they are written.
    pub(super) ignored: Vec<String>,
}

/// Plugins whose work is done, or has no meaning with nothing behind this server.
const DONE: [&str; 5] = ["errors", "health", "ready", "loadbalance", "kubernetes"];

/// Reads the text; what is missing has CoreDNS's default.
pub(super) fn parse(text: &str) -> Options {
    let mut options = Options {
        port: 53,
        zone: "cluster.local".to_owned(),
        ttl: 5,
        ignored: Vec::new(),
    };
    let mut depth = 0_u32;
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let words: Vec<_> = line.split_whitespace().filter(|w| *w != "{").collect();
        match (depth, words.as_slice()) {
            (0, [server, ..]) => {
                if let Some(port) = server.rsplit_once(':').and_then(|(_, port)| port.parse().ok()) {
                    options.port = port;
                }
            }
            (1, ["kubernetes", zone, ..]) => options.zone = zone.trim_end_matches('.').to_ascii_lowercase(),
            (1, [plugin, ..]) if *plugin != "}" && !DONE.contains(plugin) => options.ignored.push(words.join(" ")),
            (2, ["ttl", seconds, ..]) => options.ttl = seconds.parse().unwrap_or(options.ttl),
            _ => {}
        }
        if line.ends_with('{') {
            depth += 1;
        } else if line == "}" {
            depth = depth.saturating_sub(1);
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubeadm_writes_is_read() {
        let text = "\
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes Mesh.test. in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 100
    }
    cache 30
}
";
        let options = parse(text);
        assert_eq!(
            (options.port, options.zone.as_str(), options.ttl),
            (53, "mesh.test", 30)
        );
        assert_eq!(
            options.ignored,
            ["prometheus :9153", "forward . /etc/resolv.conf", "cache 30"]
        );
    }

    #[test]
    fn nothing_gives_the_defaults() {
        let options = parse("");
        assert_eq!(
            (options.port, options.zone.as_str(), options.ttl),
            (53, "cluster.local", 5)
        );
    }
}
