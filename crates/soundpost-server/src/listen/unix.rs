//! The Unix socket and its file: made, taken over from a server that is dead, removed at the end.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
};

use socket2::{Domain, SockAddr, Socket, Type};
use tracing::warn;

use super::{BACKLOG, Listener, StartError};
use crate::config::UnixSocket;

/// The file of a socket of ours, removed when dropped if it is still that one.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and number of the file.
    identity: (u64, u64),
}

impl SocketFile {
    /// Listens on a Unix socket. Whoever may write to its file may connect: nobody before its mode is set.
    ///
    /// The file of a dead server is replaced. Errors: a server listens there, something else has that name, or the
    /// system refuses.
    pub(crate) fn listen(
        wanted: &UnixSocket,
        send_buffer_bytes: usize,
    ) -> Result<(Self, Listener), StartError> {
        let path = wanted.path.as_path();
        let refuse = |problem: String| StartError::Unix { path: path.to_owned(), problem };
        let system = |error: io::Error| refuse(reason(&error));
        make_room(path).map_err(refuse)?;
        let address = SockAddr::unix(path).map_err(system)?;
        let socket = socket().map_err(system)?;
        socket.bind(&address).map_err(system)?;
        let file = Self { path: path.to_owned(), identity: identity(path).map_err(system)? };
        // Until it listens nobody can connect, whatever the mode it was made with.
        fs::set_permissions(path, fs::Permissions::from_mode(wanted.mode)).map_err(system)?;
        socket.listen(BACKLOG).map_err(system)?;
        Ok((file, Listener::Unix { listener: UnixListener::from(socket), send_buffer_bytes }))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another server may have taken the name meanwhile.
        if identity(&self.path).is_ok_and(|found| found == self.identity)
            && let Err(error) = fs::remove_file(&self.path)
        {
            warn!(path = %self.path.display(), %error, "the file of the Unix socket could not be removed");
        }
    }
}

fn socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Removes the file of a server that is dead; nothing but a socket, and none on which somebody listens.
fn make_room(path: &Path) -> Result<(), String> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        // Whatever else is wrong shows when the socket is bound.
        Err(_) => return Ok(()),
    };
    if !file.file_type().is_socket() {
        return Err(
            "there is something else of this name, which is left alone; choose another path".to_owned()
        );
    }
    let tried = SockAddr::unix(path).and_then(|address| socket()?.connect(&address));
    match tried {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|error| format!("the socket of a dead server is in the way: {error}")),
        // A socket of another kind than ours.
        Err(error) if error.raw_os_error() == Some(EPROTOTYPE) => {
            Err("a socket of another kind has this name, and is left alone; choose another path".to_owned())
        }
        // Also when its backlog is full, which only one that listens has.
        Ok(()) => Err(ANOTHER.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(ANOTHER.to_owned()),
        Err(error) => Err(format!("whether another server listens there cannot be found out: {error}")),
    }
}

const ANOTHER: &str = "another server listens there; stop it or choose another path";
const EPROTOTYPE: i32 = if cfg!(target_os = "macos") { 41 } else { 91 };

fn reason(error: &io::Error) -> String {
    let kind = error.kind();
    if kind == io::ErrorKind::NotFound {
        "its folder does not exist".to_owned()
    } else if kind == io::ErrorKind::PermissionDenied {
        "its folder may not be written to".to_owned()
    } else {
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    /// A folder of its own for a test, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("soundpost-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn listen(&self, name: &str) -> Result<(SocketFile, Listener), String> {
            let wanted = UnixSocket { path: self.0.join(name), mode: 0o640 };
            SocketFile::listen(&wanted, 65_536).map_err(|error| error.to_string())
        }

        fn refusal(&self, name: &str) -> String {
            let text = self.listen(name).map(drop).unwrap_err();
            text.replace(&self.0.display().to_string(), "")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn a_socket_has_its_mode_and_goes_with_its_server() {
        let folder = Folder::new("mode");
        let (file, listener) = folder.listen("a.sock").unwrap();
        let path = folder.0.join("a.sock");
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        drop(UnixStream::connect(&path).unwrap());
        drop((listener, file));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_it_accepts_has_the_send_buffer_of_the_settings_and_the_calls_of_any_socket() {
        let folder = Folder::new("accept");
        let (_file, listener) = folder.listen("a.sock").unwrap();
        let client = UnixStream::connect(folder.0.join("a.sock")).unwrap();
        let (stream, address) = listener.wait().unwrap().accept().await.unwrap();
        assert_eq!(address, None);
        let socket = socket2::SockRef::from(&stream);
        // Linux doubles what is asked for.
        assert!([65_536, 131_072].contains(&socket.send_buffer_size().unwrap()));
        // A cut sets this before it closes; here it changes nothing, but must not fail.
        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(io::Read::read(&mut &client, &mut [0]).unwrap(), 0);
        assert!(stream.peer_addr().is_err(), "its peer has no address");
    }

    #[test]
    fn a_dead_servers_socket_is_replaced_and_a_live_ones_is_not() {
        let folder = Folder::new("stale");
        drop(UnixListener::bind(folder.0.join("a.sock")).unwrap());
        let (first, _listener) = folder.listen("a.sock").unwrap();
        let refusal =
            "cannot listen on /a.sock: another server listens there; stop it or choose another path";
        assert_eq!(folder.refusal("a.sock"), refusal);
        // Who has lost its name removes nothing of whoever has it now.
        fs::remove_file(folder.0.join("a.sock")).unwrap();
        let (_second, _listener) = folder.listen("a.sock").unwrap();
        drop(first);
        assert!(folder.0.join("a.sock").exists());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = Folder::new("file");
        let text = "there is something else of this name, which is left alone; choose another path";
        fs::write(folder.0.join("file"), "mine").unwrap();
        fs::create_dir(folder.0.join("folder")).unwrap();
        std::os::unix::fs::symlink(folder.0.join("file"), folder.0.join("link")).unwrap();
        for name in ["file", "folder", "link"] {
            assert_eq!(folder.refusal(name), format!("cannot listen on /{name}: {text}"));
        }
        assert_eq!(fs::read(folder.0.join("file")).unwrap(), b"mine");
        let _other = UnixDatagram::bind(folder.0.join("datagram")).unwrap();
        assert!(folder.refusal("datagram").contains("a socket of another kind has this name"));
        assert_eq!(folder.refusal("none/a.sock"), "cannot listen on /none/a.sock: its folder does not exist");
    }
}
