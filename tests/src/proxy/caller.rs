//! Who is at the other end of a connection on this machine.
//!
//! Nodes cannot be told by their ports, and say who they are only inside HTTP/2. But the kernel knows which process owns a socket, and a
//! node's process carries its directory in its command line.

use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caller {
    /// A node.
    Node(u64),
    /// Anybody else.
    Client,
}

/// Who owns the socket bound to `theirs` and connected to `ours`; `None` if it is closed by now.
pub(super) fn find(dir: &Path, theirs: SocketAddr, ours: SocketAddr) -> Option<Caller> {
    let socket = format!("socket:[{}]", inode(theirs, ours)?);
    let node = processes().find_map(|process| {
        let id = node_of(dir, &process)?;
        owns(&process, &socket).then_some(Caller::Node(id))
    });
    Some(node.unwrap_or(Caller::Client))
}

/// The kernel's number of a socket. It lists addresses in hexadecimal, IPv4 bytes in the machine's order.
fn inode(theirs: SocketAddr, ours: SocketAddr) -> Option<u64> {
    let (theirs, ours) = (listed(theirs)?, listed(ours)?);
    let table = std::fs::read_to_string("/proc/net/tcp").expect("these tests need Linux's /proc");
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let found = fields.next()? == theirs && fields.next()? == ours;
        let inode = fields.nth(6)?;
        // A socket that is closed stays listed for a while, without a file.
        found
            .then(|| inode.parse().ok().filter(|&inode| inode != 0))
            .flatten()
    })
}

fn listed(addr: SocketAddr) -> Option<String> {
    let SocketAddr::V4(addr) = addr else {
        return None;
    };
    let ip = u32::from_ne_bytes(addr.ip().octets());
    Some(format!("{ip:08X}:{:04X}", addr.port()))
}

fn processes() -> impl Iterator<Item = PathBuf> {
    let listed = std::fs::read_dir("/proc").expect("these tests need Linux's /proc");
    listed.flatten().map(|item| item.path()).filter(|path| {
        path.file_name()
            .is_some_and(|name| name.as_bytes().iter().all(u8::is_ascii_digit))
    })
}

/// The node that a process is: `halite serve --config DIR/node-ID/halite.yml`.
fn node_of(dir: &Path, process: &Path) -> Option<u64> {
    let command = std::fs::read(process.join("cmdline")).ok()?;
    let mut args = command.split(|&byte| byte == 0);
    args.find_map(|arg| {
        let config = Path::new(std::str::from_utf8(arg).ok()?);
        let node = config.strip_prefix(dir).ok()?.parent()?.to_str()?;
        node.strip_prefix("node-")?.parse().ok()
    })
}

fn owns(process: &Path, socket: &str) -> bool {
    let Ok(files) = std::fs::read_dir(process.join("fd")) else {
        return false;
    };
    files
        .flatten()
        .any(|file| std::fs::read_link(file.path()).is_ok_and(|to| to == Path::new(socket)))
}
