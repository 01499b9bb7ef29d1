//! The harness itself: pods reach one another and nothing else, ClusterIPs work, and nothing stays behind.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::netns::capture::{Capture, holding};
use e2e::netns::services::{ServicePort, publish};
use e2e::netns::{Family, Space, enter};

const PATIENCE: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(20);

fn serve(space: &Space, port: u16, text: &'static str) {
    let address = SocketAddr::from((space.ip, port));
    let listener = enter::inside(&space.path(), move || TcpListener::bind(address))
        .expect("namespace")
        .expect("bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(text.as_bytes());
        }
    });
}

fn ask(from: Option<&Space>, to: SocketAddr) -> Result<String, String> {
    let path = from.map(Space::path);
    let mut stream = enter::connect(path.as_deref(), to, PATIENCE).map_err(|error| format!("{error:#}"))?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

#[test]
fn pods_reach_each_other_and_nothing_else() {
    reach(
        "pods_reach_each_other_and_nothing_else",
        Family::V4,
        ["192.0.2.1:80", "1.1.1.1:443"],
    );
}

#[test]
fn pods_with_ipv6_reach_each_other_and_nothing_else() {
    let outside = ["[2001:db8::1]:80", "[2606:4700:4700::1111]:443"];
    reach("pods_with_ipv6_reach_each_other_and_nothing_else", Family::V6, outside);
}

fn reach(test: &str, family: Family, outside: [&str; 2]) {
    let Some(network) = e2e::testing::network_or_skip(test, family) else {
        return;
    };
    let (a, b) = (network.add("a").expect("pod"), network.add("b").expect("pod"));
    serve(&b, 8080, "canary-7f3a");
    let direct = SocketAddr::from((b.ip, 8080));

    let capture = Capture::start(&network).expect("capture");
    assert_eq!(ask(Some(&a), direct).as_deref(), Ok("canary-7f3a"));
    assert!(holding(&capture.stop().expect("packets"), b"canary-7f3a") > 0);
    assert_eq!(ask(None, direct).as_deref(), Ok("canary-7f3a"), "from the host");

    let cluster_ip = network.service_address(20);
    let service = |endpoints: &[SocketAddr]| ServicePort {
        ip: cluster_ip,
        port: 80,
        protocol: "tcp",
        endpoints: endpoints.to_vec(),
    };
    publish(&network, &[service(&[SocketAddr::new(b.ip, 8080)])]).expect("rules");
    let by_service = SocketAddr::from((cluster_ip, 80));
    assert_eq!(ask(Some(&a), by_service).as_deref(), Ok("canary-7f3a"));
    assert_eq!(ask(None, by_service).as_deref(), Ok("canary-7f3a"), "from the host");
    publish(&network, &[service(&[])]).expect("rules");
    assert!(
        ask(Some(&a), by_service).is_err(),
        "a Service without endpoints refuses"
    );

    for outside in outside {
        let refused = ask(Some(&a), outside.parse().expect("an address")).expect_err(outside);
        assert!(
            refused.contains("unreachable") || refused.contains("refused"),
            "{refused}"
        );
    }
    let host = SocketAddr::from((network.host_address(), 22));
    ask(Some(&a), host).expect_err("the host is not for pods");
}

#[test]
fn nothing_stays_behind() {
    let Some(network) = e2e::testing::network_or_skip("nothing_stays_behind", Family::V4) else {
        return;
    };
    let space = network.add("gone").expect("pod");
    network
        .write_etc(&space, "resolv.conf", "nameserver 192.0.2.53\n")
        .expect("written");
    let mut child = std::process::Command::new("ip")
        .args(["netns", "exec", &space.name, "sleep", "600"])
        .spawn()
        .expect("a process in the pod");
    // The process is in the pod only when `ip` has entered it.
    let inode = |path: &Path| std::fs::metadata(path).map(|meta| meta.ino()).ok();
    let inside = PathBuf::from(format!("/proc/{}/ns/net", child.id()));
    e2e::testing::eventually("the process is in the pod", LIMIT, || {
        inode(&inside).is_some_and(|inode_now| Some(inode_now) == inode(&space.path()))
    });
    let id = network.id().to_owned();
    drop(network);
    assert!(!child.wait().expect("waited").success(), "the process was ended");
    for folder in ["/run/netns", "/etc/netns", "/run/ferromesh", "/sys/class/net"] {
        let left: Vec<_> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.contains(&id))
            .collect();
        assert!(left.is_empty(), "{folder}: {left:?}");
    }
}
