//! UDP sockets with room for bursts.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use rustix::net::sockopt;

use super::TunnelError;

/// What a socket of the broker asks the kernel for: with the usual 208 KiB, hundreds of handshakes at once are
/// dropped.
const BROKER_BUFFER: usize = 8 * 1024 * 1024;
/// What an agent's socket asks for: one session's window.
const AGENT_BUFFER: usize = 1024 * 1024;

/// Whose socket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Many peers; a small buffer is worth a warning.
    Broker,
    /// One peer.
    Agent,
}

/// Opens a socket and gives it the largest buffers that the kernel allows, up to what `side` asks for.
pub(super) fn bind(address: SocketAddr, side: Side) -> Result<UdpSocket, TunnelError> {
    let socket = UdpSocket::bind(address).map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            TunnelError::AddressInUse { address }
        } else {
            TunnelError::Bind { address, source }
        }
    })?;
    let failed = |error: rustix::io::Errno| TunnelError::Bind { address, source: error.into() };
    let asked = match side {
        Side::Broker => BROKER_BUFFER,
        Side::Agent => AGENT_BUFFER,
    };
    sockopt::set_socket_recv_buffer_size(&socket, asked).map_err(failed)?;
    sockopt::set_socket_send_buffer_size(&socket, asked).map_err(failed)?;
    // Linux answers with twice what counts for payload (socket(7), SO_RCVBUF).
    let receive = sockopt::socket_recv_buffer_size(&socket).map_err(failed)? / 2;
    let send = sockopt::socket_send_buffer_size(&socket).map_err(failed)? / 2;
    if side == Side::Broker && (receive < asked || send < asked) {
        tracing::warn!(
            asked,
            receive,
            send,
            "the kernel gives small UDP buffers, so many agents dialling at once will be slow: set \
             net.core.rmem_max and net.core.wmem_max to {asked} with sysctl",
        );
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named() {
        let first = bind("127.0.0.1:0".parse().unwrap(), Side::Agent).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address, Side::Broker).unwrap_err();
        assert!(matches!(error, TunnelError::AddressInUse { address: named } if named == address), "{error}");
        assert!(error.to_string().contains(&address.port().to_string()));
    }
}
