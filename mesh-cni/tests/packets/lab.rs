//! Two network namespaces joined by a cable, with sockets that say who they are.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use socket2::{Domain, Protocol, Socket, Type};

/// Port of the application.
pub(crate) const APP: u16 = 8080;
/// Address of the pod.
pub(crate) const POD: &str = "10.198.0.2";
/// Address of the neighbour.
pub(crate) const NEIGHBOUR: &str = "10.198.0.1";
const PATIENCE: Duration = Duration::from_secs(5);

/// Who opens a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Who {
    /// Root in the pod's namespace.
    App,
    /// User and group 1337 in the pod's namespace.
    Proxy,
    /// Root in the pod's namespace with a packet mark.
    Marked(u32),
    /// The other namespace.
    Neighbour,
}

/// The two namespaces; they go when this is dropped.
pub(crate) struct Lab {
    pod: String,
    neighbour: String,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Lab {
    /// `None`, with a line that says why, where network namespaces cannot be made.
    pub(crate) fn new(name: &str) -> Option<Lab> {
        Lab::with_inbound(name, || serve_tcp("pod", 15006))
    }

    /// As [`Lab::new`], with a transparent socket for captured inbound connections.
    pub(crate) fn transparent(name: &str) -> Option<Lab> {
        Lab::with_inbound(name, serve_transparent)
    }

    fn with_inbound(name: &str, inbound: fn()) -> Option<Lab> {
        let lab = Lab::silent(name)?;
        lab.listen(inbound);
        Some(lab)
    }

    /// As [`Lab::new`], with nobody who listens.
    pub(crate) fn silent(name: &str) -> Option<Lab> {
        let missing = if !nix::unistd::geteuid().is_root() {
            Some("needs root")
        } else if Command::new("iptables-restore").arg("--version").output().is_err() {
            Some("needs iptables (apt-get install iptables)")
        } else if Command::new("ip").arg("-V").output().is_err() {
            Some("needs ip (apt-get install iproute2)")
        } else {
            None
        };
        if let Some(why) = missing {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{name}: {why}");
            eprintln!("{name}: skipped, {why}");
            return None;
        }
        let id = format!("fmt{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let lab = Lab {
            pod: format!("{id}-pod"),
            neighbour: format!("{id}-peer"),
        };
        let (pod, peer) = (&lab.pod, &lab.neighbour);
        ip(&format!("netns add {pod}"));
        ip(&format!("netns add {peer}"));
        ip(&format!(
            "link add eth0 netns {pod} type veth peer name eth0 netns {peer}"
        ));
        for (ns, host) in [(pod, 2), (peer, 1)] {
            ip(&format!("-n {ns} link set lo up"));
            ip(&format!("-n {ns} addr add 10.198.0.{host}/24 dev eth0"));
            ip(&format!("-n {ns} addr add fd00:198::{host}/64 dev eth0 nodad"));
            ip(&format!("-n {ns} link set eth0 up"));
        }
        ip(&format!("-n {peer} addr add 10.199.0.1/32 dev lo"));
        ip(&format!("-n {pod} route add default via {NEIGHBOUR}"));
        Some(lab)
    }

    fn listen(&self, inbound: fn()) {
        inside(&self.pod, inbound);
        for port in [APP, 8081, 15001, 15008, 15020, 15053] {
            inside(&self.pod, move || serve_tcp("pod", port));
        }
        for port in [53, 80, 9999] {
            inside(&self.neighbour, move || serve_tcp("neighbour", port));
        }
        // As the proxy's DNS server: its user puts its answers into the zone of the query, and an answer must come from
        // the address to which the query was redirected.
        inside(&self.pod, || {
            become_proxy();
            serve_udp("pod", UdpSocket::bind("127.0.0.1:15053").expect("bound"));
        });
        inside(&self.neighbour, || {
            serve_udp("neighbour", UdpSocket::from(dual_stack(53, Type::DGRAM)));
        });
    }

    /// Runs `mesh-init` in the pod.
    pub(crate) fn init(&self, arguments: &[&str], more: &[&str]) {
        let (code, error) = self.run(&[arguments, more].concat());
        assert_eq!(code, Some(0), "{error}");
    }

    /// File of the pod's network namespace.
    pub(crate) fn netns(&self) -> String {
        format!("/var/run/netns/{}", self.pod)
    }

    /// Exit code of `mesh-init`, and what it said.
    pub(crate) fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.pod, env!("CARGO_BIN_EXE_mesh-init")])
            .args(arguments)
            .output()
            .expect("ip runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), error)
    }

    /// Removes all rules of IPv6.
    pub(crate) fn flush_ipv6(&self) {
        ip(&format!("netns exec {} ip6tables -w -t nat -F", self.pod));
    }

    /// Rules, route rules and addresses of the loopback interface, without counters and dates.
    pub(crate) fn saved(&self) -> String {
        let mut text = String::new();
        for command in [
            "iptables-save",
            "ip6tables-save",
            "ip rule",
            "ip -6 rule",
            "ip -6 addr show lo",
        ] {
            let mut words = vec!["netns", "exec", &self.pod];
            words.extend(command.split_whitespace());
            let output = Command::new("ip").args(words).output().expect("ip runs");
            let lines = String::from_utf8_lossy(&output.stdout).into_owned();
            // An emptied table is printed with its policies, one never touched is not printed at all.
            for line in lines
                .lines()
                .filter(|l| !l.starts_with('#') && !l.starts_with('*') && *l != "COMMIT")
            {
                if !(line.starts_with(':') && line.contains("ACCEPT")) {
                    text.push_str(line);
                    text.push('\n');
                }
            }
        }
        text
    }

    /// What the socket that a connection reaches says of itself.
    pub(crate) fn tcp(&self, who: Who, to: (&str, u16)) -> String {
        let to = SocketAddr::new(to.0.parse().expect("an address"), to.1);
        self.act(who, move || {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP)).expect("socket");
            mark(&socket, who);
            if let Err(error) = socket.connect_timeout(&to.into(), PATIENCE) {
                return error.to_string();
            }
            let mut stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
            let mut text = String::new();
            match stream.read_to_string(&mut text) {
                Ok(_) => text,
                Err(error) => error.to_string(),
            }
        })
    }

    /// What the socket that a datagram reaches says of itself.
    pub(crate) fn udp(&self, who: Who, to: (&str, u16)) -> String {
        let to = SocketAddr::new(to.0.parse().expect("an address"), to.1);
        self.act(who, move || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("socket");
            socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
            socket.send_to(b"who", to).expect("sent");
            let mut buffer = [0; 64];
            match socket.recv_from(&mut buffer) {
                Ok((length, from)) if from == to => String::from_utf8_lossy(&buffer[..length]).into_owned(),
                Ok((_, from)) => format!("answer from {from}, which was not asked"),
                Err(error) => error.to_string(),
            }
        })
    }

    fn act(&self, who: Who, action: impl FnOnce() -> String + Send + 'static) -> String {
        let ns = if matches!(who, Who::Neighbour) {
            &self.neighbour
        } else {
            &self.pod
        };
        let thread = inside(ns, move || {
            if matches!(who, Who::Proxy) {
                become_proxy();
            }
            action()
        });
        thread.join().expect("no panic")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for ns in [&self.pod, &self.neighbour] {
            let _ = Command::new("ip").args(["netns", "del", ns]).output();
        }
    }
}

