//! A wire between agents and a broker that a test can cut: a UDP proxy on this machine.
//!
//! While it is cut every packet is lost, in both directions, and nobody is told: as with a dead switch. Left out
//! on purpose: delay, duplication, reordering.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, JoinSet};

/// Larger than any packet.
const PACKET: usize = 65_536;

/// See the module. Dropping it cuts the wire for good.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    cut: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Link {
    /// A wire to that port of this machine; nobody has to listen there yet.
    ///
    /// # Panics
    /// The kernel gives no port. Outside a tokio runtime.
    pub async fn open(to_port: u16) -> Self {
        let front = socket().await;
        let address = front.local_addr().unwrap_or_else(|error| panic!("a socket has no address: {error}"));
        let cut = Arc::new(AtomicBool::new(false));
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, to_port));
        let task = tokio::spawn(carry(Arc::new(front), to, Arc::clone(&cut))).abort_handle();
        Self { address, cut, task }
    }

    /// Where agents dial to go through the wire.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on every packet is lost.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// From now on packets arrive.
    pub fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await;
    socket.unwrap_or_else(|error| panic!("the kernel gives no UDP port: {error}"))
}

async fn carry(front: Arc<UdpSocket>, to: SocketAddr, cut: Arc<AtomicBool>) {
    let mut peers: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    let mut ways_back = JoinSet::new();
    let mut packet = vec![0; PACKET];
    loop {
        // Errors tell that an earlier packet was not taken: lost like any other.
        let Ok((length, from)) = front.recv_from(&mut packet).await else { continue };
        if cut.load(Ordering::SeqCst) {
            continue;
        }
        let back = match peers.get(&from) {
            Some(back) => Arc::clone(back),
            None => {
                let back = Arc::new(socket().await);
                let connected = back.connect(to).await;
                connected.unwrap_or_else(|error| panic!("cannot use a UDP socket: {error}"));
                ways_back.spawn(carry_back(Arc::clone(&back), Arc::clone(&front), from, Arc::clone(&cut)));
                peers.insert(from, Arc::clone(&back));
                back
            }
        };
        back.send(packet.get(..length).unwrap_or_default()).await.ok();
    }
}

async fn carry_back(back: Arc<UdpSocket>, front: Arc<UdpSocket>, to: SocketAddr, cut: Arc<AtomicBool>) {
    let mut packet = vec![0; PACKET];
    loop {
        let Ok(length) = back.recv(&mut packet).await else { continue };
        if !cut.load(Ordering::SeqCst) {
            front.send_to(packet.get(..length).unwrap_or_default(), to).await.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn heard(socket: &UdpSocket) -> Option<String> {
        let mut packet = [0; 16];
        let heard = tokio::time::timeout(Duration::from_millis(300), socket.recv_from(&mut packet)).await;
        let (length, from) = heard.ok()?.expect("the socket works");
        socket.connect(from).await.expect("an address");
        Some(String::from_utf8_lossy(&packet[..length]).into_owned())
    }

    #[tokio::test]
    async fn packets_go_both_ways_until_the_wire_is_cut() {
        let far = socket().await;
        let link = Link::open(far.local_addr().expect("an address").port()).await;
        let near = socket().await;
        near.connect(link.address()).await.expect("an address");
        near.send(b"there").await.expect("sent");
        assert_eq!(heard(&far).await.as_deref(), Some("there"));
        far.send(b"back").await.expect("sent");
        assert_eq!(heard(&near).await.as_deref(), Some("back"));
        link.cut();
        near.send(b"lost").await.expect("sent");
        far.send(b"lost").await.expect("sent");
        assert_eq!((heard(&far).await, heard(&near).await), (None, None));
        link.mend();
        near.send(b"again").await.expect("sent");
        assert_eq!(heard(&far).await.as_deref(), Some("again"));
    }
}
