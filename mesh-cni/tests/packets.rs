//! Real rules and real packets: a pod and a neighbour, each in a network namespace, and a look at where a packet ends.
//! Needs root and iptables; without them each test says why and passes, but under `CI=true` it fails.

#[path = "packets/lab.rs"]
mod lab;
#[path = "packets/plugin.rs"]
mod plugin;

use lab::{APP, Lab, NEIGHBOUR, POD, Who};

const INJECTOR: &[&str] = &["-u", "1337", "-i", "*", "-b", "*", "-d", "15090,15021,15020"];

#[test]
fn redirect_takes_each_path() {
    let Some(lab) = Lab::new("redirect") else { return };
    lab.init(INJECTOR, &["-o", "9999", "-x", "10.199.0.0/16"]);
    let v4 = [
        ("outbound of the application", Who::App, (NEIGHBOUR, 80), "pod 15001"),
        ("outbound of the proxy", Who::Proxy, (NEIGHBOUR, 80), "neighbour 80"),
        ("an excluded port", Who::App, (NEIGHBOUR, 9999), "neighbour 9999"),
        ("an excluded range", Who::App, ("10.199.0.1", 80), "neighbour 80"),
        (
            "the application to itself by loopback",
            Who::App,
            ("127.0.0.1", APP),
            "pod 8080",
        ),
        ("the application to its own address", Who::App, (POD, APP), "pod 8080"),
        (
            "the proxy to the pod's own address",
            Who::Proxy,
            (POD, APP),
            "pod 15006",
        ),
        (
            "the proxy to its application by loopback",
            Who::Proxy,
            ("127.0.0.1", APP),
            "pod 8080",
        ),
        ("inbound", Who::Neighbour, (POD, APP), "pod 15006"),
        ("an excluded inbound port", Who::Neighbour, (POD, 15020), "pod 15020"),
        ("the tunnel port", Who::Neighbour, (POD, 15008), "pod 15008"),
    ];
    for (what, who, to, expected) in v4 {
        assert_eq!(lab.tcp(who, to), expected, "{what}");
    }
    let v6 = [
        (
            "outbound of the application",
            Who::App,
            ("fd00:198::1", 80),
            "pod 15001",
        ),
        ("outbound of the proxy", Who::Proxy, ("fd00:198::1", 80), "neighbour 80"),
        (
            "the application to itself by loopback",
            Who::App,
            ("::1", APP),
            "pod 8080",
        ),
        ("inbound", Who::Neighbour, ("fd00:198::2", APP), "pod 15006"),
    ];
    for (what, who, to, expected) in v6 {
        assert_eq!(lab.tcp(who, to), expected, "{what} over IPv6");
    }
    assert_eq!(
        lab.udp(Who::App, (NEIGHBOUR, 53)),
        "neighbour 53",
        "DNS without capture"
    );
}

#[test]
fn dns_goes_to_the_proxy_when_asked() {
    let Some(lab) = Lab::new("dns") else { return };
    lab.init(INJECTOR, &["--redirect-dns", "--capture-all-dns"]);
    assert_eq!(lab.udp(Who::App, (NEIGHBOUR, 53)), "pod 15053");
    assert_eq!(lab.tcp(Who::App, (NEIGHBOUR, 53)), "pod 15053");
    assert_eq!(lab.udp(Who::Proxy, (NEIGHBOUR, 53)), "neighbour 53");
    assert_eq!(lab.tcp(Who::App, (NEIGHBOUR, 80)), "pod 15001");
}

#[test]
fn a_mark_stands_for_the_proxys_user() {
    let Some(lab) = Lab::new("mark") else { return };
    lab.init(INJECTOR, &["--proxy-mark", "77"]);
    assert_eq!(lab.tcp(Who::App, (NEIGHBOUR, 80)), "pod 15001");
    assert_eq!(
        lab.tcp(Who::Proxy, (NEIGHBOUR, 80)),
        "pod 15001",
        "the user counts no more"
    );
    assert_eq!(lab.tcp(Who::Marked(77), (NEIGHBOUR, 80)), "neighbour 80");
    assert_eq!(lab.tcp(Who::Marked(77), (POD, APP)), "pod 15006");
    assert_eq!(lab.tcp(Who::Neighbour, (POD, APP)), "pod 15006");
}

