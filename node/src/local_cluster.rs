//! A cluster of real `halite serve` processes on loopback: what the demo, the benchmark and the black-box tests run on.
//!
//! Owns the processes, their ports, directories, configuration and logs. Ends them all when it is dropped. Never speaks with them:
//! callers use the client library like any application.

mod local_place;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

pub use local_place::LocalPlace;

/// What to start.
#[derive(Debug, Clone)]
pub struct LocalClusterOptions {
    /// The `halite` program.
    pub program: PathBuf,
    /// Where data, configuration and logs go; created, and left behind.
    pub dir: PathBuf,
    /// Number of first members.
    pub nodes: u64,
    /// Databases to create: name and page size.
    pub databases: Vec<(String, u32)>,
    /// Archive destination, if there is to be one.
    pub archive_url: Option<String>,
    /// Further configuration for every node, as YAML lines.
    pub extra_config: String,
    /// `RUST_LOG` of the nodes.
    pub log: String,
    /// Nodes that run elsewhere or otherwise than the rest, by id.
    pub places: BTreeMap<u64, LocalPlace>,
    /// Each node leads a process group of its own: what a terminal sends to the group of this process does not reach it.
    pub own_groups: bool,
}

impl LocalClusterOptions {
    /// Three nodes with one database `app` of 4096-byte pages, without an archive.
    pub fn new(program: impl Into<PathBuf>, dir: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            dir: dir.into(),
            nodes: 3,
            databases: vec![("app".to_owned(), 4096)],
            archive_url: None,
            extra_config: String::new(),
            log: "info".to_owned(),
            places: BTreeMap::new(),
            own_groups: false,
        }
    }
}

/// One node of a [`LocalCluster`].
#[derive(Debug)]
pub struct LocalNode {
    /// Node id, from 1.
    pub id: u64,
    /// Where clients and the other nodes reach it.
    pub addr: String,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Its configuration file.
    pub config: PathBuf,
    /// What it writes to standard output and error; appended to over restarts.
    pub log: PathBuf,
    child: Option<Child>,
    /// The program to start with what comes before it.
    command: Vec<OsString>,
    env: Vec<(String, String)>,
}

/// See the module.
#[derive(Debug)]
pub struct LocalCluster {
    options: LocalClusterOptions,
    nodes: Vec<LocalNode>,
}

impl LocalCluster {
    /// Writes the configurations and starts every node. Returns at once: clients wait for the primary.
    ///
    /// # Errors
    /// Files that cannot be written, a program that cannot be started.
    pub fn start(options: LocalClusterOptions) -> io::Result<Self> {
        std::fs::create_dir_all(&options.dir)?;
        let ports = free_ports(options.nodes)?;
        let mut cluster = Self {
            options,
            nodes: Vec::new(),
        };
        let places: Vec<(u64, LocalPlace)> = (1..=cluster.options.nodes)
            .zip(ports)
            .map(|(id, port)| (id, cluster.place(id, port)))
            .collect();
        let members = member_list(&places);
        for (id, place) in places {
            let node = cluster.prepare(id, place, &members)?;
            cluster.nodes.push(node);
        }
        for id in 1..=cluster.options.nodes {
            cluster.start_node(id)?;
        }
        Ok(cluster)
    }