fn ip(line: &str) {
    let output = Command::new("ip")
        .args(line.split_whitespace())
        .output()
        .expect("ip runs");
    assert!(
        output.status.success(),
        "ip {line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn mark(socket: &Socket, who: Who) {
    if let Who::Marked(mark) = who {
        socket.set_mark(mark).expect("mark");
    }
}

/// Runs a function on a thread of its own inside a namespace. Sockets stay in the namespace in which they were made.
fn inside<T: Send + 'static>(ns: &str, action: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
    let path = format!("/var/run/netns/{ns}");
    let (entered, wait) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let file = std::fs::File::open(&path).expect("namespace");
        setns(file.as_fd(), CloneFlags::CLONE_NEWNET).expect("entered");
        entered.send(()).expect("someone waits");
        action()
    });
    wait.recv().expect("entered");
    thread
}

/// User and group 1337 for this thread only: the owner match looks at exactly these two.
fn become_proxy() {
    setfsgid(Gid::from_raw(1337));
    setfsuid(Uid::from_raw(1337));
}

fn dual_stack(port: u16, kind: Type) -> Socket {
    let socket = Socket::new(Domain::IPV6, kind, None).expect("socket");
    socket.set_only_v6(false).expect("dual stack");
    socket.set_reuse_address(true).expect("reuse");
    let any = SocketAddr::new(IpAddr::from([0u16; 8]), port);
    socket.bind(&any.into()).expect("bound");
    socket
}

/// Answers for as long as the process lives; tests are short.
fn serve_tcp(name: &'static str, port: u16) {
    let socket = dual_stack(port, Type::STREAM);
    socket.listen(16).expect("listening");
    let listener = TcpListener::from(socket);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = write!(stream, "{name} {port}");
        }
    });
}

fn serve_udp(name: &'static str, socket: UdpSocket) {
    let port = socket.local_addr().map(|a| a.port()).unwrap_or_default();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{name} {port}").as_bytes(), from);
        }
    });
}

fn serve_transparent() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
    socket.set_reuse_address(true).expect("reuse");
    socket.set_ip_transparent_v4(true).expect("transparent");
    let any: SocketAddr = "0.0.0.0:15006".parse().expect("an address");
    socket.bind(&any.into()).expect("bound");
    socket.listen(16).expect("listening");
    let listener = TcpListener::from(socket);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let local = stream.local_addr().map(|a| a.to_string()).unwrap_or_default();
            let _ = write!(stream, "transparent {local}");
        }
    });
}
