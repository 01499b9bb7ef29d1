//! A packet capture on the bridge: does a text go over the wire in the clear?

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Network, enter};

/// `ETH_P_ALL`, every protocol, in network byte order as the kernel wants it.
const ALL_PROTOCOLS: i32 = 0x0003_u16.to_be() as i32;

/// Packets seen so far; capturing ends when this is dropped.
#[derive(Debug)]
pub struct Capture {
    packets: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Starts on all interfaces of the bridge's namespace. Each packet is seen more than once: at the ports and at the bridge.
    ///
    /// # Errors
    /// When raw sockets are not permitted.
    pub fn start(network: &Network) -> Result<Capture> {
        let socket = enter::inside(&network.root().path(), || {
            Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(ALL_PROTOCOLS)))
        })?
        .context("a raw socket on the bridge (needs CAP_NET_RAW)")?;
        // A burst must not be lost between two reads.
        let _ = socket.set_recv_buffer_size(32 << 20);
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let (packets, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (kept, ending) = (Arc::clone(&packets), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("capture".to_owned()).spawn(move || {
            let (mut socket, mut buffer) = (socket, vec![0; 1 << 17]);
            while !ending.load(Ordering::Relaxed) {
                if let Ok(length) = socket.read(&mut buffer) {
                    kept.lock().push(buffer.get(..length).unwrap_or_default().to_vec());
                }
            }
        })?;
        Ok(Capture {
            packets,
            stop,
            thread: Some(thread),
        })
    }

    /// Ends the capture and gives the packets, link-layer headers included.
    ///
    /// # Errors
    /// When the capturing thread panicked.
    pub fn stop(mut self) -> Result<Vec<Vec<u8>>> {
        // What is on its way to the socket is read before the end: one read that times out.
        std::thread::sleep(Duration::from_millis(100));
        self.end()?;
        Ok(std::mem::take(&mut self.packets.lock()))
    }

    fn end(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take() {
            Some(thread) => thread.join().map_err(|_| anyhow!("the capturing thread panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// How many packets hold these bytes.
pub fn holding(packets: &[Vec<u8>], needle: &[u8]) -> usize {
    let holds = |packet: &&Vec<u8>| !needle.is_empty() && packet.windows(needle.len()).any(|window| window == needle);
    packets.iter().filter(holds).count()
}
