//! Sockets of the pod, as the kernel lists them: how a proxy learns that the application beside it has ended.

use std::collections::HashSet;

/// State of a listening socket in the kernel's tables.
const LISTEN: &str = "0A";

/// Whether another process of this network namespace listens on TCP. False where the kernel does not tell.
pub(super) fn others_listen() -> bool {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"].map(std::fs::read_to_string);
    let mut listening = tables.iter().flatten().flat_map(|table| listening(table)).peekable();
    // Looking through our own descriptors is the expensive half.
    if listening.peek().is_none() {
        return false;
    }
    let own = own_sockets();
    listening.any(|inode| !own.contains(&inode))
}

/// Inodes of the listening sockets in a table of `/proc/net`.
fn listening(table: &str) -> impl Iterator<Item = u64> {
    table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let state = fields.nth(3)?;
        let inode = fields.nth(5)?.parse().ok()?;
        (state == LISTEN).then_some(inode)
    })
}

/// Inodes of this process's own sockets.
fn own_sockets() -> HashSet<u64> {
    let descriptors = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    descriptors
        .filter_map(|descriptor| {
            let target = std::fs::read_link(descriptor.path()).ok()?;
            let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            inode.parse().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_sockets_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:3A98 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1337        0 4711 1 0 100 0 0 10 0\n   \
            1: 0100007F:3A98 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0 20 4 30 10 -1\n\
            broken\n";
        assert_eq!(listening(table).collect::<Vec<_>>(), [4711]);
        assert_eq!(listening("").count(), 0);
    }

    #[test]
    fn a_socket_of_our_own_is_known_as_such() {
        let before = own_sockets();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let new: Vec<u64> = own_sockets().difference(&before).copied().collect();
        let table = std::fs::read_to_string("/proc/self/net/tcp").expect("the kernel's table");
        // Other tests of this process open sockets too.
        assert!(listening(&table).any(|inode| new.contains(&inode)));
        drop(socket);
    }
}
