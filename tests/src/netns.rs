//! A network namespace for each node, where packets are dropped: no reset, no refusal, nothing is completed by the kernel meanwhile.
//!
//! Each node's namespace has one interface, on a bridge in a namespace of its own to which the tests are connected, too. What a node does
//! not hear is dropped as it comes in (`iptables`). Everything is in namespaces named after this process: deleting them removes all of
//! it, on drop, which a panic does not skip; what a killed run has left behind is removed by the next.

mod tool;

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use halite::local_cluster::{LocalClusterOptions, LocalPlace};

use tool::{ip, root, run};

const PREFIX: &str = "halite-test-";
const PORT: u16 = 7400;
/// Host number of the tests themselves; nodes have their ids.
const OUTSIDE: u64 = 254;

static MADE: AtomicU32 = AtomicU32::new(0);

/// See the module.
#[derive(Debug)]
pub struct Netns {
    name: String,
    /// `198.18.x`, out of the range that is set aside for tests of networks (RFC 2544).
    net: String,
    /// The tests' own interface, whose peer is on the bridge.
    outside: String,
    nodes: u64,
}

impl Netns {
    /// Namespaces for nodes 1 to `nodes`. `None`, and a word why, for all but root, and for a root who may not.
    ///
    /// # Errors
    /// A tool is missing or fails.
    pub fn create(nodes: u64) -> Result<Option<Self>> {
        if !root() {
            eprintln!("not tested: network namespaces need root");
            return Ok(None);
        }
        remove_left_over()?;
        let pid = std::process::id();
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        let network = Self {
            name: format!("{PREFIX}{pid}-{made}"),
            // At most 15 characters.
            outside: format!("hlt{pid}-{made}"),
            net: format!("198.18.{}", (pid + made) % 256),
            nodes,
        };
        if let Err(error) = ip(&["netns", "add", &network.switch()]) {
            let said = error.to_string();
            if said.contains("not permitted") || said.contains("denied") {
                eprintln!("not tested: root may not make network namespaces here: {said}");
                return Ok(None);
            }
            return Err(error);
        }
        network.connect()?;
        Ok(Some(network))
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.name)
    }

    fn node(&self, id: u64) -> String {
        format!("{}-node-{id}", self.name)
    }

    fn address(&self, host: u64) -> String {
        format!("{}.{host}", self.net)
    }

    fn connect(&self) -> Result<()> {
        let switch = self.switch();
        let add = ["-n", &switch, "link", "add"];
        ip(&[&add[..], &["bridge", "type", "bridge"]].concat())?;
        ip(&["-n", &switch, "link", "set", "bridge", "up"])?;
        for id in 1..=self.nodes {
            let node = self.node(id);
            ip(&["netns", "add", &node])?;
            ip(&["-n", &node, "link", "set", "lo", "up"])?;
            let port = format!("node-{id}");
            let peer = ["type", "veth", "peer", "name", "eth0", "netns", &node];
            ip(&[&add[..], &[&port], &peer].concat())?;
            ip(&[
                "-n", &switch, "link", "set", &port, "master", "bridge", "up",
            ])?;
            let address = format!("{}/24", self.address(id));
            ip(&["-n", &node, "addr", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &node, "link", "set", "eth0", "up"])?;
        }
        let peer = ["type", "veth", "peer", "name", "outside", "netns", &switch];
        ip(&[&["link", "add", &self.outside], &peer[..]].concat())?;
        ip(&[
            "-n", &switch, "link", "set", "outside", "master", "bridge", "up",
        ])?;
        let address = format!("{}/24", self.address(OUTSIDE));
        ip(&["addr", "add", &address, "dev", &self.outside])?;
        ip(&["link", "set", &self.outside, "up"])
    }

    /// Runs the nodes of a cluster in their namespaces.
    pub fn configure(&self, options: &mut LocalClusterOptions) {
        for id in 1..=self.nodes {
            let place = LocalPlace {
                listen: Some(format!("{}:{PORT}", self.address(id))),
                launcher: self.launcher(id),
                ..LocalPlace::default()
            };
            options.places.insert(id, place);
        }
    }

    /// What starts a program in a node's namespace, as the same process.
    pub fn launcher(&self, id: u64) -> Vec<String> {
        let namespace = format!("--net=/run/netns/{}", self.node(id));
        vec!["nsenter".to_owned(), namespace, "--".to_owned()]
    }

    /// Drops every packet from one node to another.
    ///
    /// # Errors
    /// `iptables` fails.
    pub fn cut(&self, from: u64, to: u64) -> Result<()> {
        self.drop_incoming(from, to, &[])
    }

    /// Cuts a node off from all others, in both directions; the tests still reach it.
    ///
    /// # Errors
    /// `iptables` fails.
    pub fn isolate(&self, id: u64) -> Result<()> {
        for other in (1..=self.nodes).filter(|other| *other != id) {
            self.cut(id, other)?;
            self.cut(other, id)?;
        }
        Ok(())
    }

    /// Drops every packet of a node that is larger than this, as a network does whose MTU is wrong somewhere; the tests still get all.
    ///
    /// # Errors
    /// `iptables` fails.
    pub fn lose_large(&self, from: u64, bytes: u16) -> Result<()> {
        let lengths = format!("{bytes}:65535");
        for to in (1..=self.nodes).filter(|to| *to != from) {
            self.drop_incoming(from, to, &["-m", "length", "--length", &lengths])?;
        }
        Ok(())
    }

    /// Drops so many packets out of a hundred between all nodes.
    ///
    /// # Errors
    /// `iptables` fails, or the kernel cannot draw.
    pub fn lose(&self, percent: u32) -> Result<()> {
        let probability = (f64::from(percent) / 100.0).to_string();
        let random = ["-m", "statistic", "--mode", "random", "--probability"];
        for from in 1..=self.nodes {
            for to in (1..=self.nodes).filter(|to| *to != from) {
                self.drop_incoming(from, to, &[&random[..], &[&probability]].concat())?;
            }
        }
        Ok(())
    }

    fn drop_incoming(&self, from: u64, to: u64, matching: &[&str]) -> Result<()> {
        let source = self.address(from);
        let rule = ["-A", "INPUT", "-s", &source];
        self.iptables(to, &[&rule[..], matching, &["-j", "DROP"]].concat())
    }

    /// Delays every packet a node sends by `tc netem`. False, and a word why, where the kernel has none.
    ///
    /// # Errors
    /// `tc` fails for another reason.
    pub fn delay(&self, id: u64, delay_ms: u32, jitter_ms: u32) -> Result<bool> {
        let (delay, jitter) = (format!("{delay_ms}ms"), format!("{jitter_ms}ms"));
        let netem = ["netem", "delay", &delay, &jitter];
        let node = self.node(id);
        let replace = ["-n", &node, "qdisc", "replace", "dev", "eth0", "root"];
        match run("tc", "iproute2", &[&replace[..], &netem].concat()) {
            Ok(()) => Ok(true),
            Err(error) if error.to_string().contains("qdisc kind is unknown") => {
                eprintln!("not tested: the kernel has no netem: {error}");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Every packet passes again.
    ///
    /// # Errors
    /// `iptables` fails.
    pub fn heal(&self) -> Result<()> {
        for id in 1..=self.nodes {
            self.iptables(id, &["-F", "INPUT"])?;
        }
        Ok(())
    }

    /// How many packets a node has dropped since it was last healed.
    ///
    /// # Errors
    /// `iptables` fails.
    pub fn dropped(&self, id: u64) -> Result<u64> {
        let list = ["-L", "INPUT", "-v", "-x", "-n"];
        let said = tool::output(
            "nsenter",
            "util-linux",
            &self.in_node(id, "iptables", &list),
        )?;
        let drops = said.lines().filter(|line| line.contains(" DROP "));
        drops
            .map(|line| {
                let packets = line.split_ascii_whitespace().next();
                Ok(packets.context("a counter")?.parse::<u64>()?)
            })
            .sum()
    }

    fn iptables(&self, id: u64, args: &[&str]) -> Result<()> {
        tool::require("iptables", "iptables")?;
        run("nsenter", "util-linux", &self.in_node(id, "iptables", args))
    }

    fn in_node<'a>(&self, id: u64, program: &'a str, args: &[&'a str]) -> Vec<String> {
        let mut command = self.launcher(id);
        command.remove(0);
        command.push(program.to_owned());
        if program == "iptables" {
            command.push("-w".to_owned());
        }
        command.extend(args.iter().map(|&arg| arg.to_owned()));
        command
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // Now, and not when the kernel comes to it: a deleted namespace's interfaces, and their peers outside, live on for a while. What
        // was never made cannot be deleted.
        let _ = ip(&["link", "delete", &self.outside]);
        let own = format!("{}-", self.name);
        for found in namespaces().unwrap_or_default() {
            if found.starts_with(&own) {
                let _ = ip(&["netns", "delete", &found]);
            }
        }
    }
}

/// A run that was killed could not clean up.
fn remove_left_over() -> Result<()> {
    for found in namespaces()? {
        let pid = found
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if let Some(pid) = pid
            && !std::path::Path::new("/proc").join(pid).exists()
        {
            ip(&["netns", "delete", &found])?;
        }
    }
    Ok(())
}

fn namespaces() -> Result<Vec<String>> {
    let said = tool::output("ip", "iproute2", &["netns", "list"])?;
    let first = |line: &str| line.split_ascii_whitespace().next().map(str::to_owned);
    Ok(said.lines().filter_map(first).collect())
}

/// What a panic must not leave behind.
///
/// # Errors
/// Something was left.
pub fn expect_nothing_left() -> Result<()> {
    let own = format!("{PREFIX}{}-", std::process::id());
    let left: Vec<String> = namespaces()?
        .into_iter()
        .filter(|name| name.starts_with(&own))
        .collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}
