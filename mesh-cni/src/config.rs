//! What to capture: the checked form of the command line.

use std::net::IpAddr;

use ipnet::IpNet;

/// How inbound traffic reaches the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interception {
    /// By the nat table; the proxy asks the socket for the original destination.
    #[default]
    Redirect,
    /// By the mangle table and a route table of its own; source and destination address stay as they are.
    Tproxy,
}

/// By what the proxy's own packets are told from the application's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// User of the socket.
    Uid(u32),
    /// Group of the socket.
    Gid(u32),
    /// Packet mark: for user namespaces in which user 1337 does not exist.
    Mark(u32),
}

/// Which groups' traffic is captured (`ISTIO_OUTBOUND_OWNER_GROUPS` and `…_EXCLUDE`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OwnerGroups {
    /// Every group.
    #[default]
    All,
    /// Only these.
    Only(Vec<String>),
    /// All but these.
    Except(Vec<String>),
}

/// A list of ports in which `*` means every port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// `*`.
    All,
    /// These; an empty list captures nothing.
    List(Vec<u16>),
}

/// A list of address ranges in which `*` means every address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ranges {
    /// `*`.
    All,
    /// These; an empty list captures nothing.
    List(Vec<IpNet>),
}

/// Capture of DNS queries into the proxy's DNS server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DnsCapture {
    /// Queries go where they would have gone.
    #[default]
    Off,
    /// Queries to these servers, the ones of resolv.conf.
    Servers(Vec<IpAddr>),
    /// All queries on port 53.
    All,
}

/// All that decides the rules. [`Config::default`] has the defaults of istio-iptables' flags; the injector's arguments
/// (`-i * -b * -d 15090,15021,15020`) are on top of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Port to which outbound traffic goes.
    pub outbound_port: u16,
    /// Port to which inbound traffic goes.
    pub inbound_port: u16,
    /// Port of the HBONE tunnel, never captured.
    pub tunnel_port: u16,
    /// The proxy's own users, groups or mark, in the order in which their rules appear.
    pub owners: Vec<Owner>,
    /// How inbound traffic is captured.
    pub interception: Interception,
    /// Inbound ports to capture.
    pub inbound_include: Ports,
    /// Inbound ports left alone; counts only when all ports are captured.
    pub inbound_exclude: Vec<u16>,
    /// Outbound ranges to capture.
    pub outbound_include: Ranges,
    /// Outbound ranges left alone.
    pub outbound_exclude: Vec<IpNet>,
    /// Outbound ports captured also outside the included ranges.
    pub outbound_include_ports: Vec<u16>,
    /// Outbound ports left alone.
    pub outbound_exclude_ports: Vec<u16>,
    /// Interfaces whose traffic is left alone in both directions.
    pub exclude_interfaces: Vec<String>,
    /// Interfaces of virtual machines, whose inbound traffic counts as outbound of this pod.
    pub virtual_interfaces: Vec<String>,
    /// Groups whose outbound traffic is captured.
    pub owner_groups: OwnerGroups,
    /// Loopback range that is never captured outbound (`ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR`).
    pub loopback_v4: IpNet,
    /// Mark of packets for the transparent proxy; the mark after it is taken too.
    pub tproxy_mark: u32,
    /// Route table that hands marked packets to the loopback interface.
    pub tproxy_table: u32,
    /// DNS capture.
    pub dns: DnsCapture,
    /// Port of the proxy's DNS server.
    pub dns_port: u16,
    /// Drop packets that connection tracking calls invalid, so that they reach no closed socket and cause no reset.
    pub drop_invalid: bool,
    /// Write rules for IPv6 too.
    pub ipv6: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            outbound_port: 15001,
            inbound_port: 15006,
            tunnel_port: 15008,
            owners: vec![Owner::Uid(1337), Owner::Gid(1337)],
            interception: Interception::Redirect,
            inbound_include: Ports::List(Vec::new()),
            inbound_exclude: Vec::new(),
            outbound_include: Ranges::List(Vec::new()),
            outbound_exclude: Vec::new(),
            outbound_include_ports: Vec::new(),
            outbound_exclude_ports: Vec::new(),
            exclude_interfaces: Vec::new(),
            virtual_interfaces: Vec::new(),
            owner_groups: OwnerGroups::All,
            loopback_v4: IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::LOCALHOST, 32)),
            tproxy_mark: 1337,
            tproxy_table: 133,
            dns: DnsCapture::Off,
            dns_port: 15053,
            drop_invalid: false,
            ipv6: false,
        }
    }
}

