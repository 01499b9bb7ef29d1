//! The command line of `mesh-init`: istio-iptables' flags. Each can also be set by an environment variable, the long
//! name in upper case with underscores.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::config::{self, Config, ConfigError, DnsCapture, Interception, Owner, OwnerGroups};

/// Captures a pod's traffic by iptables rules in the present network namespace.
#[derive(Debug, Clone, Parser)]
#[command(name = "mesh-init", version, about, args_override_self = true)]
pub struct Cli {
    /// Port to which outbound TCP traffic is redirected
    #[arg(short = 'p', long, env = "ENVOY_PORT", default_value_t = 15001)]
    pub envoy_port: u16,
    /// Port to which inbound TCP traffic is redirected
    #[arg(short = 'z', long, env = "INBOUND_CAPTURE_PORT", default_value_t = 15006)]
    pub inbound_capture_port: u16,
    /// Port of the HBONE tunnel, never captured
    #[arg(short = 'e', long, env = "INBOUND_TUNNEL_PORT", default_value_t = 15008)]
    pub inbound_tunnel_port: u16,
    /// Users (ids or names, by commas) whose traffic is not captured [default: user istio-proxy, or 1337]
    #[arg(short = 'u', long, env = "PROXY_UID")]
    pub proxy_uid: Option<String>,
    /// Groups whose traffic is not captured [default: as --proxy-uid]
    #[arg(short = 'g', long, env = "PROXY_GID")]
    pub proxy_gid: Option<String>,
    /// Packet mark by which the proxy's traffic is told, in place of user and group
    #[arg(long, env = "PROXY_MARK", value_name = "MARK", value_parser = parse_mark)]
    pub proxy_mark: Option<u32>,
    /// REDIRECT or TPROXY
    #[arg(
        short = 'm',
        long,
        env = "ISTIO_INBOUND_INTERCEPTION_MODE",
        default_value = "REDIRECT",
        ignore_case = true,
        value_parser = ["REDIRECT", "TPROXY"]
    )]
    pub istio_inbound_interception_mode: String,
    /// Inbound ports to capture: '*', a list, or nothing
    #[arg(short = 'b', long, env = "ISTIO_INBOUND_PORTS", default_value = "")]
    pub istio_inbound_ports: String,
    /// Inbound ports not to capture; only with -b '*'
    #[arg(short = 'd', long, env = "ISTIO_LOCAL_EXCLUDE_PORTS", default_value = "")]
    pub istio_local_exclude_ports: String,
    /// Interfaces whose traffic is not captured
    #[arg(short = 'c', long, env = "ISTIO_EXCLUDE_INTERFACES", default_value = "")]
    pub istio_exclude_interfaces: String,
    /// Outbound ranges to capture: '*', a list, or nothing
    #[arg(short = 'i', long, env = "ISTIO_SERVICE_CIDR", default_value = "")]
    pub istio_service_cidr: String,
    /// Outbound ranges not to capture
    #[arg(short = 'x', long, env = "ISTIO_SERVICE_EXCLUDE_CIDR", default_value = "")]
    pub istio_service_exclude_cidr: String,
    /// Outbound ports to capture in every range
    #[arg(short = 'q', long, env = "ISTIO_OUTBOUND_PORTS", default_value = "")]
    pub istio_outbound_ports: String,
    /// Outbound ports not to capture
    #[arg(short = 'o', long, env = "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE", default_value = "")]
    pub istio_local_outbound_ports_exclude: String,
    /// Interfaces of virtual machines: what comes in there is captured as outbound
    #[arg(short = 'k', long, env = "KUBE_VIRT_INTERFACES", default_value = "")]
    pub kube_virt_interfaces: String,
    /// Mark of packets for the transparent proxy
    #[arg(short = 't', long, env = "ISTIO_INBOUND_TPROXY_MARK", default_value = "1337", value_parser = parse_mark)]
    pub istio_inbound_tproxy_mark: u32,
    /// Route table of the transparent proxy
    #[arg(short = 'r', long, env = "ISTIO_INBOUND_TPROXY_ROUTE_TABLE", default_value_t = 133)]
    pub istio_inbound_tproxy_route_table: u32,
    /// Print the rules and do nothing
    #[arg(short = 'n', long, env = "DRY_RUN", value_parser = boolean)]
    pub dry_run: bool,
    /// Port of the check that --run-validation makes
    #[arg(long, env = "IPTABLES_PROBE_PORT", default_value_t = 15002)]
    pub iptables_probe_port: u16,
    /// How long that check may take
    #[arg(long, env = "PROBE_TIMEOUT", default_value = "5s", value_parser = duration)]
    pub probe_timeout: Duration,
    /// Write no rules
    #[arg(long, env = "SKIP_RULE_APPLY", value_parser = boolean)]
    pub skip_rule_apply: bool,
    /// Check that capture works, after writing the rules if they are written; exit code 126 if it does not
    #[arg(long, env = "RUN_VALIDATION", value_parser = boolean)]
    pub run_validation: bool,
    /// Capture DNS queries to the servers of /etc/resolv.conf
    #[arg(long, env = "ISTIO_META_DNS_CAPTURE", value_parser = boolean)]
    pub redirect_dns: bool,
    /// With --redirect-dns: capture all queries on port 53, whichever server they are for
    #[arg(long, env = "CAPTURE_ALL_DNS", value_parser = boolean)]
    pub capture_all_dns: bool,
    /// Drop packets that connection tracking calls invalid
    #[arg(long, env = "INVALID_DROP", value_parser = boolean)]
    pub drop_invalid: bool,
    /// Write IPv6 rules even if the namespace has no global IPv6 address
    #[arg(long, env = "ISTIO_DUAL_STACK", value_parser = boolean)]
    pub dual_stack: bool,
    /// Network namespace to work in (a path such as /var/run/netns/NAME)
    #[arg(long, env = "NETWORK_NAMESPACE")]
    pub network_namespace: Option<PathBuf>,
    /// Called by the CNI plugin; changes nothing here
    #[arg(long, env = "CNI_MODE", value_parser = boolean)]
    pub cni_mode: bool,
    /// Replace rules of an earlier run; always done
    #[arg(long, env = "RECONCILE", value_parser = boolean)]
    pub reconcile: bool,
    /// Write the rules even if they are there; always done
    #[arg(long, env = "FORCE_APPLY", value_parser = boolean)]
    pub force_apply: bool,
    /// Remove the rules of an earlier run and write none
    #[arg(long, env = "CLEANUP_ONLY", value_parser = boolean)]
    pub cleanup_only: bool,
    /// Use nftables
    #[arg(long, env = "NATIVE_NFTABLES", value_parser = boolean)]
    pub native_nftables: bool,
    /// Which build of iptables to call: legacy or nft [default: the system's iptables]
    #[arg(long, env = "FORCE_IPTABLES_BINARY", value_parser = ["legacy", "nft"])]
    pub force_iptables_binary: Option<String>,
    /// Log level in Istio's form, SCOPE:LEVEL
    #[arg(long = "log_output_level", env = "LOG_OUTPUT_LEVEL", default_value = "default:info")]
    pub log_output_level: String,
    /// Log as JSON
    #[arg(long = "log_as_json", env = "LOG_AS_JSON", value_parser = boolean)]
    pub log_as_json: bool,
    /// Loopback range that is never captured outbound
    #[arg(
        long,
        env = "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR",
        default_value = "127.0.0.1/32",
        hide = true
    )]
    pub outbound_ipv4_loopback_cidr: String,
    /// Groups whose outbound traffic is captured: '*' or a list
    #[arg(long, env = "ISTIO_OUTBOUND_OWNER_GROUPS", default_value = "*", hide = true)]
    pub outbound_owner_groups: String,
    /// Groups whose outbound traffic is not captured
    #[arg(long, env = "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", default_value = "", hide = true)]
    pub outbound_owner_groups_exclude: String,
}

