//! The listening sockets of a server, and why it cannot have one.

mod unix;

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::PathBuf,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tracing::{debug, warn};

pub(crate) use self::unix::SocketFile;
use crate::{config::Listen, tls::TlsError};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// Why a server does not start; each text is one line.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process has the port, or the address is not this machine's.
    #[error("cannot listen on {address}: {}", reason(.error))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The Unix socket cannot be had.
    #[error("cannot listen on {}: {problem}", path.display())]
    Unix {
        /// Its path.
        path: PathBuf,
        /// Why, and what to do.
        problem: String,
    },
    /// A certificate or its key cannot be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// No random numbers, threads or event queue to be had.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

fn reason(error: &io::Error) -> String {
    let kind = error.kind();
    if kind == io::ErrorKind::AddrInUse {
        "the port is in use; stop the other server or choose another with --port".to_owned()
    } else if kind == io::ErrorKind::AddrNotAvailable {
        "this machine does not have that address".to_owned()
    } else if kind == io::ErrorKind::PermissionDenied {
        "permission denied; ports below 1024 need the right to bind them".to_owned()
    } else {
        error.to_string()
    }
}

/// A listening socket of either kind. What it accepts is served alike: see decision 0009.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// Set on each accepted socket: unlike one of TCP, it does not have it from the listener.
        send_buffer_bytes: usize,
    },
}

/// The same, known to the runtime.
#[derive(Debug)]
pub(crate) enum Waiting {
    Tcp(tokio::net::TcpListener),
    Unix { listener: tokio::net::UnixListener, send_buffer_bytes: usize },
}

impl Listener {
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(listener) => Self::Tcp(listener.try_clone()?),
            Self::Unix { listener, send_buffer_bytes } => {
                Self::Unix { listener: listener.try_clone()?, send_buffer_bytes: *send_buffer_bytes }
            }
        })
    }

    /// Makes it known to the runtime this is called in.
    pub(crate) fn wait(self) -> io::Result<Waiting> {
        Ok(match self {
            Self::Tcp(listener) => Waiting::Tcp(tokio::net::TcpListener::from_std(listener)?),
            Self::Unix { listener, send_buffer_bytes } => {
                let listener = tokio::net::UnixListener::from_std(listener)?;
                Waiting::Unix { listener, send_buffer_bytes }
            }
        })
    }

    /// Accepts what waits to be, to be turned away.
    pub(crate) fn accept(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => listener.accept().map(|(stream, peer)| (stream, Some(peer.ip()))),
            Self::Unix { listener, .. } => {
                listener.accept().map(|(stream, _)| (OwnedFd::from(stream).into(), None))
            }
        }
    }
}

impl Waiting {
    /// The next connection, and the address of its peer, which has none on a Unix socket. Cancel safe.
    pub(crate) async fn accept(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((stream.into_std()?, Some(peer.ip())))
            }
            Self::Unix { listener, send_buffer_bytes } => {
                let (stream, _) = listener.accept().await?;
                let stream = OwnedFd::from(stream.into_std()?);
                SockRef::from(&stream).set_send_buffer_size(*send_buffer_bytes)?;
                Ok((stream.into(), None))
            }
        }
    }
}

/// Binds every address; on port 0 all get the port of the first.
pub(crate) fn listen(addresses: &[Listen], send_buffer_bytes: usize) -> Result<Vec<TcpListener>, StartError> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for wanted in addresses {
        let mut address = wanted.address;
        if let (0, Some(first)) = (address.port(), listeners.first()) {
            address.set_port(first.local_addr()?.port());
        }
        match bind(address, Some(send_buffer_bytes)) {
            Ok(listener) => listeners.push(listener),
            Err(error) if wanted.required => return Err(StartError::Listen { address, error }),
            Err(error) => debug!(%address, %error, "not listening"),
        }
    }
    Ok(listeners)
}

/// The admin listener nobody asked for by name takes another port if its own is in use.
pub(crate) fn listen_admin(
    host: IpAddr,
    port: u16,
    explicit: bool,
) -> Result<Option<TcpListener>, StartError> {
    let address = SocketAddr::new(host, port);
    match bind(address, None) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if explicit => Err(StartError::Listen { address, error }),
        Err(error) => {
            warn!(%address, "admin listener: {}; taking any free port", reason(&error));
            let address = SocketAddr::new(host, 0);
            bind(address, None).map(Some).map_err(|error| StartError::Listen { address, error })
        }
    }
}

fn bind(address: SocketAddr, send_buffer_bytes: Option<usize>) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit both, which saves two calls for each.
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