/// Why a value of a flag is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not a port number.
    #[error("{flag}: {value:?} is no port number (1 to 65535)")]
    Port {
        /// Flag.
        flag: &'static str,
        /// Part of its value.
        value: String,
    },
    /// Not an address range.
    #[error("{flag}: {value:?} is no address range such as 10.0.0.0/8")]
    Range {
        /// Flag.
        flag: &'static str,
        /// Part of its value.
        value: String,
    },
    /// `*` beside other values.
    #[error("{flag}: '*' stands for everything and cannot be combined with other values")]
    Star {
        /// Flag.
        flag: &'static str,
    },
    /// An interface or group name that could not be one.
    #[error("{flag}: {value:?} is no valid name")]
    Name {
        /// Flag.
        flag: &'static str,
        /// Part of its value.
        value: String,
    },
    /// A user or group that does not exist.
    #[error("{flag}: {value:?} is neither a number nor a known name")]
    Owner {
        /// Flag.
        flag: &'static str,
        /// Part of its value.
        value: String,
    },
    /// Marks that would be taken for one another.
    #[error(
        "--proxy-mark {mark} is also a mark of the transparent proxy ({mark} of --istio-inbound-tproxy-mark): choose another"
    )]
    MarkClash {
        /// The mark.
        mark: u32,
    },
    /// Something that is not built yet.
    #[error("{flag} is not supported yet: {instead}")]
    Unsupported {
        /// Flag.
        flag: &'static str,
        /// What to do in its place.
        instead: &'static str,
    },
}

fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// A comma-separated list of ports.
///
/// # Errors
/// When an item is no port number.
pub fn port_list(flag: &'static str, value: &str) -> Result<Vec<u16>, ConfigError> {
    items(value)
        .map(|item| match item.parse::<u16>() {
            Ok(port) if port != 0 => Ok(port),
            _ => Err(ConfigError::Port {
                flag,
                value: item.to_owned(),
            }),
        })
        .collect()
}

/// `*` or a comma-separated list of ports.
///
/// # Errors
/// When an item is no port number, or `*` does not stand alone.
pub fn ports(flag: &'static str, value: &str) -> Result<Ports, ConfigError> {
    if value.trim() == "*" {
        return Ok(Ports::All);
    }
    if items(value).any(|item| item == "*") {
        return Err(ConfigError::Star { flag });
    }
    port_list(flag, value).map(Ports::List)
}

/// A comma-separated list of ranges; a bare address is a range of one.
///
/// # Errors
/// When an item is no range.
pub fn range_list(flag: &'static str, value: &str) -> Result<Vec<IpNet>, ConfigError> {
    items(value)
        .map(|item| {
            let net = item
                .parse::<IpNet>()
                .or_else(|_| item.parse::<IpAddr>().map(IpNet::from));
            net.map(|n| n.trunc()).map_err(|_| ConfigError::Range {
                flag,
                value: item.to_owned(),
            })
        })
        .collect()
}

/// `*` or a comma-separated list of ranges.
///
/// # Errors
/// When an item is no range, or `*` does not stand alone.
pub fn ranges(flag: &'static str, value: &str) -> Result<Ranges, ConfigError> {
    if value.trim() == "*" {
        return Ok(Ranges::All);
    }
    if items(value).any(|item| item == "*") {
        return Err(ConfigError::Star { flag });
    }
    range_list(flag, value).map(Ranges::List)
}

/// A comma-separated list of interface or group names. Anything that could end a rule's line is refused, since names go
/// into a program for `iptables-restore`.
///
/// # Errors
/// When a name has other characters than letters, digits and `-_.:@+`.
pub fn names(flag: &'static str, value: &str) -> Result<Vec<String>, ConfigError> {
    let valid = |item: &str| {
        item.len() <= 32
            && !item.starts_with('-')
            && item.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:@+".contains(c))
    };
    items(value)
        .map(|item| {
            valid(item).then(|| item.to_owned()).ok_or_else(|| ConfigError::Name {
                flag,
                value: item.to_owned(),
            })
        })
        .collect()
}

/// Name servers in the text of a resolv.conf.
pub fn name_servers(resolv_conf: &str) -> Vec<IpAddr> {
    resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        // A scope (`fe80::1%eth0`) cannot stand in a rule.
        .filter_map(|rest| rest.trim().split('%').next()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_alone() {
        assert_eq!(ports("-b", "*"), Ok(Ports::All));
        assert_eq!(ports("-b", ""), Ok(Ports::List(vec![])));
        assert_eq!(ports("-b", "80, 443"), Ok(Ports::List(vec![80, 443])));
        assert_eq!(ports("-b", "80,*"), Err(ConfigError::Star { flag: "-b" }));
        assert!(ports("-b", "0").is_err());
        assert!(ports("-b", "70000").is_err());
    }

    #[test]
    fn ranges_are_cut_to_their_prefix() {
        let list = range_list("-x", "10.1.2.3/8,192.0.2.1,fd00::1/64").expect("well formed");
        let text: Vec<String> = list.iter().map(ToString::to_string).collect();
        assert_eq!(text, ["10.0.0.0/8", "192.0.2.1/32", "fd00::/64"]);
        assert!(range_list("-x", "10.0.0.0/33").is_err());
    }

    #[test]
    fn names_cannot_smuggle_rules() {
        assert!(names("-c", "eth0,net1").is_ok());
        for bad in ["eth0 -j ACCEPT", "-j", "a\nCOMMIT"] {
            assert!(names("-c", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn name_servers_are_found() {
        let text =
            "# nameserver 1.1.1.1\nsearch a.b\nnameserver 10.96.0.10\nnameserver  fd00::a%eth0\noptions ndots:5\n";
        let found = name_servers(text);
        assert_eq!(
            found,
            ["10.96.0.10".parse::<IpAddr>().unwrap(), "fd00::a".parse().unwrap()]
        );
    }
}