    /// Prepares and starts a blank node that waits to be added.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_joining(&mut self, id: u64) -> io::Result<()> {
        let port = free_ports(1)?[0];
        let node = self.prepare(id, self.place(id, port), "  join: true\n")?;
        self.nodes.push(node);
        self.start_node(id)
    }

    /// The place of a node with nothing left open.
    fn place(&self, id: u64, port: u16) -> LocalPlace {
        let mut place = self.options.places.get(&id).cloned().unwrap_or_default();
        let listen = place
            .listen
            .get_or_insert_with(|| format!("127.0.0.1:{port}"));
        place.advertise.get_or_insert_with(|| listen.clone());
        place
    }

    fn prepare(&self, id: u64, place: LocalPlace, cluster: &str) -> io::Result<LocalNode> {
        let dir = self.options.dir.join(format!("node-{id}"));
        std::fs::create_dir_all(&dir)?;
        let data_dir = dir.join("data");
        let addr = place.advertise.unwrap_or_default();
        let mut yaml = format!(
            "node-id: {id}\ndata-dir: {}\nlisten: {}\nadvertise: {addr}\ncluster:\n  name: local\n{cluster}",
            quoted(&data_dir),
            place.listen.unwrap_or_default(),
        );
        if !self.options.databases.is_empty() {
            yaml.push_str("dbs:\n");
            for (name, page_size) in &self.options.databases {
                yaml.push_str(&format!("  - {{name: {name}, page-size: {page_size}}}\n"));
            }
        }
        if let Some(url) = &self.options.archive_url {
            yaml.push_str(&format!("archive: {{url: {}}}\n", quoted(Path::new(url))));
        }
        yaml.push_str(&self.options.extra_config);
        let config = dir.join("halite.yml");
        std::fs::write(&config, yaml)?;
        let mut command: Vec<OsString> = place.launcher.into_iter().map(OsString::from).collect();
        command.push(self.options.program.clone().into_os_string());
        let mut env = place.env;
        env.push(("RUST_LOG".to_owned(), self.options.log.clone()));
        Ok(LocalNode {
            id,
            addr,
            data_dir,
            config,
            log: dir.join("log.txt"),
            child: None,
            command,
            env,
        })
    }

    /// All nodes, running or not.
    pub fn nodes(&self) -> &[LocalNode] {
        &self.nodes
    }

    /// The node with this id.
    ///
    /// # Panics
    /// If there is none.
    pub fn node(&self, id: u64) -> &LocalNode {
        self.nodes
            .iter()
            .find(|n| n.id == id)
            .expect("a node of this cluster")
    }

    fn node_mut(&mut self, id: u64) -> &mut LocalNode {
        self.nodes
            .iter_mut()
            .find(|n| n.id == id)
            .expect("a node of this cluster")
    }

    /// Addresses of all nodes, for clients.
    pub fn addrs(&self) -> Vec<String> {
        self.nodes.iter().map(|n| n.addr.clone()).collect()
    }

    /// The SQLite file of a database on one node.
    pub fn database_path(&self, id: u64, database: &str) -> PathBuf {
        self.node(id)
            .data_dir
            .join("db")
            .join(format!("{database}.db"))
    }

    /// Starts a node that is not running.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start_node(&mut self, id: u64) -> io::Result<()> {
        let own_groups = self.options.own_groups;
        let node = self.node_mut(id);
        let log = File::options().create(true).append(true).open(&node.log)?;
        let mut command = Command::new(&node.command[0]);
        if own_groups {
            command.process_group(0);
        }
        let child = command
            .args(&node.command[1..])
            .args(["serve", "--end-with-parent", "--config"])
            .arg(&node.config)
            .envs(node.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        node.child = Some(child);
        Ok(())
    }

    /// From its next start on, a node runs another program.
    pub fn set_program(&mut self, id: u64, program: &Path) {
        if let Some(last) = self.node_mut(id).command.last_mut() {
            *last = program.as_os_str().to_owned();
        }
    }

    /// SIGKILL, and waits until the process is gone.
    ///
    /// # Errors
    /// The operating system's; a node that is not running is left alone.
    pub fn kill(&mut self, id: u64) -> io::Result<()> {
        let Some(mut child) = self.node_mut(id).child.take() else {
            return Ok(());
        };
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Sends SIGKILL and does not wait.
    ///
    /// # Errors
    /// The operating system's.
    pub fn kill_now(&mut self, id: u64) -> io::Result<()> {
        self.signal(id, Signal::KILL)
    }

    /// SIGSTOP: the process is frozen as it is.
    ///
    /// # Errors
    /// The operating system's.
    pub fn freeze(&mut self, id: u64) -> io::Result<()> {
        self.signal(id, Signal::STOP)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// The operating system's.
    pub fn thaw(&mut self, id: u64) -> io::Result<()> {
        self.signal(id, Signal::CONT)
    }

    /// SIGTERM, and waits up to `timeout` for a clean end.
    ///
    /// # Errors
    /// The operating system's, or a node that does not end in time.
    pub fn terminate(&mut self, id: u64, timeout: Duration) -> io::Result<ExitStatus> {
        self.signal(id, Signal::TERM)?;
        let waits = timeout.as_millis() / WAIT_STEP.as_millis();
        for _ in 0..waits {
            if let Some(status) = self.exited(id)? {
                return Ok(status);
            }
            #[allow(
                clippy::disallowed_methods,
                reason = "a process has no other way to be waited for with a limit"
            )]
            std::thread::sleep(WAIT_STEP);
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("node {id} did not end within {timeout:?}"),
        ))
    }

    /// The exit status of a node that has ended by itself.
    ///
    /// # Errors
    /// The operating system's; also if the node was not running.
    pub fn exited(&mut self, id: u64) -> io::Result<Option<ExitStatus>> {
        let node = self.node_mut(id);
        let child = node.child.as_mut().ok_or_else(|| not_running(id))?;
        let status = child.try_wait()?;
        if status.is_some() {
            node.child = None;
        }
        Ok(status)
    }

    /// The process of a node.
    pub fn pid(&self, id: u64) -> Option<Pid> {
        let child = self.node(id).child.as_ref()?;
        i32::try_from(child.id()).ok().and_then(Pid::from_raw)
    }

    /// The node has a process, frozen or not.
    pub fn is_running(&self, id: u64) -> bool {
        self.node(id).child.is_some()
    }

    fn signal(&mut self, id: u64, signal: Signal) -> io::Result<()> {
        let pid = self.pid(id).ok_or_else(|| not_running(id))?;
        rustix::process::kill_process(pid, signal).map_err(io::Error::from)
    }
}

const WAIT_STEP: Duration = Duration::from_millis(10);

impl Drop for LocalCluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(child) = &mut node.child {
                // Whatever goes wrong here, the process is gone or was never ours.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

fn not_running(id: u64) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("node {id} is not running"))
}

fn member_list(members: &[(u64, LocalPlace)]) -> String {
    let mut list = "  initial-members:\n".to_owned();
    for (id, place) in members {
        let addr = place.advertise.as_deref().unwrap_or_default();
        list.push_str(&format!("    - {{id: {id}, addr: \"{addr}\"}}\n"));
    }
    list
}

/// A YAML string.
fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

/// Where ports are looked for: below the range that systems give to outgoing connections, one of which could otherwise take the port
/// of a node that is down.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// Ports of 127.0.0.1 that were free a moment ago: bound together, so that all differ, and let go together.
///
/// # Errors
/// None could be bound.
pub fn free_ports(count: u64) -> io::Result<Vec<u16>> {
    let mut listeners = Vec::new();
    let mut failure = None;
    for _ in 0..PORTS.len() {
        if listeners.len() as u64 == count {
            break;
        }
        match TcpListener::bind(("127.0.0.1", rand::random_range(PORTS))) {
            Ok(listener) => listeners.push(listener),
            Err(error) => failure = Some(error),
        }
    }
    if let (true, Some(error)) = ((listeners.len() as u64) < count, failure) {
        return Err(error);
    }
    listeners
        .iter()
        .map(|l| Ok(l.local_addr()?.port()))
        .collect()
}
