//! Ports of loopback where nobody listens, for as long as a test needs that.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// An address at which connections are refused, and whose port nobody is given until it is dropped.
///
/// A port that was free a moment ago is no such thing: any test that starts a server may be given it next.
#[derive(Debug)]
pub struct ClosedPort {
    // Bound, and never made to listen.
    socket: TcpSocket,
}

impl ClosedPort {
    /// Takes a free port of `127.0.0.1`.
    pub fn take() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok(Self { socket })
    }

    /// Takes the port of a server that is gone, and that may come back and listen there again.
    pub fn take_at(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        // Connections of that server may linger. Who asks for any free port is still not given this one.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self { socket })
    }

    /// Returns host and port as a pull spec has them, such as `127.0.0.1:34567`.
    ///
    /// # Panics
    ///
    /// When the system does not tell the address of a socket that it has bound.
    pub fn host(&self) -> String {
        self.socket.local_addr().expect("the address of a bound socket").to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn connections_are_refused_and_nobody_else_can_listen() {
        let closed = ClosedPort::take().expect("a free port");
        let refused = TcpStream::connect(closed.host()).expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let taken = TcpListener::bind(closed.host()).expect_err("it is taken");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn the_port_of_a_server_that_is_gone_can_be_taken_and_kept_for_it() {
        let server = crate::Registry::start().expect("a registry");
        let host = server.host();
        drop(server);
        let address = host.parse().expect("an address");
        let closed = ClosedPort::take_at(address).expect("its port");
        let refused = TcpStream::connect(closed.host()).expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let again = crate::Registry::builder().address(address).start().expect("the port that was kept");
        TcpStream::connect(again.host()).expect("a connection");
    }
}
