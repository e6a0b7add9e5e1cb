//! Unix sockets: where they are, who may connect, and whose file it is.
//!
//! Their descriptors are held by std's types for TCP, which are plain descriptors of stream sockets. Calls that only TCP supports fail
//! with an error of the system, which the drivers take as "not known".

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, Metadata, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::SocketOptions;
pub use crate::peer_uids::PeerUids;

/// The prefix of a text that is the place of a Unix socket.
const PREFIX: &str = "unix:";
/// The longest path or name, in bytes: what fits into `sockaddr_un` of Linux.
const MAX_BYTES: usize = 107;
/// The mode of a socket's file unless another one is asked for: its owner and its group may connect.
pub const SOCKET_MODE: u32 = 0o660;
/// The peer of every Unix socket. It has no address, and is on this host (SPEC 16.7).
pub const UNIX_PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
/// How often, and with which pause, the lock of a socket is tried. The caller's thread waits, and others hold it for a few system calls.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The place of a Unix socket: `unix:/run/edge.sock`, or `unix:@name` for an abstract name, which is no file (Linux).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnixPlace(String);

impl fmt::Display for UnixPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

impl UnixPlace {
    /// Parses a text that begins with `unix:`. `None` if it does not.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if neither a path from the root nor a name follows, or one that is too long.
    pub fn parse(text: &str) -> io::Result<Option<UnixPlace>> {
        let Some(place) = text.strip_prefix(PREFIX) else {
            return Ok(None);
        };
        let wrong = |what: String| Err(io::Error::new(ErrorKind::InvalidInput, what));
        let is_name = place.len() > 1 && place.starts_with('@');
        let is_path = place.len() > 1 && place.starts_with('/') && !place.ends_with('/');
        if !is_name && !is_path || place.contains('\0') {
            return wrong("a path from the root or an @name must follow \"unix:\"".into());
        }
        if place.len() > MAX_BYTES {
            return wrong(format!("it has more than {MAX_BYTES} bytes"));
        }
        Ok(Some(UnixPlace(place.to_owned())))
    }

    /// Returns whether it is a name and no file, so that no permissions protect it.
    #[must_use]
    pub fn is_abstract(&self) -> bool {
        self.0.starts_with('@')
    }

    fn address(&self) -> io::Result<SockAddr> {
        match self.0.strip_prefix('@') {
            Some(_) if cfg!(not(target_os = "linux")) => Err(io::Error::new(
                ErrorKind::Unsupported,
                "only Linux has abstract names",
            )),
            Some(name) => SockAddr::unix(format!("\0{name}")),
            None => SockAddr::unix(&self.0),
        }
    }

