//! Where and how one node of a local cluster runs, if not as the others do.

/// Everything that is empty is chosen by the cluster.
#[derive(Debug, Clone, Default)]
pub struct LocalPlace {
    /// `host:port` that the node listens at; else a free port of 127.0.0.1.
    pub listen: Option<String>,
    /// `host:port` that clients and the other nodes are told; else where it listens.
    pub advertise: Option<String>,
    /// A program with arguments that starts what follows in its own process (`nsenter`, `env`), so that signals reach the node.
    pub launcher: Vec<String>,
    /// Further environment variables.
    pub env: Vec<(String, String)>,
}