/// What the namespace itself contributes.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Text of /etc/resolv.conf.
    pub resolv_conf: String,
    /// A global IPv6 address is there.
    pub has_ipv6: bool,
}

fn parse_mark(value: &str) -> Result<u32, String> {
    let parsed = match value.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => value.parse(),
    };
    match parsed {
        Ok(mark) if mark != 0 => Ok(mark),
        _ => Err("expected a mark from 1 to 0xffffffff, decimal or after 0x".to_owned()),
    }
}

/// As Go reads them, since these variables are Istio's; what is set to nothing is not set.
fn boolean(value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// `5s`, `500ms`, `1m`.
fn duration(value: &str) -> Result<Duration, String> {
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err("expected a duration such as 5s".to_owned()),
    };
    let millis = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor));
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| "expected a duration such as 5s".to_owned())
}

impl Cli {
    /// Checks the values.
    ///
    /// # Errors
    /// When one cannot be what its flag needs.
    pub fn config(&self, around: &Surroundings) -> Result<Config, ConfigError> {
        if self.native_nftables {
            return Err(ConfigError::Unsupported {
                flag: "--native-nftables",
                instead: "leave it out; iptables (also iptables-nft) does the same",
            });
        }
        let loopback_flag = "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR";
        let loopback = config::range_list(loopback_flag, &self.outbound_ipv4_loopback_cidr)?;
        let [loopback_v4 @ ipnet::IpNet::V4(_)] = loopback.as_slice() else {
            return Err(ConfigError::Range {
                flag: loopback_flag,
                value: self.outbound_ipv4_loopback_cidr.clone(),
            });
        };
        Ok(Config {
            outbound_port: self.envoy_port,
            inbound_port: self.inbound_capture_port,
            tunnel_port: self.inbound_tunnel_port,
            owners: self.owners()?,
            interception: if self.istio_inbound_interception_mode.eq_ignore_ascii_case("TPROXY") {
                Interception::Tproxy
            } else {
                Interception::Redirect
            },
            inbound_include: config::ports("--istio-inbound-ports", &self.istio_inbound_ports)?,
            inbound_exclude: config::port_list("--istio-local-exclude-ports", &self.istio_local_exclude_ports)?,
            outbound_include: config::ranges("--istio-service-cidr", &self.istio_service_cidr)?,
            outbound_exclude: config::range_list("--istio-service-exclude-cidr", &self.istio_service_exclude_cidr)?,
            outbound_include_ports: config::port_list("--istio-outbound-ports", &self.istio_outbound_ports)?,
            outbound_exclude_ports: config::port_list(
                "--istio-local-outbound-ports-exclude",
                &self.istio_local_outbound_ports_exclude,
            )?,
            exclude_interfaces: config::names("--istio-exclude-interfaces", &self.istio_exclude_interfaces)?,
            virtual_interfaces: config::names("--kube-virt-interfaces", &self.kube_virt_interfaces)?,
            owner_groups: self.owner_groups()?,
            loopback_v4: *loopback_v4,
            tproxy_mark: self.istio_inbound_tproxy_mark,
            tproxy_table: self.istio_inbound_tproxy_route_table,
            dns: match (self.redirect_dns, self.capture_all_dns) {
                (false, _) => DnsCapture::Off,
                (true, true) => DnsCapture::All,
                (true, false) => DnsCapture::Servers(config::name_servers(&around.resolv_conf)),
            },
            dns_port: 15053,
            drop_invalid: self.drop_invalid,
            ipv6: self.dual_stack || around.has_ipv6,
        })
    }

