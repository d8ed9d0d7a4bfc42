//! Tells systemd how far the server is, so that `systemctl start` waits until it listens: `sd_notify(3)`, which is one
//! datagram of `KEY=value` lines to the socket that `NOTIFY_SOCKET` names.

use std::{
    ffi::OsString,
    io,
    os::unix::{
        ffi::OsStrExt,
        net::{SocketAddr, UnixDatagram},
    },
};

/// Whom to tell; nobody, unless a service manager started us.
#[derive(Debug)]
pub(crate) struct Notifier(Option<UnixDatagram>);

impl Notifier {
    /// `socket` is what `NOTIFY_SOCKET` holds: a path, or `@` and an abstract name. What cannot be reached is logged
    /// and then left alone, for a server that works is worth more than one that is well reported.
    pub(crate) fn new(socket: Option<OsString>) -> Self {
        let connected = socket.filter(|name| !name.is_empty()).map(|name| {
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&address(&name)?)?;
            Ok(socket)
        });
        Self(connected.transpose().unwrap_or_else(|error: io::Error| {
            tracing::warn!(%error, "NOTIFY_SOCKET cannot be reached; the service manager is told nothing");
            None
        }))
    }

    /// Every listener is bound.
    pub(crate) fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving");
    }

    /// The server was asked to stop and says goodbye to its clients.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining");
    }

    fn tell(&self, words: &str) {
        if let Some(Err(error)) = self.0.as_ref().map(|socket| socket.send(words.as_bytes())) {
            tracing::warn!(%error, "the service manager cannot be told");
        }
    }
}

fn address(name: &OsString) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = name.as_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(name)
}

#[cfg(test)]
mod tests {
    use std::{env, fs, time::Duration};

    use super::*;

    fn heard_on(socket: &UnixDatagram) -> String {
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut buffer = [0; 256];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    #[test]
    fn a_socket_with_a_path_hears_it() {
        let path = env::temp_dir().join(format!("soundpost-notify-{}", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(Some(path.clone().into_os_string()));
        fs::remove_file(&path).unwrap();
        notifier.ready();
        notifier.stopping();
        assert_eq!(heard_on(&socket), "READY=1\nSTATUS=serving");
        assert_eq!(heard_on(&socket), "STOPPING=1\nSTATUS=draining");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn so_does_one_with_an_abstract_name() {
        let name = format!("@soundpost-notify-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&address(&name.clone().into()).unwrap()).unwrap();
        Notifier::new(Some(name.into())).ready();
        assert_eq!(heard_on(&socket), "READY=1\nSTATUS=serving");
    }

    #[test]
    fn without_a_service_manager_nobody_is_told() {
        for socket in [None, Some(OsString::new()), Some("/nonexistent/notify".into())] {
            let notifier = Notifier::new(socket);
            notifier.ready();
            assert!(notifier.0.is_none());
        }
    }
}