#[test]
fn selected_ports_and_ranges_only() {
    let Some(lab) = Lab::new("selected") else { return };
    lab.init(&["-u", "1337", "-b", "8081", "-i", "10.199.0.0/16", "-q", "9999"], &[]);
    assert_eq!(lab.tcp(Who::App, ("10.199.0.1", 80)), "pod 15001");
    assert_eq!(lab.tcp(Who::App, (NEIGHBOUR, 80)), "neighbour 80");
    assert_eq!(lab.tcp(Who::App, (NEIGHBOUR, 9999)), "pod 15001");
    assert_eq!(lab.tcp(Who::Neighbour, (POD, APP)), "pod 8080");
    assert_eq!(lab.tcp(Who::Neighbour, (POD, 8081)), "pod 15006");
}

#[test]
fn transparent_proxy_keeps_both_addresses() {
    let Some(lab) = Lab::transparent("tproxy") else { return };
    lab.init(INJECTOR, &["-m", "TPROXY"]);
    // A transparent socket's local address is the one that the caller asked for.
    assert_eq!(lab.tcp(Who::Neighbour, (POD, APP)), "transparent 10.198.0.2:8080");
    assert_eq!(lab.tcp(Who::Neighbour, (POD, 15020)), "pod 15020");
    assert_eq!(lab.tcp(Who::App, (NEIGHBOUR, 80)), "pod 15001");
    assert_eq!(lab.tcp(Who::Proxy, (NEIGHBOUR, 80)), "neighbour 80");
    assert_eq!(lab.tcp(Who::App, ("127.0.0.1", APP)), "pod 8080");
}

#[test]
fn running_twice_is_running_once_and_cleaning_up_is_complete() {
    let Some(lab) = Lab::new("twice") else { return };
    let before = lab.saved();
    for mode in ["REDIRECT", "TPROXY", "REDIRECT", "TPROXY"] {
        let arguments = [
            "-m",
            mode,
            "--redirect-dns",
            "--capture-all-dns",
            "--drop-invalid",
            "-c",
            "lo9",
        ];
        lab.init(INJECTOR, &arguments);
        let once = lab.saved();
        assert_eq!(once.contains("fwmark 0x539"), mode == "TPROXY", "{once}");
        lab.init(INJECTOR, &arguments);
        assert_eq!(lab.saved(), once, "{mode}");
    }
    // Called without the mode of the last run, whose marks and routes must go nevertheless.
    lab.init(INJECTOR, &["-c", "lo9", "--cleanup-only"]);
    assert_eq!(lab.saved(), before);
}

#[test]
fn validation_tells_captured_from_not() {
    let Some(lab) = Lab::silent("validation") else { return };
    let check = ["--run-validation", "--skip-rule-apply", "--probe-timeout", "300ms"];
    let checked = |more: &[&str]| lab.run(&[INJECTOR, &check, more].concat());
    let (code, said) = checked(&[]);
    assert_eq!(code, Some(126), "{said}");
    assert!(
        said.contains("is not captured: a connection to 127.0.0.6:15002"),
        "{said}"
    );
    for more in [
        &["-m", "REDIRECT"][..],
        &["-m", "TPROXY"],
        &["--proxy-mark", "77"],
        &["-b", "", "-i", ""],
    ] {
        // By itself, and as the last step of the one that writes the rules.
        lab.init(INJECTOR, &[more, &["--run-validation"]].concat());
        assert_eq!(checked(more).0, Some(0), "{more:?}");
    }
    // Rules of one family do not speak for the other.
    lab.init(INJECTOR, &[]);
    lab.flush_ipv6();
    let (code, said) = checked(&[]);
    assert_eq!(code, Some(126), "{said}");
    assert!(said.contains("[::6]:15002"), "{said}");
    // The rules are for another port than the proxy's.
    let (code, said) = checked(&["-z", "16006"]);
    assert_eq!(code, Some(126), "{said}");
}