    /// Connects, without waiting for room in the queue of the process that listens.
    ///
    /// # Errors
    /// Those of the system: nobody listens there, or not for this user.
    pub fn connect(&self) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&self.address()?)?;
        Ok(socket.into())
    }

    /// Returns whether one could listen there now, without doing so.
    ///
    /// # Errors
    /// Those of [`listen`](Self::listen).
    pub fn check(&self) -> io::Result<()> {
        if self.is_abstract() {
            return self.refuse_if_somebody_listens();
        }
        let folder = folder(Path::new(&self.0));
        fs::metadata(folder).map_err(|error| named(folder, &error))?;
        // Without the lock, since nothing is changed.
        self.is_stale().map(drop)
    }

    /// Listens there. A file that a process left behind is replaced. `mode` is that of the new file.
    ///
    /// # Errors
    /// [`AddrInUse`](ErrorKind::AddrInUse) if a process listens there; [`AlreadyExists`](ErrorKind::AlreadyExists) if there is a
    /// file that is no socket; otherwise those of the system.
    pub fn listen(&self, options: &SocketOptions, mode: u32) -> io::Result<UnixListening> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let (mut file, mut lock) = (None, None);
        if self.is_abstract() {
            self.refuse_if_somebody_listens()?;
            socket.bind(&self.address()?)?;
        } else {
            lock = Some(Lock::of(Path::new(&self.0))?);
            if self.is_stale()? {
                fs::remove_file(&self.0)?;
            }
            socket.bind(&self.address()?)?;
            let own = UnixFile::of(Path::new(&self.0))?;
            // Nobody can connect before it listens.
            fs::set_permissions(&self.0, Permissions::from_mode(mode))?;
            file = Some(own);
        }
        socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        // Not before it listens, or a second process would take the file for one that was left behind.
        drop(lock);
        Ok(UnixListening {
            listener: socket.into(),
            file,
        })
    }

    /// Returns whether a process left its socket behind there.
    fn is_stale(&self) -> io::Result<bool> {
        // A symbolic link is not followed: its target is not ours.
        match fs::symlink_metadata(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
            Ok(found) if !found.file_type().is_socket() => Err(io::Error::new(
                ErrorKind::AlreadyExists,
                "there is a file of this name that is no socket",
            )),
            Ok(_) => self.refuse_if_somebody_listens().map(|()| true),
        }
    }

    fn refuse_if_somebody_listens(&self) -> io::Result<()> {
        let listens = match self.connect() {
            Ok(_) => "another process",
            Err(error) => match error.kind() {
                ErrorKind::ConnectionRefused | ErrorKind::NotFound => return Ok(()),
                ErrorKind::WouldBlock => "another process, with a full queue,",
                _ => return Err(error),
            },
        };
        Err(io::Error::new(
            ErrorKind::AddrInUse,
            format!("{listens} listens there"),
        ))
    }
}

