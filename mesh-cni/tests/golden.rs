//! The rules of several command lines, as texts to read: `tests/golden/NAME.txt`.
//! `UPDATE_GOLDEN=1 cargo test -p mesh-cni --test golden` writes them anew.

use std::path::PathBuf;

use clap::Parser as _;
use mesh_cni::cli::{Cli, Surroundings};

const INJECTOR: &str = "-p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x= -b * -d 15090,15021,15020";

fn check(name: &str, line: &str, ipv6: bool) {
    let cli =
        Cli::try_parse_from(std::iter::once("mesh-init").chain(line.split_whitespace())).expect("flags of the test");
    let around = Surroundings {
        resolv_conf: "nameserver 10.96.0.10\nnameserver fd00:10:96::a\n".to_owned(),
        has_ipv6: ipv6,
    };
    let config = cli.config(&around).expect("a valid configuration");
    let text = format!("# mesh-init {line}\n{}", mesh_cni::rules(&config).text());
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).expect("golden file written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        golden,
        text,
        "{} differs; UPDATE_GOLDEN=1 writes it anew",
        path.display()
    );
}

#[test]
fn the_injectors_arguments() {
    check("injector", INJECTOR, false);
}

#[test]
fn both_families() {
    check(
        "dual-stack",
        &format!("{INJECTOR} --dual-stack -x 10.9.0.0/16,fd00:9::/32"),
        false,
    );
}

#[test]
fn flags_defaults() {
    check("defaults", "-u 1337", false);
}

#[test]
fn selected_ports_and_ranges() {
    check(
        "selected",
        "-u 1337,1338 -g 1337 -b 8080,9090 -d 15020 -i 10.0.0.0/8,fd00::/8 -x 10.5.0.0/16 -q 27017 -o 25,9093 -c net1 --drop-invalid",
        true,
    );
}

#[test]
fn dns_of_resolv_conf() {
    check("dns", &format!("{INJECTOR} --redirect-dns"), true);
}

#[test]
fn all_dns() {
    check(
        "dns-all",
        &format!("{INJECTOR} --redirect-dns --capture-all-dns"),
        false,
    );
}

#[test]
fn transparent_proxy() {
    check(
        "tproxy",
        "-u 1337 -m TPROXY -i * -b * -d 15090,15021,15020 -c net1",
        true,
    );
}

#[test]
fn transparent_proxy_with_selected_ports() {
    check(
        "tproxy-ports",
        "-u 0 -g 1337 -m tproxy -i * -b 80,443 -t 99 -r 7",
        false,
    );
}

#[test]
fn mark_in_place_of_user() {
    check("mark", &format!("{INJECTOR} --proxy-mark 0x4d"), false);
}

#[test]
fn virtual_machines_and_loopback_range() {
    check("virtual", "-u 1337 -i 10.0.0.0/8,127.0.0.0/8 -k tap0 -b *", false);
}

#[test]
fn bad_values_name_their_flag() {
    let around = Surroundings::default();
    for (line, expected) in [
        ("-b 80,*", "--istio-inbound-ports: '*' stands for everything"),
        ("-o 0", "--istio-local-outbound-ports-exclude: \"0\" is no port"),
        ("-i 10.0.0.0/40", "--istio-service-cidr: \"10.0.0.0/40\""),
        ("-u nobody-of-this-name", "--proxy-uid: \"nobody-of-this-name\""),
        ("-m TPROXY --proxy-mark 1338", "--proxy-mark 1338 is also"),
        ("--native-nftables", "--native-nftables is not supported"),
    ] {
        let cli =
            Cli::try_parse_from(std::iter::once("mesh-init").chain(line.split_whitespace())).expect("flags parse");
        let error = cli.config(&around).expect_err(line).to_string();
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn everything_that_the_injector_writes_is_taken() {
    // Words as in the arguments of a container, where an empty list is an argument of its own.
    let words = "-p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x  -b * -d 15090,15021,15020 -q 80 -o 25 -k tap0 -c net1 \
        --log_output_level=default:info --log_as_json --run-validation --skip-rule-apply --force-apply";
    let cli = Cli::try_parse_from(std::iter::once("mesh-init").chain(words.split(' '))).expect("the injector's flags");
    assert!(cli.run_validation && cli.skip_rule_apply && cli.log_as_json);
    assert_eq!(cli.istio_service_exclude_cidr, "");
    assert_eq!(cli.probe_timeout, std::time::Duration::from_secs(5));
    cli.config(&Surroundings::default()).expect("a valid configuration");
}
