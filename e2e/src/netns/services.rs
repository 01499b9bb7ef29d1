//! ClusterIPs: what kube-proxy does on a node, done in the bridge's namespace. Pods with a sidecar need it only for traffic
//! that the sidecar does not take, such as its own connection to the control plane.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use super::{Network, command};

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// ClusterIP.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// Pods behind it.
    pub endpoints: Vec<SocketAddr>,
}

/// Replaces the rules for ClusterIPs.
///
/// # Errors
/// When iptables refuses.
pub fn publish(network: &Network, services: &[ServicePort]) -> Result<()> {
    command::restore(&network.root().name, network.family(), &program(services))
}

fn program(services: &[ServicePort]) -> String {
    // The jumps stand in chains that nobody else uses here, so they can be declared (that is, emptied) as well.
    let mut out = String::from(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:FM_SERVICES - [0:0]\n-F PREROUTING\n-A PREROUTING -j FM_SERVICES\n",
    );
    for service in services {
        let count = service.endpoints.len();
        for (index, endpoint) in service.endpoints.iter().enumerate() {
            let rest = count - index;
            // The first of n takes one n-th, the second one of n-1 parts of what is left, and so on: equal shares.
            let share = if rest > 1 {
                let probability = 65536 / rest;
                format!(
                    " -m statistic --mode random --probability {:.6}",
                    probability as f64 / 65536.0
                )
            } else {
                String::new()
            };
            let _ = writeln!(
                out,
                "-A FM_SERVICES -d {} -p {} --dport {}{share} -j DNAT --to-destination {endpoint}",
                service.ip, service.protocol, service.port
            );
        }
    }
    out.push_str("COMMIT\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_get_equal_shares() {
        let text = program(&[ServicePort {
            ip: [10, 96, 1, 20].into(),
            port: 80,
            protocol: "tcp",
            endpoints: ["10.244.1.2:8080", "10.244.1.3:8080"]
                .map(|a| a.parse().expect("an address"))
                .to_vec(),
        }]);
        assert!(
            text.contains("--probability 0.500000 -j DNAT --to-destination 10.244.1.2:8080"),
            "{text}"
        );
        assert!(
            text.contains("--dport 80 -j DNAT --to-destination 10.244.1.3:8080"),
            "{text}"
        );
    }
}