    fn owners(&self) -> Result<Vec<Owner>, ConfigError> {
        if let Some(mark) = self.proxy_mark {
            let clash = [
                self.istio_inbound_tproxy_mark,
                self.istio_inbound_tproxy_mark.wrapping_add(1),
            ];
            if clash.contains(&mark) && self.istio_inbound_interception_mode.eq_ignore_ascii_case("TPROXY") {
                return Err(ConfigError::MarkClash { mark });
            }
            return Ok(vec![Owner::Mark(mark)]);
        }
        let default = || match lookup_user("istio-proxy") {
            Some((uid, _)) => uid.to_string(),
            None => "1337".to_owned(),
        };
        let uids = self.proxy_uid.clone().filter(|v| !v.is_empty()).unwrap_or_else(default);
        let gids = self
            .proxy_gid
            .clone()
            .filter(|v| !v.is_empty())
            .unwrap_or_else(|| uids.clone());
        let mut owners = Vec::new();
        for uid in config::names("--proxy-uid", &uids)? {
            let known = uid.parse().ok().or_else(|| Some(lookup_user(&uid)?.0));
            owners.push(Owner::Uid(known.ok_or(ConfigError::Owner {
                flag: "--proxy-uid",
                value: uid,
            })?));
        }
        for gid in config::names("--proxy-gid", &gids)? {
            // A list of user names stands for their groups when -g is left out.
            let known = gid.parse().ok().or_else(|| lookup_group(&gid));
            owners.push(Owner::Gid(known.ok_or(ConfigError::Owner {
                flag: "--proxy-gid",
                value: gid,
            })?));
        }
        Ok(owners)
    }

    fn owner_groups(&self) -> Result<OwnerGroups, ConfigError> {
        let except = config::names(
            "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE",
            &self.outbound_owner_groups_exclude,
        )?;
        if !except.is_empty() {
            return Ok(OwnerGroups::Except(except));
        }
        if self.outbound_owner_groups.trim() == "*" {
            return Ok(OwnerGroups::All);
        }
        let only = config::names("ISTIO_OUTBOUND_OWNER_GROUPS", &self.outbound_owner_groups)?;
        Ok(if only.is_empty() {
            OwnerGroups::All
        } else {
            OwnerGroups::Only(only)
        })
    }
}

fn lookup_user(name: &str) -> Option<(u32, u32)> {
    let user = nix::unistd::User::from_name(name).ok()??;
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

fn lookup_group(name: &str) -> Option<u32> {
    let group = nix::unistd::Group::from_name(name).ok().flatten();
    group.map(|g| g.gid.as_raw()).or_else(|| Some(lookup_user(name)?.1))
}
