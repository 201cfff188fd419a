//! No crash, loss of power, cut network or change of members makes a node stop taking part: only a disk that was put back to an old copy, a
//! copy of a data directory, or a log that lied may do that.

use halite_proto::v1;

use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct TakesPart;

impl Invariant for TakesPart {
    fn name(&self) -> &'static str {
        "takes part"
    }

    fn look(&mut self, nodes: &[Seen]) -> Result<(), String> {
        let may_stop = |seen: &&Seen| seen.log_damaged || seen.disks_are_others;
        let stopped = nodes
            .iter()
            .find(|seen| seen.status.role() == v1::Role::Stopped && !may_stop(seen));
        match stopped {
            Some(seen) => Err(format!("n{} stopped: {}", seen.node, seen.status.trouble)),
            None => Ok(()),
        }
    }
}