fn folder(socket: &Path) -> &Path {
    socket.parent().unwrap_or(Path::new("/"))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A locked file beside that of a socket, against others of our kind. It is removed at the end.
///
/// Locking the folder itself is not enough, since every user who can read it can lock it.
struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    fn of(socket: &Path) -> io::Result<Lock> {
        let mut name = OsString::from(".");
        name.push(socket.file_name().unwrap_or_default());
        name.push(".lock");
        let path = socket.with_file_name(name);
        for _ in 0..LOCK_TRIES {
            let file = File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                // The file of this name may be a foreign link or pipe.
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(&path)
                .map_err(|error| match error.kind() {
                    ErrorKind::NotFound => named(folder(socket), &error),
                    _ => named(&path, &error),
                })?;
            match file.try_lock() {
                // The previous holder may have removed it since it was opened.
                Ok(()) => match identity(&path) {
                    Ok(found) if found == identity_of(&file.metadata()?) => {
                        return Ok(Lock { path, file });
                    }
                    _ => {}
                },
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(named(&path, &error)),
            }
        }
        let says = format!("another process keeps {} locked", path.display());
        Err(io::Error::new(ErrorKind::TimedOut, says))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is locked. If it stays, the next start locks it again.
        let _ = fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

/// A Unix socket that listens.
#[derive(Debug)]
#[non_exhaustive]
pub struct UnixListening {
    /// Its file. `None` for an abstract name. It must be dropped before the socket, as it is here: while the socket is open no other process
    /// takes its place, and its inode is not given to another file.
    pub file: Option<UnixFile>,
    /// The socket, non-blocking.
    pub listener: TcpListener,
}

/// The file of a socket of this process, which is removed when this is dropped, if it is still the same file.
#[derive(Debug)]
pub struct UnixFile {
    path: PathBuf,
    /// Its device and inode.
    identity: (u64, u64),
}

impl UnixFile {
    fn of(path: &Path) -> io::Result<UnixFile> {
        Ok(UnixFile {
            identity: identity(path)?,
            path: path.to_owned(),
        })
    }
}

impl Drop for UnixFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // If it cannot be removed, the next start finds that nobody listens there.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    Ok(identity_of(&fs::symlink_metadata(path)?))
}

fn identity_of(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// Returns whether a socket is a Unix socket.
#[must_use]
pub fn is_unix(socket: &SockRef<'_>) -> bool {
    socket.local_addr().is_ok_and(|address| address.is_unix())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A folder of its own, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let name = format!("voltlane-unix-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Folder(path)
        }

        fn place(&self) -> UnixPlace {
            let path = self.0.join("own.sock");
            let text = format!("unix:{}", path.display());
            UnixPlace::parse(&text).unwrap().unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn listen(place: &UnixPlace) -> io::Result<UnixListening> {
        place.listen(&SocketOptions::default(), 0o600)
    }

    #[test]
    fn texts() {
        for good in ["unix:/run/a.sock", "unix:@a"] {
            let place = UnixPlace::parse(good).unwrap().unwrap();
            assert_eq!(place.to_string(), good);
        }
        assert_eq!(UnixPlace::parse("localhost:1").unwrap(), None);
        let longest = format!("unix:/{}", "a".repeat(MAX_BYTES - 1));
        assert!(UnixPlace::parse(&longest).is_ok());
        for wrong in [
            "unix:",
            "unix:a.sock",
            "unix:/",
            "unix:@",
            "unix:/run/",
            &format!("{longest}a"),
        ] {
            UnixPlace::parse(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn a_live_socket_stays_and_a_dead_one_is_replaced() {
        let folder = Folder::new("live");
        let place = folder.place();
        let first = listen(&place).unwrap();
        let mode = fs::symlink_metadata(&place.0).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        for refused in [listen(&place).map(drop), place.check()] {
            let error = refused.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            assert_eq!(error.to_string(), "another process listens there");
        }
        place.connect().unwrap();
        drop(first);
        assert!(!Path::new(&place.0).exists(), "it was ours");
        // As after a crash.
        drop(UnixListener::bind(&place.0).unwrap());
        place.check().unwrap();
        let second = listen(&place).unwrap();
        place.connect().unwrap();
        // Somebody else's now.
        fs::remove_file(&place.0).unwrap();
        let other = UnixListener::bind(&place.0).unwrap();
        drop(second);
        place.connect().unwrap();
        drop(other);
    }

    #[test]
    fn only_a_file_of_its_own_is_locked() {
        let folder = Folder::new("lock");
        let place = folder.place();
        let of_folder = File::open(&folder.0).unwrap();
        of_folder.try_lock().unwrap();
        drop(listen(&place).unwrap());
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0, "none is left");
        let held = Lock::of(Path::new(&place.0)).unwrap();
        let mode = held.file.metadata().unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(listen(&place).unwrap_err().kind(), ErrorKind::TimedOut);
        place.check().unwrap();
        drop(held);
        // As after a crash.
        let own = folder.0.join(".own.sock.lock");
        fs::write(&own, "").unwrap();
        drop(listen(&place).unwrap());
        // Not where a link leads.
        let target = folder.0.join("target");
        std::os::unix::fs::symlink(&target, &own).unwrap();
        listen(&place).unwrap_err();
        assert!(!target.exists());
    }

    #[test]
    fn what_is_no_socket_is_never_removed() {
        let folder = Folder::new("file");
        let place = folder.place();
        fs::write(&place.0, "precious").unwrap();
        assert_eq!(listen(&place).unwrap_err().kind(), ErrorKind::AlreadyExists);
        let target = folder.0.join("target.sock");
        drop(UnixListener::bind(&target).unwrap());
        fs::remove_file(&place.0).unwrap();
        std::os::unix::fs::symlink(&target, &place.0).unwrap();
        assert_eq!(listen(&place).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert!(target.exists());
        let nowhere = UnixPlace::parse("unix:/no-such-folder/a.sock")
            .unwrap()
            .unwrap();
        assert_eq!(listen(&nowhere).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn abstract_names_are_no_files() {
        let name = format!("unix:@voltlane-{}", std::process::id());
        let place = UnixPlace::parse(&name).unwrap().unwrap();
        let own = listen(&place).unwrap();
        assert!(own.file.is_none() && place.is_abstract());
        assert!(is_unix(&SockRef::from(&own.listener)));
        assert_eq!(place.check().unwrap_err().kind(), ErrorKind::AddrInUse);
        place.connect().unwrap();
    }
}
